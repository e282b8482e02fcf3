"""SIGKILL of any process of a run at any moment, each followed by a resume from somewhere else."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.tables import TRIALS
from bcrit.supervise import CLUSTER_FAILED, NOT_STARTED
from bcrit.tuner.workloads import places
from tests.alike import assert_alike, tables
from tests.processes import Process, below, kill, of_kind
from tests.tuner.stages.small import filled

ROOT = Path(__file__).parents[2]
# A workload of the user's: the scripted hyperbola, which takes its time and notes outside the run what it begins.
OWN = """
import os, time
from dataclasses import dataclass
from killed_neighbour import ExactHyperbola

@dataclass(frozen=True)
class Mine(ExactHyperbola):
    def begin(self, settings):
        if "BCRIT_TEST_BEGUN" in os.environ:
            with open(os.environ["BCRIT_TEST_BEGUN"], "a") as file:
                lr, momentum = settings.number("lr"), settings.number("momentum")
                file.write(f"{settings.batch_size} {settings.seed} {lr!r} {momentum!r}\\n")
            time.sleep(float(os.environ["BCRIT_TEST_PAUSE"]))
        return super().begin(settings)
"""
EXPERIMENT = """
name: killed
workload: {{name: "killed_workload:Mine", s_min: 100, b_crit: 64}}
batch_sizes: {batch_sizes}
target: loss < 1
space:
  lr: log from 0.001 to 10
  momentum: reverse_log from 0 to 0.99
