"""The pilot's point: inside the space, momentum 0.9, a constant schedule, rates over the whole box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.space import SearchSpace
from bcrit.tuner.pilot.point import between, described, hyperparameters, ladder, pilot_point


def space(**dimensions: Any) -> SearchSpace:
    return experiment(**dimensions).space


def experiment(**dimensions: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "workload": "toy",
            "batch_sizes": [10],
            "target": "loss < 1",
            "space": {"lr": "log from 0.01 to 10", "momentum": 0.5, **dimensions},
            "budget": {"steps": 100, "examples": 1000},
        }
    )


@pytest.mark.parametrize(
    ("momentum", "value"),
    [
        ("reverse_log from 0 to 0.99", 0.9),
        ("linear from 0 to 0.8", 0.8),
        ("reverse_log from 0.95 to 0.999", 0.95),
        (0.3, 0.3),
    ],
    ids=str,
)
def test_momentum_is_0_9_as_far_as_its_box_goes(momentum: str | float, value: float) -> None:
    point = pilot_point(space(momentum=momentum))
    assert point["momentum"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("schedule", "option"),
    [("choice of linear, cosine, constant", "constant"), ("choice of linear, cosine", "cosine"), ("linear", "linear")],
    ids=str,
)
def test_the_schedule_is_constant_where_it_can_be(schedule: str, option: str) -> None:
    whole = space(schedule=schedule)
    point = pilot_point(whole)
    assert point["schedule"] == option and whole.contains(point)


def test_everything_else_stands_in_the_middle_of_its_scale() -> None:
    whole = space(weight_decay="log from 0.0001 to 0.01", ema_decay="linear from 0 to 0.9")
    point = pilot_point(whole)
    assert [point["weight_decay"], point["ema_decay"]] == pytest.approx([0.001, 0.45])
    assert described(whole, point) == {key: point[key] for key in ("weight_decay", "ema_decay")}  # not lr, not fixed


def test_the_ladder_has_three_rates_a_decade_from_end_to_end() -> None:
    rates = ladder(space())
    assert len(rates) == 10 and rates[0] == 0.01 and rates[-1] == 10
    assert np.diff(np.log10(rates)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("lr", "n"), [(0.3, 1), ("log from 0.1 to 0.11", 2), ("linear from 0.001 to 1", 10)], ids=str)
def test_the_ladder_fits_the_box(lr: float | str, n: int) -> None:
    rates = ladder(space(lr=lr))
    assert len(rates) == n and list(rates) == sorted(rates)


def test_half_rungs_stay_inside_the_ladder() -> None:
    rates = ladder(space())
    low, high = between(rates[3], rates)
    assert low * high == pytest.approx(rates[3] ** 2) and high / low == pytest.approx(10 ** (1 / 3))
    assert between(rates[0], rates) == pytest.approx((rates[0] * 10 ** (1 / 6),))
    assert between(0.3, (0.3,)) == ()


def test_lengths_of_a_schedule_are_shares_of_the_budget() -> None:
    spec = experiment(schedule={"linear": {"decay_fraction": 0.25, "end_factor": 0.1}})
    given = hyperparameters(spec, 10, pilot_point(spec.space))
    assert given["decay_steps"] == 50
