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


MODULE = """
import torch
from bcrit.tuner.workloads.digits import DigitsMLP
from bcrit.search_spaces.target import Direction

class Named(DigitsMLP):
    metrics = {"val_loss": Direction.MINIMIZE, "temperature": Direction.MINIMIZE}

class Mixing(DigitsMLP):
    divisible = False

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, g):
        return g

class Opaque(DigitsMLP):
    def loss(self, outputs, targets):
        return super().loss(Once.apply(outputs), targets)

class OwnLoop(DigitsMLP):
    def begin(self, settings):
        raise NotImplementedError

class Own:  # a class of one's own, with nothing of SupervisedWorkload but what it declares
    unit, hyperparameters, divisible = "examples", (), True
    gives_model = our_loop = averages = True

    def __init__(self):
        self._digits = DigitsMLP()

    def __getattr__(self, name):
        if name in ("model", "rows", "sample", "loss", "training_loss"):
            return getattr(self._digits, name)
        raise AttributeError(name)

    metrics = property(lambda self: self._digits.metrics)
    n_examples = property(lambda self: self._digits.n_examples)

    def begin(self, settings):
        return self._digits.begin(settings)

class Silent(Own):
    our_loop = averages = False

def train(config, report):
    report(step=1, val_loss=1.0)
"""


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


def pictures(**options: Any) -> dict[str, Any]:
    return {"name": "image_classifier", "data": "images", **options}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    write_idx(tmp_path / "images", n=120)
    write_text(tmp_path / "text.txt")
    (tmp_path / "here.py").write_text(MODULE)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (pictures(model="vgg_11"), "vgg_11 needs images of at least 32 x 32 pixels"),
        (pictures(model={"name": "simple_cnn", "filters": [4] * 6}), "6 convolutions needs images of at least 64 x 64"),
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
    (said,) = notes(experiment(pictures(model="resnet_8")))
    assert "the statistics of the whole batch" in said and "set the workload's 'ghost_batch_size', 4 for" in said
    (said,) = notes(experiment(f"{__name__}:Small", layer="batch"))
    assert said.startswith("layer '1' (BatchNorm1d)") and said.endswith(
        "models.layers.GhostBatchNorm keeps it the same"
    )


def test_nothing_is_said_where_the_batch_size_does_not_change_the_model() -> None:
    assert notes(experiment(pictures(model="resnet_8", ghost_batch_size=4))) == []
    assert notes(experiment(pictures(model="fc_8"))) == []
    assert notes({**experiment(pictures(model="resnet_8")), "batch_sizes": [8]}) == []


DIGITS: dict[str, Any] = {
    "workload": "digits_mlp",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.15",
    "space": {"lr": "log from 0.01 to 1", "momentum": 0.9},
    "budget": {"steps": 100},
}
QUADRATIC = {**DIGITS, "workload": "noisy_quadratic", "target": "risk < 0.1"}


def images(**options: Any) -> dict[str, Any]:
    workload = {"name": "image_classifier", "data": "images", "model": "resnet_8", **options}
    return {**DIGITS, "workload": workload, "batch_sizes": [8, 32]}


TEXT = {
    **DIGITS,
    "workload": {"name": "language_model", "data": "text.txt", "model": "gpt", "sequence_length": 8, "unit": "tokens"},
    "batch_sizes": [32, 64],
}


