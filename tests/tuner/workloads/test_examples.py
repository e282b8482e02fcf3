"""The example files in a setting for a test, with tiny data where they expect the real ones."""

from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.load import read_yaml
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Measurement, Trial
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.launch import start
from bcrit.tuner.workloads.registry import load_workload
from tests.tuner.workloads.files import write_idx, write_text

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # relative paths are seen from the working directory
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_idx(Path("data/fashion_mnist"), n=2100, size=28)
    write_text(Path("data/tinyshakespeare.txt"), lines=1200)


def read(name: str) -> Any:
    return read_yaml((ROOT / f"examples/{name}.yaml").read_text(), name)


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


def test_the_example_passes_every_check_and_its_smallest_and_largest_batch_learn() -> None:
    pytest.importorskip("gymnasium", reason="the extra 'rl' is not installed")
    experiment = check_experiment(read("cartpole"), "cartpole.yaml")
    assert experiment.name == "cartpole"
    workload = load_workload(experiment.workload.name, experiment.workload.options)
    for batch_size, lr in ((experiment.batch_sizes[1], 0.003), (experiment.batch_sizes[-1], 0.01)):
        settings = Settings(batch_size, 0, experiment.optimizer, {"lr": lr})
        max_steps = experiment.budget.max_steps(batch_size)
        trial = Trial(lambda s=settings: workload.begin(s), experiment.target, Limits(max_steps, False, (), 0.3))  # type: ignore[misc]
        while trial.ending is None:
            trial.advance(60.0)
        assert str(trial.ending.outcome) == "reached"


def test_the_trainer_s_curve_falls_on_the_grid_and_repeats_itself() -> None:
    pytest.importorskip("transformers", reason="pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="pip install transformers accelerate")
    experiment = check_experiment(read("hf_trainer"), "hf")
    settings, limits = Settings(64, 5, "own", {"lr": 0.01}), Limits(12, False, (), 0.5)
    curves: list[list[Measurement]] = []
    for _ in range(2):
        function = TrainingFunction(experiment.workload.name, {})
        trial = Trial(
            lambda: start(function, str(ROOT), settings, "val_loss", limits, experiment.resources, 60),  # noqa: B023
            experiment.target,
            limits,
        )
        made: list[Measurement] = []
        while trial.ending is None:
            made += trial.advance(60)
        assert trial.ending.message is None
        curves.append(made)
    assert [m.step for m in curves[0]] == [0, 1, 2, 3, 4, 6, 9, 12]
    assert curves[0][-1].metrics["val_loss"] < 0.8 * curves[0][0].metrics["val_loss"]
    assert [m.metrics for m in curves[0]] == [m.metrics for m in curves[1]]
