"""Several machines: the whole chain on raylets that share no file system, with nodes that are broken, die and join.

One cluster serves all tests of this file, in their order: starting one takes as long as a whole experiment.
"""

import getpass
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner import lease
from bcrit.tuner.cluster import ClusterError, _authenticate, _start, _token_hint
from tests.alike import Tables, assert_alike, tables
from tests.machines import Machines, machines, need_machines
from tests.object_store import ObjectStore
from tests.processes import below, kill, of_kind
from tests.tuner.stages.small import experiment, filled

ROOT = Path(__file__).parents[2]
# A workload of the user's: the scripted hyperbola, which reads a file of data and takes its time.
OWN = """
import os, time
from dataclasses import dataclass
from neighbour import PAUSE, ExactHyperbola

@dataclass(frozen=True)
class Mine(ExactHyperbola):
    data: str = ""
    late: str = ""

    @property
    def n_examples(self):
        return None if not self.data else len(open(self.data).read()) * 10**6

    def begin(self, settings):
        if self.late:
            open(self.late).close()
        time.sleep(PAUSE)
        return super().begin(settings)
"""
EXPERIMENT = """
name: mine
workload: {{name: "mine:Mine", s_min: 100, b_crit: 64{options}}}
batch_sizes: [8, 64, 512]
target: loss < 1
space:
  lr: log from 0.001 to 10
  momentum: reverse_log from 0 to 0.99
budget: {{steps: 800, examples: 10_000}}
search: {{trials: 12, parallel_per_study: 2}}
confirm: {{points: 1, seeds: 2}}
"""


@pytest.fixture(autouse=True, scope="module")
def _namespaces() -> None:
    need_machines()


