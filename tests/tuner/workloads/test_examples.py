"""The example files on data, each with tiny data where it expects the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.load import read_yaml
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.registry import load_workload
from tests.tuner.workloads.files import write_idx, write_text

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # relative paths are seen from the working directory
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_idx(Path("data/fashion_mnist"), n=2100, size=28)
    write_text(Path("data/tinyshakespeare.txt"), lines=1200)


def read(name: str) -> Any:
    return read_yaml((EXAMPLES / f"{name}.yaml").read_text(), name)


@pytest.mark.parametrize(
    "name", ["fashion_mnist", "fashion_mnist_sgd", "shakespeare", "shakespeare_lstm", "autoencoder"]
)
def test_an_example_passes_every_check_and_trains(name: str) -> None:
    experiment = check_experiment(read(name), name)
    assert experiment.name == name
    workload = load_workload(experiment.workload.name, experiment.workload.options)
    hyperparameters = {"lr": 0.001, "momentum": 0.5}
    settings = Settings(experiment.batch_sizes[2], 0, experiment.optimizer, hyperparameters)
    trial = Trial(
        begin=lambda: workload.begin(settings),
        target=experiment.target,
        limits=Limits(max_steps=6, capped=False, rungs=(), resolution=0.5),
    )
    curve = trial.advance(60.0)
    assert trial.ending is not None
    assert trial.ending.message is None
    assert curve[-1].step == 6
    assert curve[-1].metrics[experiment.target.metric] < curve[0].metrics[experiment.target.metric]


def test_missing_data_are_one_sentence_that_names_the_place() -> None:
    data = read("fashion_mnist")
    data["workload"]["data"]["source"] = "data/not/there"
    with pytest.raises(
        ValueError, match=r"'workload': there is no file or folder '.*/data/not/there'; put the data there"
    ):
        check_experiment(data, "fashion_mnist.yaml")
