"""Models that cannot be built or cannot take the data are refused before any trial fails on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.supervised import SupervisedWorkload
from tests.tuner.workloads.files import write_idx, write_text

BUILT: list[Any] = []


class Small(SupervisedWorkload):
    hyperparameters = ("layer", "width")

    def model(self, settings: Settings) -> nn.Module:
        layer, width = settings.hyperparameters.get("layer"), int(settings.number("width", 4))
        BUILT.append((layer, width))
        if layer == "missing":
            raise KeyError(layer)
        norms: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "groups": partial(nn.GroupNorm, 2)}
        return nn.Sequential(nn.Linear(3, width), norms.get(str(layer), nn.Identity)(width), nn.Linear(width, 2))

    def train_data(self) -> Examples:
        return torch.zeros(16, 3), torch.zeros(16, dtype=torch.int64)

    def validation_data(self) -> Examples:
        return self.train_data()


class OtherInputs(Small):
    def train_data(self) -> Examples:
        return torch.zeros(16, 5), torch.zeros(16, dtype=torch.int64)


class FloatClasses(Small):
    def train_data(self) -> Examples:
        return torch.zeros(16, 3), torch.zeros(16)


class LossOfEach(Small):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Pairs(Small):
    """Eight examples belong together."""

    divisible = False

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.view(-1, 8, 2).mean()


def experiment(workload: Any, **space: Any) -> dict[str, Any]:
    return {
        "workload": workload,
        "batch_sizes": [8, 12],
        "target": "val_loss < 1",
        "space": {"lr": 0.1, "momentum": 0.9, **space},
        "budget": {"steps": 5},
    }


def images(**options: Any) -> dict[str, Any]:
    return {"name": "image_classifier", "data": "images", **options}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_idx(tmp_path / "images", n=80)
    write_text(tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (images(model="vgg_11"), "vgg_11 needs images of at least 32 x 32 pixels"),
        (images(model={"name": "simple_cnn", "filters": [4] * 6}), "6 convolutions needs images of at least 64 x 64"),
        ({"name": "autoencoder", "data": "images", "model": {"name": "vae", "filters": [2] * 6}}, "divisible by 64"),
        (
            {"name": "language_model", "data": "text.txt", "sequence_length": 8, "model": {"name": "gpt", "heads": 5}},
            "'width' must be an even multiple of 'heads', but width=64 and heads=5",
        ),
        (f"{__name__}:OtherInputs", "giving its model 2 examples .* failed for '.*OtherInputs' with RuntimeError: .*5"),
        (f"{__name__}:FloatClasses", "giving its model 2 examples .* with RuntimeError: expected .*; mend the class"),
        (f"{__name__}:LossOfEach", r"the loss must be one number, .* but has the shape \[2\]"),
    ],
    ids=lambda case: case if isinstance(case, str) else str(case.get("model")),
)
def test_a_model_that_every_trial_would_fail_on_is_refused(workload: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment(experiment(workload), "x")
    assert re.search(message, str(caught.value)) and len(caught.value.problems) == 1, caught.value


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"layer": "choice of none, missing"}, "building its model failed for '.*Small' with KeyError: 'missing'"),
        ({"layer": "groups", "width": "integer from 4 to 7"}, "'.*Small': num_channels .* divisible by num_groups"),
    ],
    ids=["an option", "the upper end of an integer"],
)
def test_every_option_and_both_ends_that_decide_the_layers_are_tried(space: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_experiment(experiment(f"{__name__}:Small", **space), "x")


def test_a_model_is_built_once_where_nothing_of_its_own_is_searched() -> None:
    BUILT.clear()
    searched = {"lr": "log from 0.1 to 1", "schedule": "choice of constant, linear"}
    check_experiment(experiment(f"{__name__}:Small", **searched), "x")
    assert BUILT == [(None, 4)]


def test_a_model_that_mixes_examples_or_trains_on_a_gpu_is_only_built() -> None:
    check_experiment(experiment(f"{__name__}:Pairs"), "x")
    check_experiment({**experiment(f"{__name__}:OtherInputs"), "resources": {"gpus": 1}}, "x")


def notes(data: dict[str, Any]) -> list[str]:
    said: list[str] = []
    check_experiment(data, "x", said.append)
    return said


def test_statistics_of_the_whole_batch_are_said_once_with_the_remedy() -> None:
    (said,) = notes(experiment(images(model="resnet_8")))
    assert "the statistics of the whole batch" in said and "set the workload's 'ghost_batch_size', 4 for" in said
    (said,) = notes(experiment(f"{__name__}:Small", layer="batch"))
    assert said.startswith("layer '1' (BatchNorm1d)") and said.endswith(
        "models.layers.GhostBatchNorm keeps it the same"
    )


def test_nothing_is_said_where_the_batch_size_does_not_change_the_model() -> None:
    assert notes(experiment(images(model="resnet_8", ghost_batch_size=4))) == []
    assert notes(experiment(images(model="fc_8"))) == []
    assert notes({**experiment(images(model="resnet_8")), "batch_sizes": [8]}) == []
