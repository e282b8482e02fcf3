"""Experiments on training functions: what is filled in, what is accepted, and what is refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment

GOOD: dict[str, Any] = {
    "workload": f"{__name__}:train",
    "batch_sizes": [16, 64],
    "target": "loss < 1",
    "space": {"lr": "log from 0.01 to 1"},
    "budget": {"steps": 100},
}


def train(config: Any, report: Any) -> None:
    pass


def declared(config: Any, report: Any) -> None:
    pass


declared.unit, declared.n_examples, declared.metrics = "tokens", 640, {"loss": "minimize"}  # type: ignore[attr-defined]


def one_argument(config: Any) -> None:
    pass


async def asynchronous(config: Any, report: Any) -> None:
    pass


def generator(config: Any, report: Any) -> Iterator[int]:
    yield 1


class Callable:
    async def __call__(self, config: Any, report: Any) -> None:
        pass


an_object = Callable()


def wrongly_declared(config: Any, report: Any) -> None:
    pass


wrongly_declared.metrics = {"loss": "down"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "optimizer"),
    [
        ({}, "own"),
        ({"optimizer": "adamw"}, "adamw"),
        ({"space": {}}, "own"),
        ({"space": {"width": "integer from 8 to 64"}}, "own"),
        ({"space": {"lr": 0.1, "momentum": "reverse_log from 0 to 0.9", "weight_decay": 0.1, "my_own": 3}}, "own"),
        ({"space": {"lr": 0.1, "optimizer": "choice of sgd, adam"}}, "own"),
        ({"space": {"lr": 0.1, "schedule": "choice of constant, cosine", "ema_decay": 0.9}}, "own"),
    ],
    ids=str,
)
def test_any_name_in_the_space_is_the_function_s(changes: dict[str, Any], optimizer: str) -> None:
    found = check_experiment({**GOOD, **changes}, "x")
    assert (found.optimizer, found.unit) == (optimizer, "examples")
    assert check_experiment(found.to_dict(), "again") == found


def test_what_a_function_says_of_itself_is_used() -> None:
    made = {**GOOD, "workload": f"{__name__}:declared", "budget": {"epochs": 2}}
    found = check_experiment(made, "x")
    assert (found.unit, found.budget.examples) == ("tokens", 1280)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": f"{__name__}:one_argument"}, r"called as train\(config, report\), but its signature is \(config"),
        ({"workload": f"{__name__}:wrongly_declared"}, "'metrics' of .* says for each metric 'minimize' or 'maximize'"),
        ({"workload": f"{__name__}:asynchronous"}, "called once and trains until .* it is 'async'; make"),
        ({"workload": f"{__name__}:an_object"}, "but it is 'async'"),
        ({"workload": f"{__name__}:generator"}, "but it is a generator, .* use report.* in the place of 'yield'"),
        ({"space": {"lr": 0.1, "budget_steps": 3}}, "'space': budget_steps is what a trial decides"),
        ({"workload": f"{__name__}:trains"}, "has no class or function 'trains'; did you mean 'train'"),
        ({"workload": f"{__name__}:declared", "target": "loss > 1"}, "improves by minimizing"),
        ({"workload": f"{__name__}:declared", "target": "acc > 1"}, "has no metric 'acc'; its metrics are loss"),
        ({"workload": f"{__name__}:declared", "batch_sizes": [641]}, "at most the training set of 640 tokens"),
        ({"workload": {"name": f"{__name__}:train", "lr": 3}}, "lr stands among the options and in 'space'"),
        ({"workload": {"name": f"{__name__}:train", "seed": 3}}, "options seed are what a trial decides"),
        ({"budget": {"epochs": 3}}, "does not say how large .* set its attribute, 'train.n_examples = ...' in its"),
        ({"target": "step < 3"}, "'step' is a column of our own"),
        ({"optimizer": "momentum"}, "optimizer 'momentum' needs momentum"),
        ({"execution": {"micro_batch": 4}}, "computes its updates itself"),
        ({"resources": {"silence_seconds": 0}}, "silence_seconds"),
        ({"workload": "digits_mlp", "target": "val_loss < 1", "optimizer": "own"}, "own is for a training function of"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**GOOD, **changes}, "x")
    assert re.search(message, str(caught.value)), caught.value


def test_a_function_that_cannot_be_loaded_is_one_problem() -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**GOOD, "workload": "no_such_module:train"}, "x")
    assert len(caught.value.problems) == 1 and "no_such_module" in str(caught.value)