@pytest.mark.parametrize(
    "good",
    [
        {**DIGITS, "execution": {"micro_batch": 10, "precision": "bfloat16", "compile": True}},
        {**DIGITS, "resources": {"gpus": 0.25}},
        {**images(ghost_batch_size=8), "execution": {"micro_batch": 16}},
        {**images(), "execution": {"micro_batch": 32}},
        {**TEXT, "execution": {"micro_batch": 3}},  # sequences
        {**QUADRATIC, "execution": {"precision": "float32"}, "resources": {"gpus": 2}},
    ],
    ids=["all of it", "a share of a GPU", "ghost batches", "never divided", "rows of tokens", "the defaults"],
)
def test_what_fits_is_taken(good: dict[str, Any]) -> None:
    assert check_experiment(good, "x").execution.micro_batch == good.get("execution", {}).get("micro_batch")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**QUADRATIC, "execution": {"micro_batch": 4}}, r"'execution.micro_batch': .* computes its updates itself"),
        (
            {**QUADRATIC, "execution": {"compile": True}},
            r"'execution.compile': workload 'noisy_quadratic' .* remove it",
        ),
        ({**DIGITS, "resources": {"gpus": 2}}, "trains on one GPU or a share of one, but gpus is 2; write 1"),
        ({**images(), "execution": {"micro_batch": 16}}, "32 rows cannot be computed 16 at a time: its batch normalis"),
        ({**images(ghost_batch_size=8), "execution": {"micro_batch": 12}}, "ghost batches of 8 must stay whole"),
        ({**DIGITS, "execution": {"micro_batch": 0}}, "micro_batch"),
        ({**DIGITS, "execution": {"precision": "float16"}}, "float32.*bfloat16"),
        ({**DIGITS, "execution": {"microbatch": 8}}, "microbatch"),
    ],
    ids=["nobody reads it", "nobody compiles", "two GPUs", "batch norm", "ghost", "0", "float16", "misspelt"],
)
def test_what_does_not_fit_is_refused_with_its_remedy(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment(bad, "x")
    assert re.search(message, str(caught.value), re.DOTALL), caught.value


def test_a_class_with_a_loop_of_its_own_would_not_read_it() -> None:
    with pytest.raises(InputError, match="workload 'here:OwnLoop' computes its updates itself"):
        check_experiment({**DIGITS, "workload": "here:OwnLoop", "execution": {"micro_batch": 8}}, "x")


def test_a_class_of_the_user_s_own_can_offer_what_a_supervised_workload_does() -> None:
    asked = {"execution": {"micro_batch": 8}, "probes": ["noise_scale"], "target": "val_loss_ema < 0.15"}
    data = {**DIGITS, **asked, "space": {**DIGITS["space"], "ema_decay": 0.9}}
    assert check_experiment({**data, "workload": "here:Own"}, "x").probes.measure == ("noise_scale",)
    with pytest.raises(InputError) as caught:
        check_experiment({**data, "workload": "here:Silent"}, "x")
    for problem in ("no metric 'val_loss_ema'", "'space.ema_decay': neither", "'execution.micro_batch': workload"):
        assert problem in str(caught.value)


PROBED: dict[str, Any] = {**DIGITS, "probes": ["noise_scale", "weight_distance"]}


def probed_images(**options: Any) -> dict[str, Any]:
    return {**images(**options), "probes": PROBED["probes"]}


@pytest.mark.parametrize(
    "good",
    [
        PROBED,
        probed_images(model="simple_cnn"),
        {**probed_images(model="resnet_8"), "probes": ["weight_distance"]},
        {**PROBED, "workload": "noisy_quadratic", "target": "risk < 0.1", "probes": []},
    ],
    ids=["digits", "images", "distances with batch norm", "no probes"],
)
def test_what_can_be_measured_is_taken(good: dict[str, Any]) -> None:
    assert list(check_experiment(good, "test").probes.measure) == good["probes"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (
            {**PROBED, "workload": "noisy_quadratic", "target": "risk < 0.1"},
            "'probes': workload 'noisy_quadratic' computes its updates itself, where nothing can be probed; remove it",
        ),
        (
            {**PROBED, "workload": "here:train"},
            "'probes': workload 'here:train' computes its updates itself",
        ),
        (probed_images(model="resnet_8"), "(BatchNorm) normalises with the statistics of the batch"),
        (probed_images(model="resnet_8", ghost_batch_size=8), "normalises with the statistics of the batch"),
        (
            {**PROBED, "workload": "here:Mixing"},
            "noise_scale cannot be measured on workload 'here:Mixing': it says that its loss or model mixes",
        ),
        ({**PROBED, "workload": "here:Opaque"}, "workload 'here:Opaque': RuntimeError: "),
        ({**PROBED, "workload": "here:Named"}, "the metric 'temperature' of 'here:Named' is a probe's"),
        ({**PROBED, "confirm": {"seeds": 0}}, "only confirming runs are probed, but 'confirm.seeds' is 0"),
        ({**PROBED, "probes": ["sharpness"]}, "probes.measure"),
    ],
    ids=["no loop", "function", "batch norm", "ghost", "mixing", "opaque", "name", "unconfirmed", "unknown"],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(bad: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        check_experiment(bad, "test")
