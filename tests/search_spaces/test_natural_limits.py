"""Widening: no box ever reaches a value that its optimizer cannot have."""

from __future__ import annotations

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError


def experiment(optimizer: str, **space: str | float) -> Experiment:
    data = {
        "workload": "digits_mlp",
        "optimizer": optimizer,
        "batch_sizes": [16],
        "target": "val_loss < 1",
        "space": {"lr": 0.1, **space},
        "budget": {"steps": 10},
    }
    return parse_experiment(data, "x")


@pytest.mark.parametrize(
    ("optimizer", "name", "box", "low", "high"),
    [
        ("rmsprop", "alpha", "linear from 0.5 to 0.99", 0.0, 1.0),
        ("rmsprop", "alpha", "reverse_log from 0 to 0.999", 0.0, 1.0),
        ("adagrad", "initial_accumulator_value", "linear from 0.01 to 1", 0.0, 100.0),
        ("adadelta", "rho", "linear from 0.8 to 0.999", 0.0, 1.0),
        ("muon", "ns_steps", "integer from 2 to 6", 1.0, 100.0),
        ("rprop", "eta2", "linear from 1.1 to 2", 1.0, 100.0),
        ("adafactor", "beta2_decay", "linear from -0.9 to -0.1", -100.0, 0.0),
    ],
)
def test_widening_never_proposes_an_impossible_value(
    optimizer: str, name: str, box: str, low: float, high: float
) -> None:
    made = experiment(optimizer, **{name: box})
    space = made.space
    for _ in range(6):
        space = space.widen(name, "low", 0.5).widen(name, "high", 0.5)
    assert low <= space.box(name).low < space.box(name).high <= high
    if name != "ns_steps" and (high == 1.0):
        assert space.box(name).high < 1.0
    assert parse_experiment(read_yaml(dump_experiment(made), "frozen"), "frozen") == made


def test_a_value_outside_is_refused_under_its_own_optimizer_only() -> None:
    with pytest.raises(InputError, match=r"'alpha' lies in \[0, 1\), but high=1.2; choose a value inside"):
        experiment("rmsprop", alpha="linear from 0.5 to 1.2")
    assert experiment("own", alpha="linear from 0.5 to 1.2").space.box("alpha").hard_high is None
