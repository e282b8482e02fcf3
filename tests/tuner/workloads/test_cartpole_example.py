"""The cart pole's example file, through the real command, in a setting for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bcrit.search_spaces.load import read_yaml
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.registry import load_workload

pytest.importorskip("gymnasium", reason="the extra 'rl' is not installed")

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/cartpole.yaml"


@pytest.fixture
def example() -> Any:
    return read_yaml(EXAMPLE.read_text(), "cartpole.yaml")


def test_the_example_passes_every_check_and_its_smallest_and_largest_batch_learn(example: Any) -> None:
    experiment = check_experiment(example, "cartpole.yaml")
    assert experiment.name == "cartpole"
    workload = load_workload(experiment.workload.name, experiment.workload.options)
    for batch_size, lr in ((experiment.batch_sizes[1], 0.003), (experiment.batch_sizes[-1], 0.01)):
        settings = Settings(batch_size, 0, experiment.optimizer, {"lr": lr})
        max_steps = experiment.budget.max_steps(batch_size)
        trial = Trial(lambda s=settings: workload.begin(s), experiment.target, Limits(max_steps, False, (), 0.3))  # type: ignore[misc]
        while trial.ending is None:
            trial.advance(60.0)
        assert str(trial.ending.outcome) == "reached"


def test_the_example_goes_through_the_whole_chain(example: Any, tmp_path: Path) -> None:
    tiny = {
        **example,
        "batch_sizes": [128, 512],
        "target": "val_return > 40",
        "space": {"lr": "log from 0.005 to 0.05"},
        "search": {"trials": 2, "start": 1},
        "confirm": {"points": 1, "seeds": 2},
        "resolution": 0.3,
    }
    tiny["workload"]["evaluation_episodes"] = 8
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    done = subprocess.run(
        [sys.executable, "-m", "bcrit", "tune", tmp_path / "tiny.yaml", "--out", tmp_path / "run", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["fit"]["unit"] == "frames"
    assert [study["batch_size"] for study in answer["studies"]] == [128, 512]
    for study in answer["studies"]:
        assert (study["source"], study["n_reached"]) == ("confirm", 2)
        assert study["examples"] == study["steps"] * study["batch_size"]
