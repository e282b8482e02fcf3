from __future__ import annotations

import pytest

from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import Point
from bcrit.tuner.protocol.proposal import Proposal


def hyperparameters(point: Point, budget_steps: int = 200) -> Point:
    return Proposal("t", 8, Stage.SEARCH, 0, 0, None, 0, point, budget_steps, budget_steps).hyperparameters


@pytest.mark.parametrize(
    ("point", "added"),
    [
        ({"lr": 0.1}, {}),
        ({"lr": 0.1, "decay_fraction": 0.333}, {"decay_steps": 67}),
        ({"lr": 0.1, "decay_fraction": 0.0001}, {"decay_steps": 1}),
        ({"lr": 0.1, "warmup_fraction": 0.0}, {"warmup_steps": 0}),
        ({"lr": 0.1, "warmup_fraction": 0.1, "decay_fraction": 0.5}, {"warmup_steps": 20, "decay_steps": 100}),
        ({"lr": 0.1, "warmup_steps": 7}, {}),
    ],
    ids=str,
)
def test_shares_of_the_budget_are_recorded_in_steps(point: Point, added: Point) -> None:
    assert hyperparameters(point) == point | added