@dataclass(frozen=True)
class Place:
    """Where the driver works: nodes see nothing of `root`."""

    root: Path

    @property
    def user(self) -> Path:
        return self.root / "user"

    @property
    def run(self) -> RunFolder:
        return RunFolder.at(self.root / "run")

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def write(self, pause: float = 0.3, options: str = "") -> None:
        self.user.mkdir()
        shutil.copy(ROOT / "tests" / "scripted.py", self.user / "neighbour.py")
        with open(self.user / "neighbour.py", "a") as file:
            file.write(f"\nPAUSE = {pause}\n")
        (self.user / "mine.py").write_text(OWN)
        (self.user / "random.py").write_text("raise RuntimeError('Python has one of its own')")
        (self.user / "mine.yaml").write_text(EXPERIMENT.format(options=options))

    def tune(self, cluster: Machines, out: RunFolder | None = None) -> subprocess.Popen[str]:
        return self.command(cluster, self.user, "tune", "mine.yaml", "--out", str(out or self.run))

    def resume(self, cluster: Machines, cwd: Path, out: RunFolder | None = None) -> subprocess.Popen[str]:
        return self.command(cluster, cwd, "resume", str(out or self.run))

    def command(self, cluster: Machines, cwd: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bcrit", *words, "--json", "--address", cluster.address]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
        environment["XDG_CACHE_HOME"] = str(self.cache)
        if words[0] in ("tune", "resume"):  # as in a Ray job, whose own working folder is not the run's code
            job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_of_a_job.zip"}}
            environment["RAY_JOB_CONFIG_JSON_ENV_VAR"] = json.dumps(job)
        return subprocess.Popen(
            command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(root: Path) -> Iterator[Machines]:
    with machines(hidden=[root], a=1, b=1) as running:  # a worker a machine: each has imports to do
        yield running


@pytest.fixture
def place(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(root / request.node.name)
    found.root.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(found.cache))  # this process looks on as if on the driver's machine
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables of the same experiment, its trials one after the other in one process."""
    text = EXPERIMENT.format(options="").replace("mine:Mine", "tests.scripted:ExactHyperbola")
    return tables(filled(tmp_path_factory.mktemp("alone") / "run", parse_experiment(read_yaml(text, "mine"), "mine")))


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"{out}\n{err}"
    return out, err


def until(happened: Callable[[], bool], seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.1)


def n_finished(run: RunFolder) -> int:
    return run.read(TRIALS).num_rows if run.has("experiment.yaml") else 0


def nodes_used(run: RunFolder) -> set[str]:
    return set(run.read(TRIALS)["node"].to_pylist())


def test_what_is_trained_beside_a_study_uses_the_cluster_too(place: Place, cluster: Machines) -> None:
    """Weights come back to a run folder that no worker sees, and from there begin the large batch on any machine."""
    given = {"workload": "digits_mlp", "batch_sizes": [32, 256], "target": "val_loss < 0.5"}
    filled(Path(place.run.path("")), experiment(**given))
    quick = ("--seeds", "1", "--eps", "0.001", "--subspace", "0", "--examples", "99", "--iterations", "1")
    out, _ = ended(place.command(cluster, place.root, "landscape", str(place.run), *quick, "--warm-starts", "2"))
    found = json.loads(out)
    assert [n["same_curve"] for n in found["networks"]] == [True, True, None]
    assert [state["problem"] for state in found["warm_starts"]["states"]] == [None] * 6
    trials = place.run.read(TRIALS).to_pandas()
    beside = trials[trials["stage"].isin([Stage.LANDSCAPE, Stage.WARM_START])]
    driven = set(trials["node"]) - set(beside["node"])  # the study ran in this process
    assert len(beside) == 9 and beside["node"].notna().all() and len(driven) == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["function", pytest.param("our loop", marks=pytest.mark.long)])
def test_a_trial_spans_two_nodes_and_makes_the_curve_of_one(cluster: Machines, place: Place, kind: str) -> None:
    """Ray places the ranks of both alike; that ours make the updates of one process `test_parallel.py` has as well."""
    place.user.mkdir()
    shutil.copy(ROOT / "tests" / "tuner" / "workloads" / "ranked.py", place.user)
    own = {"workload": "ranked:train", "target": "loss < 0.3", "space": {"lr": 0.05}}
    (place.user / "own.py").write_text("from bcrit.tuner.workloads.digits import DigitsMLP as Digits")
    digits = {"workload": "own:Digits", "optimizer": "sgd", "target": "val_loss < 1.5", "space": {"lr": 0.2}}
    one = {"search": {"protocol": "sobol", "trials": 1, "start": 1}, "confirm": {"seeds": 0}, "budget": {"steps": 40}}
    data = {**(own if kind == "function" else digits), **one, "batch_sizes": [32]}
    resources: dict[str, Any] = {"nodes": 2}
    if kind == "our loop":  # and a smaller batch is on one
        data, resources = {**data, "batch_sizes": [8, 32]}, {**resources, "devices_by_batch_size": "auto"}
    (place.user / "two.yaml").write_text(json.dumps({**data, "resources": resources}))
    driver = place.command(cluster, place.user, "tune", "two.yaml", "--out", str(place.run))
    said = driver.communicate(timeout=350)
    assert driver.returncode in (0, 1), said[1]
    here = "tests.tuner.workloads.ranked:train" if kind == "function" else "digits_mlp"
    one_process = parse_experiment({"optimizer": "own", **data, "workload": here}, "one")
    whole = filled(place.root / "whole", one_process)
    (trials, curves), (expected, alone) = tables(place.run), tables(whole)
    assert set(trials["outcome"]) == {"reached"} and list(trials["steps"]) == list(expected["steps"]), trials["message"]
    metric = "loss" if kind == "function" else "val_loss"
    assert list(curves[metric]) == pytest.approx(list(alone[metric]), rel=1e-4)
    if kind == "function":
        assert set(curves["group_world_size"]) == {2} and set(curves["local_rank"]) == {0}


def test_where_no_node_can_load_the_workload_the_run_ends_and_says_why(place: Place, cluster: Machines) -> None:
    data = place.root / "data.txt"  # seen by the driver alone
    data.write_text("x" * 100)
    place.write(options=f', data: "{data}"')
    _, err = ended(place.tune(cluster), code=3)
    assert "no node can run the experiment" in err and "FileNotFoundError" in err and "bcrit resume" in err
    assert n_finished(place.run) == 0


@pytest.mark.long
def test_a_node_where_no_worker_starts_is_set_aside_and_the_others_go_on(
    place: Place, cluster: Machines, undisturbed: Tables
) -> None:
    torch = importlib.util.find_spec("torch")
    assert torch is not None and torch.submodule_search_locations is not None
    cluster.add("bad", cpus=2, hidden=[Path(torch.submodule_search_locations[0])])
    cluster.wait_for_cpus(4)
    place.write(pause=4.0)  # as long as several workers, one after another, take to die there
    _, err = ended(place.tune(cluster))
    assert err.count("is not used any more") == 1
    assert "is not used any more: workers cannot be started there: " in err
    assert len(nodes_used(place.run)) == 2
    assert_alike(undisturbed, place.run)
    cluster.kill("bad")
    cluster.wait_for_cpus(2)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        pytest.param("silent", 8, marks=pytest.mark.long),
        pytest.param("silent", 60, marks=pytest.mark.long),
        pytest.param("refuses", 60, marks=pytest.mark.long),
    ],
)
def test_a_store_that_is_away_for_a_while_is_not_noticed(
    kind: str, seconds: int, place: Place, cluster: Machines, store: ObjectStore, undisturbed: Tables
) -> None:
    place.write(pause=0.6)
    run = store.folder(f"outage-{kind}-{seconds}")
    driver = place.tune(cluster, out=run)
    until(lambda: n_finished(run) >= 3)
    with store.outage(kind):
        time.sleep(seconds)
    ended(driver)
    assert_alike(undisturbed, run)
    assert not run.has_log()


@pytest.mark.long
def test_a_second_driver_is_refused_and_when_the_first_ones_machine_is_lost_another_goes_on(
    place: Place, cluster: Machines, store: ObjectStore, undisturbed: Tables, tmp_path: Path
) -> None:
    place.write(pause=0.6)
    run = store.folder("two-drivers")
    resume = [sys.executable, "-m", "bcrit", "resume", str(run), "--json"]
    other_machine = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(place.cache)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    first = place.tune(cluster, out=run)
    until(lambda: n_finished(run) >= 3)
    workers = [worker for node in cluster.nodes.values() for worker in of_kind("worker", node.pid)]
    for worker in workers:
        kill(worker, signal.SIGSTOP)  # so that the run does not end meanwhile
    second = subprocess.run(
        [*other_machine, *resume, "--address", cluster.address],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    for worker in workers:
        kill(worker, signal.SIGCONT)
    assert second.returncode == 2 and second.stdout == "", second.stderr
    assert f"running this experiment: {getpass.getuser()} on {socket.gethostname()}" in second.stderr
    assert first.poll() is None
    for process in below(first.pid):
        kill(process, signal.SIGKILL)
    first.communicate()
    shutil.rmtree(place.cache)
    place.cache.mkdir()
    shutil.rmtree(place.user)
    begun = time.monotonic()
    ended(place.resume(cluster, cwd=tmp_path, out=run))
    assert time.monotonic() - begun > lease._STALE / 2
    assert_alike(undisturbed, run)
    assert len(run.read_environment()) == 2


def test_machines_that_share_no_file_system_do_as_one_and_nothing_is_lost_when_a_node_or_the_driver_dies(
    place: Place, cluster: Machines, undisturbed: Tables, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A node dies, another joins, the driver is killed; where the run goes on there are nodes that lack a file."""
    data, late = (tmp_path_factory.mktemp(name) / "data.txt" for name in ("data", "late"))
    data.write_text("x" * 100)
    late.write_text("x" * 100)
    place.write(pause=0.6, options=f', data: "{data}", late: "{late}"')
    first = place.tune(cluster)
    until(lambda: n_finished(place.run) >= 3 and len(nodes_used(place.run)) == 2)
    cluster.kill("a")
    cluster.add("c", cpus=1)
    before = n_finished(place.run)
    until(lambda: n_finished(place.run) >= before + 6)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert 0 < n_finished(place.run) < len(undisturbed[0])
    session = place.run.read_environment()[0]
    assert len(session["code_sha256"]) == 64 and place.run.has("code.zip")
    shutil.rmtree(place.user)  # the run has its own copy of the code
    cluster.add("data", cpus=1, hidden=[data.parent])
    cluster.add("late", cpus=1, hidden=[late.parent])
    cluster.wait_for_cpus(4)
    _, err = ended(place.resume(cluster, cwd=tmp_path_factory.mktemp("elsewhere")))
    for why in ("the workload cannot be loaded there", "trials fail there that train elsewhere"):
        assert err.count(f"is not used any more: {why}: FileNotFoundError") == 1, err
    assert len(nodes_used(place.run)) == 3
    assert_alike(undisturbed, place.run)


@pytest.mark.long
def test_what_a_node_was_at_that_cannot_be_reached_runs_elsewhere_and_counts_once(
    place: Place, root: Path, undisturbed: Tables
) -> None:
    """All its processes stand still, their connections open, until after Ray's head has given it up."""
    soon = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000"}
    with machines([root], {**soon, "RAY_health_check_failure_threshold": "3"}, a=2, b=2) as cluster:
        place.write(pause=1.0)
        driver = place.tune(cluster)
        until(lambda: n_finished(place.run) >= 3 and len(nodes_used(place.run)) == 2)
        away = below(cluster.nodes["b"].pid)
        for process in away:
            kill(process, signal.SIGSTOP)
        before = n_finished(place.run)
        cluster.wait_for_cpus(2)
        until(lambda: n_finished(place.run) >= before + 6)
        for process in away:
            kill(process, signal.SIGCONT)
        _, err = ended(driver)
        assert "is not used any more" not in err
        assert_alike(undisturbed, place.run)
        trials = place.run.read(TRIALS).to_pandas().sort_values("ended_at")
        assert trials["outcome"].isin(["failed"]).sum() == 0 and trials["node"].iloc[-10:].nunique() == 1


@pytest.mark.parametrize("failures", [1, 2])
def test_ray_that_does_not_start_is_started_once_more_and_then_the_cluster_failed(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray raises a bare `Exception` where a process of its own does not come up in time, or is killed meanwhile."""
    starts = []

    def init(**given: object) -> None:
        starts.append(given["address"])
        if len(starts) <= failures:
            raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr("ray.init", init)
    if failures == 1:
        _start(None, 2, None)
    else:
        with pytest.raises(ClusterError, match=r"^Ray does not start on this machine: The current node timed out dur"):
            _start(None, 2, None)
    assert starts == ["local", "local"]


def test_a_ray_of_our_own_gets_a_token_and_a_cluster_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)  # it would read again what is set here
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    _authenticate("10.0.0.1:6379")
    assert "RAY_AUTH_MODE" not in os.environ and "give it in RAY_AUTH_TOKEN" in _token_hint()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
    _authenticate("10.0.0.1:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in os.environ
    assert "another than the one here" in _token_hint()
    monkeypatch.delenv("RAY_AUTH_MODE")
    _authenticate(None)
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