budget: {{steps: 800, examples: 10_000}}
search: {{trials: {trials}, parallel_per_study: 2}}
confirm: {{points: 1, seeds: 2}}
"""
KINDS = ("supervisor", "driver", "worker", "raylet", "gcs", "agent", "all")
# How long a command may take to end after a kill. Afterwards it goes on: Ray starts workers again, and a Ray that dies
# while it starts is started once more.
NOTICED_SECONDS = {"worker": 0.5, "agent": 45.0, "raylet": 45.0, "gcs": 60.0}
# Far more than any command takes to begin or to end: on a busy machine Ray starts slowly.
END_SECONDS = 600.0


@dataclass
class Scene:
    """One experiment that is killed again and again.

    Attributes:
        root: where everything lies.
        chance: decides what is killed, and when.
        pause: seconds that a trial takes at least.
        kills: how many of each kind.
        codes: how the command ended after a kill of each kind.
        seen: every process that any of its commands had when something was killed.
        finished: trials that counted when a command had ended, as the workload sees them.
    """

    root: Path
    chance: random.Random
    pause: float
    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[tuple[str, int]] = field(default_factory=Counter)
    seen: set[Process] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    _n_looked_at: int = 0

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def begun(self) -> list[str]:
        """The trials that a worker has begun, in order, each as often as that happened."""
        path = self.root / "begun.txt"
        return path.read_text().splitlines() if path.exists() else []

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """`bcrit tune`, or `bcrit resume` from a folder of its own where there is something to resume."""
        where = self.root / f"from-{number}"
        where.mkdir()
        if RunFolder.at(self.run).has("experiment.yaml"):
            words = ["resume", str(self.run)]
        else:
            shutil.copytree(self.root / "user", where, dirs_exist_ok=True)
            words = ["tune", "killed.yaml", "--out", str(self.run)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.root / "cache")}
        environment |= {"BCRIT_TEST_BEGUN": str(self.root / "begun.txt"), "BCRIT_TEST_PAUSE": str(self.pause)}
        with open(self.root / f"{number}.log", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bcrit", *words, "--workers", "2"],
                cwd=where, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def disturb(self, command: subprocess.Popen[bytes], kind: str) -> bool:
        """Kill a process of a kind, or all at once, at some moment before the command ends; whether that was done."""
        wanted = self.chance.choice([0, 0, 1, 2])  # trials to begin before; at 0 it may be starting
        seconds, there = self.chance.uniform(0.0, 3.0 if wanted == 0 else 0.5), len(self.begun)
        moment, limit = None, time.monotonic() + END_SECONDS
        while command.poll() is None:
            assert time.monotonic() < limit, f"no {kind} is there, or the run stands still"
            found = of_kind(kind, command.pid) if len(self.begun) >= there + wanted else []
            if found and moment is None:
                moment = time.monotonic() + seconds
            elif found and moment is not None and time.monotonic() >= moment:
                self.seen.update(below(command.pid))
                chosen = found if kind == "all" else [self.chance.choice(found)]
                if any([kill(process, signal.SIGKILL) for process in chosen]):
                    self.kills[kind] += 1
                    return True
            time.sleep(0.05)
        return False

    def ends(self, command: subprocess.Popen[bytes], kind: str) -> bool:
        """Whether a command ends because of a kill."""
        try:
            command.wait(timeout=NOTICED_SECONDS.get(kind, END_SECONDS))
        except subprocess.TimeoutExpired:
            assert kind in NOTICED_SECONDS, f"the {kind} was killed, and the command goes on"
            return False
        return True

    def after(self, command: subprocess.Popen[bytes], kind: str, number: int) -> None:
        """Wait for a command to end, and see that it did as it should."""
        code = command.wait(timeout=END_SECONDS)
        self.codes[kind, code] += 1
        said = (self.root / f"{number}.log").read_text()
        ends = {-signal.SIGKILL} if kind in ("supervisor", "all") else {0, CLUSTER_FAILED, NOT_STARTED}
        assert code in ends, f"{kind} {code}: {said}"
        assert "Traceback" not in said and "Raylet is terminated" not in said, said
        self.look()

    def look(self) -> None:
        """See that no trial was begun that had counted before."""
        begun = self.begun
        again = self.finished & set(begun[self._n_looked_at :])
        assert not again, f"begun again though they had ended: {again}"
        trials = RunFolder.at(self.run).read(TRIALS).to_pylist() if self.run.exists() else []
        before = self.finished
        self.finished = {f"{t['batch_size']} {t['seed']} {t['lr']!r} {t['momentum']!r}" for t in trials}
        assert before <= self.finished and len(self.finished) == len(trials)
        self._n_looked_at = len(begun)


@pytest.mark.parametrize(
    ("kills", "trials", "batch_sizes", "pause"),
    [
        pytest.param(7, 14, [8, 512], 1.0, id="7", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        pytest.param(100, 100, [8, 32, 128, 512], 3.0, id="100", marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_whatever_is_killed_and_whenever_the_run_ends_as_an_undisturbed_one(
    kills: int, trials: int, batch_sizes: list[int], pause: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that had not counted yet when its driver died is begun again, and nothing else is.

    A trial counts once its horizon is settled: until then what it made is held by the driver (`bcrit.tuner.dispatch`).
    """
    scene = Scene(tmp_path, random.Random(1), pause)
    user = tmp_path / "user"
    user.mkdir()
    shutil.copy(ROOT / "tests" / "scripted.py", user / "killed_neighbour.py")
    (user / "killed_workload.py").write_text(OWN)
    text = EXPERIMENT.format(trials=trials, batch_sizes=batch_sizes)
    (user / "killed.yaml").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(places, "_folders", {*places._folders})
    places.reach(user)
    expected = filled(tmp_path / "undisturbed", parse_experiment(read_yaml(text, "killed"), "killed"))
    total = expected.read(TRIALS).num_rows

    begun_at, number, command = time.monotonic(), 0, scene.start(0)
    final = kills // 10 or 1  # of the last trials' delivery and of what follows
    while scene.kills.total() < kills - final:
        kind = KINDS[scene.kills.total() % len(KINDS)] if kills < 10 else scene.chance.choice(KINDS)
        killed = scene.disturb(command, kind)
        if killed and not scene.ends(command, kind):
            continue  # the run goes on, and the next kill meets the same session
        scene.after(command, kind, number)
        assert killed or len(scene.finished) < total, "it was complete before it had been killed often enough"
        number += 1
        command = scene.start(number)
    for _ in range(final):
        while command.poll() is None and (
            not scene.run.exists() or RunFolder.at(scene.run).read(TRIALS).num_rows < total
        ):
            time.sleep(0.2)
        time.sleep(scene.chance.uniform(0.0, 1.5))
        for process in of_kind("driver", command.pid)[:1]:  # none where the command had nothing left to do
            scene.kills["driver at the end"] += kill(process, signal.SIGKILL)
        scene.after(command, "driver at the end", number)
        number += 1
        command = scene.start(number)
    assert command.wait(timeout=600) == 0, (tmp_path / f"{number}.log").read_text()
    scene.look()

    want, found = tables(expected), tables(scene.run)
    assert_alike(want, scene.run)
    assert [list(each.columns) for each in want] == [list(each.columns) for each in found]
    times = Counter(scene.begun)
    assert set(times) == scene.finished and len(times) == total
    # At most so many were under way at a kill: at a worker, or held until their horizon was settled.
    under_way = 2 * len(batch_sizes)
    assert times.total() - total <= under_way * scene.kills.total()
    until = time.monotonic() + 30
    while left := [process for process in scene.seen if process.lives]:
        assert time.monotonic() < until, left
        time.sleep(0.5)
    print(
        f"{dict(scene.kills)}, {number + 1} sessions, exit codes {dict(scene.codes)}, {total} trials, of which "
        f"{times.total() - total} were begun again, in {time.monotonic() - begun_at:.0f} s"
    )
