"""Several machines: the whole chain on raylets that share no file system, with nodes that are broken, die and join."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.cluster import ClusterError, _start
from tests.machines import Machines, machines, need_machines

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
TIMES = ["train_seconds", "evaluate_seconds", "started_at", "ended_at", "host", "node"]


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
    def run(self) -> Path:
        return self.root / "run"

    def write(self, pause: float = 0.3, options: str = "") -> None:
        self.user.mkdir()
        shutil.copy(ROOT / "tests" / "scripted.py", self.user / "neighbour.py")
        with open(self.user / "neighbour.py", "a") as file:
            file.write(f"\nPAUSE = {pause}\n")
        (self.user / "mine.py").write_text(OWN)
        (self.user / "mine.yaml").write_text(EXPERIMENT.format(options=options))

    def start(self, cluster: Machines | None, *arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
        where = [] if cluster is None else ["--address", cluster.address]
        command = [sys.executable, "-m", "bcrit", *map(str, arguments), *where]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
        environment["XDG_CACHE_HOME"] = str(self.root / "cache")
        return subprocess.Popen(
            command, cwd=cwd or self.user, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def tune(self, cluster: Machines | None, *arguments: object) -> subprocess.Popen[str]:
        return self.start(cluster, "tune", "mine.yaml", "--out", self.run, "--json", *arguments)

    def resume(self, cluster: Machines | None, cwd: Path) -> subprocess.Popen[str]:
        return self.start(cluster, "resume", self.run, "--json", cwd=cwd)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of the same experiment on this machine alone, where nothing happens to it."""
    alone = Place(tmp_path_factory.mktemp("alone"))
    alone.write(pause=0.0)
    ended(alone.tune(None))
    return tables(alone.run)


@pytest.fixture
def cluster(place: Place) -> Iterator[Machines]:
    with machines(hidden=[place.root], a=2, b=2) as running:
        yield running


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"{out}\n{err}"
    return out, err


def until(happened: Callable[[], bool], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.1)


def n_finished(place: Place) -> int:
    run = RunFolder.at(place.run)
    return run.read(TRIALS).num_rows if run.has("trials") else 0


def tables(folder: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    run = RunFolder.at(folder)
    trials = run.read(TRIALS).to_pandas().drop(columns=TIMES).sort_values("trial_id", ignore_index=True)
    curves = run.read(MEASUREMENTS).to_pandas().drop(columns="train_seconds")
    return trials, curves.sort_values(["trial_id", "step"], ignore_index=True)


def assert_same(place: Place, undisturbed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for ours, expected in zip(tables(place.run), undisturbed, strict=True):
        pd.testing.assert_frame_equal(ours, expected)


def nodes_used(place: Place) -> set[str]:
    return set(RunFolder.at(place.run).read(TRIALS)["node"].to_pylist())


def test_machines_that_share_no_file_system_give_what_one_machine_gives(
    place: Place, cluster: Machines, undisturbed: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    place.write()
    ended(place.tune(cluster))
    assert_same(place, undisturbed)
    assert len(nodes_used(place)) == 2
    session = RunFolder.at(place.run).read_environment()[0]
    assert len(session["code_sha256"]) == 64 and (place.run / "code.zip").exists()


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("data", "the workload cannot be loaded there: FileNotFoundError"),
        ("late", "trials fail there that train elsewhere: FileNotFoundError"),
    ],
)
def test_a_node_that_lacks_a_file_is_set_aside_and_no_trial_fails(
    option: str,
    problem: str,
    place: Place,
    undisturbed: tuple[pd.DataFrame, pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("data") / "data.txt"
    file.write_text("x" * 100)
    place.write(options=f', {option}: "{file}"')
    with machines(hidden=[place.root], a=2, b=2) as cluster:
        cluster.add("bad", cpus=2, hidden=[file.parent])
        cluster.wait_for_cpus(6)
        _, err = ended(place.tune(cluster))
    assert f"is not used any more: {problem}" in err
    assert len(nodes_used(place)) == 2
    assert_same(place, undisturbed)


def test_a_node_where_no_worker_starts_is_set_aside_and_the_others_go_on(
    place: Place, undisturbed: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    place.write(pause=2.0)
    torch = importlib.util.find_spec("torch")
    assert torch is not None and torch.submodule_search_locations is not None
    with machines(hidden=[place.root], a=2, b=2) as cluster:
        cluster.add("bad", cpus=2, hidden=[Path(torch.submodule_search_locations[0])])
        cluster.wait_for_cpus(6)
        _, err = ended(place.tune(cluster))
    assert err.count("is not used any more") == 1
    assert "is not used any more: workers cannot be started there: " in err
    assert len(nodes_used(place)) == 2
    assert_same(place, undisturbed)


def test_where_no_node_can_load_the_workload_the_run_ends_and_says_why(place: Place, cluster: Machines) -> None:
    data = place.root / "data.txt"  # seen by the driver alone
    data.write_text("x" * 100)
    place.write(options=f', data: "{data}"')
    _, err = ended(place.tune(cluster), code=3)
    assert "no node can run the experiment" in err and "FileNotFoundError" in err and "bcrit resume" in err
    assert n_finished(place) == 0


def test_nothing_is_lost_when_a_node_dies_another_joins_and_the_driver_is_killed(
    place: Place, cluster: Machines, undisturbed: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    place.write(pause=0.6)
    first = place.tune(cluster)
    until(lambda: n_finished(place) >= 3)
    cluster.kill("a")
    cluster.add("c", cpus=2)
    before = n_finished(place)
    until(lambda: n_finished(place) >= before + 6)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert 0 < n_finished(place) < len(undisturbed[0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(place.user)  # the run has its own copy of the code
    ended(place.resume(cluster, cwd=elsewhere))
    assert_same(place, undisturbed)


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
        _start(None, 2, Resources(), None)
    else:
        with pytest.raises(ClusterError, match=r"^Ray does not start on this machine: The current node timed out dur"):
            _start(None, 2, Resources(), None)
    assert starts == ["local", "local"]
