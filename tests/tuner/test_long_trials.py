"""Trials that outlive their workers, their driver and their cluster, on Ray: the rows of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import CHECKPOINTS, RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.checkpoints import left
from tests.alike import Tables, assert_alike, tables
from tests.processes import Process, kill, of_kind
from tests.tuner.stages.small import filled

ROOT = Path(__file__).parents[2]
# Of the user's: updates that take their time and are counted outside the run, by a workload and by a function.
OWN = """
import os, time
import torch
from torch import nn
from tests.tuner.stages.small import Blobs

def pause():
    if "BCRIT_TEST_TRAINED" in os.environ:
        with open(os.environ["BCRIT_TEST_TRAINED"], "ab") as file:
            file.write(b".")
        time.sleep(float(os.environ["BCRIT_TEST_PAUSE"]))

class Slow(Blobs):
    def model(self, settings):
        return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 2))

    def training_loss(self, settings):
        def loss(outputs, targets):
            pause()
            return self.loss(outputs, targets)
        return loss

def train(config, report):
    weights, file = torch.randn(100), config.checkpoint / "state.pt"
    step = 0
    if file.exists():
        step, weights = (saved := torch.load(file, weights_only=True))["step"], saved["weights"]
    else:
        report(step=0, val_loss=float(weights.square().mean()))
    while step < config.max_steps:
        due = config.next_evaluation(step)
        while step < due:
            pause()
            weights, step = weights - config.lr * 0.01 * weights, step + 1
        torch.save({"step": step, "weights": weights}, file.with_suffix(".new"))
        os.replace(file.with_suffix(".new"), file)
        report(step=step, val_loss=float(weights.square().mean()))
"""
EXPERIMENT = """
name: long
workload: "{workload}"
optimizer: {optimizer}
batch_sizes: [8]
target: val_loss < 0.0001
space: {{lr: log from 0.01 to 0.03}}
budget: {{steps: {steps}}}
search: {{protocol: sobol, trials: {trials}, stopping: none, parallel_per_study: 2}}
boundary: {{max_rounds: 0}}
confirm: {{points: 1, seeds: 1}}
checkpoint_seconds: 1
"""
PAUSE = 0.025


class Scene:
    """A run of long trials in a folder of its own."""

    def __init__(self, root: Path, workload: str, steps: int, monkeypatch: pytest.MonkeyPatch, trials: int = 3) -> None:
        self.root, self.run, self.trained, self.steps = root, root / "run", root / "trained", steps
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(root / "cache")}
        self.environment |= {"BCRIT_TEST_TRAINED": str(self.trained), "BCRIT_TEST_PAUSE": str(PAUSE)}
        (root / "long_workload.py").write_text(OWN)
        optimizer = "own" if workload.endswith(":train") else "adam"
        text = EXPERIMENT.format(workload=workload, optimizer=optimizer, steps=steps, trials=trials)
        (root / "long.yaml").write_text(text)
        monkeypatch.syspath_prepend(str(root))
        monkeypatch.chdir(root)
        self.expected: Tables = tables(filled(root / "undisturbed", parse_experiment(read_yaml(text, "long"), "long")))

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        words = ["resume", str(self.run)] if (self.run / "experiment.yaml").exists() else []
        words = words or ["tune", "long.yaml", "--out", str(self.run)]
        with open(self.root / "log.txt", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bcrit", *words, "--workers", "2"],
                cwd=self.root, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def updates(self) -> int:
        """All that were made."""
        return self.trained.stat().st_size if self.trained.exists() else 0

    def wait(self, command: subprocess.Popen[bytes], what: Callable[[], bool], seconds: float = 900.0) -> bool:
        """Until something is so, or the command has ended."""
        until = time.monotonic() + seconds
        while command.poll() is None and not what():
            assert time.monotonic() < until, (self.root / "log.txt").read_text()
            time.sleep(0.05)
        return command.poll() is None

    def disturb(self, command: subprocess.Popen[bytes], kind: str, number: int, chance: random.Random) -> bool:
        """End a process of a kind, or all, some moments after training has gone on; whether that came about."""
        wanted = self.updates + chance.randrange(40, min(240, self.steps))
        if not self.wait(command, lambda: self.updates > wanted):
            return False
        found: list[Process] = of_kind(kind, command.pid)
        chosen = found if kind == "all" else [chance.choice(found)] if found else []
        return any([kill(each, number) for each in chosen])

    def ends_well(self, command: subprocess.Popen[bytes]) -> None:
        said = f"{command.wait(timeout=900)} {(self.root / 'log.txt').read_text()}"
        assert said[0] in "01" and "bcrit failed" not in said, said  # one batch size makes no curve, which is a 1
        assert_alike(self.expected, self.run)
        assert left(RunFolder.at(self.run)) == set() and list((self.run / CHECKPOINTS).glob(".*")) == []


EVERY_KIND = ["worker", "driver", "raylet", "gcs", "supervisor", "all"]
LONG = [pytest.mark.long, pytest.mark.timeout(1500)]
CASES = [
    pytest.param("long_workload:Slow", 120, 2, ["worker", "driver"], id="once"),
    pytest.param("long_workload:train", 200, 3, ["driver", "worker"], id="function", marks=LONG),
    pytest.param("long_workload:Slow", 400, 3, EVERY_KIND, id="often", marks=LONG),
    pytest.param(  # trials of 20 s, of which a session makes about 8 s before it ends
        "long_workload:Slow", 800, 48, random.Random(1).choices(EVERY_KIND, k=100),
        id="100", marks=[pytest.mark.long, pytest.mark.timeout(7200)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "steps", "trials", "kinds"), CASES)
def test_what_is_killed_goes_on_and_ends_as_an_undisturbed_run(
    workload: str, steps: int, trials: int, kinds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, chance = Scene(tmp_path, workload, steps, monkeypatch, trials), random.Random(1)
    begun_at, kills = time.monotonic(), Counter[str]()
    command = scene.start()
    for kind in kinds:
        if scene.disturb(command, kind, signal.SIGKILL, chance):
            kills[kind] += 1
        if kind != "worker":
            command.wait(timeout=900)
            command = scene.start()
    scene.ends_well(command)
    rows = RunFolder.at(scene.run).read(TRIALS).to_pandas()
    assert rows["checkpoint_seconds"].max() > 0
    repeated = scene.updates - int(rows["steps"].sum())
    print(
        f"{dict(kills)}: {repeated} of {scene.updates} updates were made twice, {repeated * PAUSE:.1f} s, "
        f"in {time.monotonic() - begun_at:.0f} s"
    )
    assert kills.total() >= len(kinds) - 1
    # Two workers, each of which loses at most what it trained since its last checkpoint: a second, and what one takes.
    assert 0 <= repeated * PAUSE <= 2 * 2.0 * kills.total()


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_worker_that_is_told_to_leave_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, "long_workload:Slow", 150, monkeypatch)
    text = (tmp_path / "long.yaml").read_text().replace("checkpoint_seconds: 1", "checkpoint_seconds: 1000")
    (tmp_path / "long.yaml").write_text(text)
    command = scene.start()
    assert scene.disturb(command, "worker", signal.SIGTERM, random.Random(2))
    scene.ends_well(command)
    # The check of the experiment computes the loss once.
    assert scene.updates - 1 == RunFolder.at(scene.run).read(TRIALS).to_pandas()["steps"].sum()
