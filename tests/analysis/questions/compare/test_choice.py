"""The first line of a comparison: which run to choose, at which batch size, what it saves in hours and money."""

from __future__ import annotations

from typing import Any

import pytest

from bcrit.analysis.questions.compare.sides import Side
from bcrit.analysis.questions.compare.steps import choice
from tests.analysis.questions.compare import made_up
from tests.analysis.report import runs


def side(name: str, slower: float = 1.0, **limits: Any) -> Side:
    """A run whose steps take so many times as long, with its recommendation."""
    usual = runs.usual()
    trials = usual.trials.assign(train_seconds=slower * usual.trials["train_seconds"])
    timed = usual.but(recorded=trials)
    return made_up.labelled(name, timed.but(recommendation=runs.recommended(timed, **limits)))


def test_the_faster_run_is_chosen_with_what_it_saves() -> None:
    (said,) = choice([side("slow", 4.0), side("quick"), side("slowest", 9.0)])
    assert said.startswith("Choose quick at batch size 64: ")
    assert ", where slow at batch size 64 takes " in said and " a training, 75 % (" in said and "money" not in said


def test_money_is_told_where_every_run_has_a_price() -> None:
    (said,) = choice([side("slow", 4.0, price_per_device_hour=2.0), side("quick", price_per_device_hour=2.0)])
    assert said.endswith(" in money.")
    (said,) = choice([side("slow", 4.0), side("quick", price_per_device_hour=2.0)])
    assert "money" not in said


def test_runs_that_take_as_long_are_not_told_apart() -> None:
    (said,) = choice([side("one"), side("other", 1.0001)])
    assert said.startswith("No run is clearly the one to choose for its time: one at batch size 64 takes ")


@pytest.mark.parametrize(
    "sides",
    [[side("alone")], [side("timed"), made_up.labelled("table", made_up.table("table", 20, 64))]],
    ids=["one run", "a table without times"],
)
def test_without_times_of_two_nothing_is_said(sides: list[Side]) -> None:
    assert list(choice(sides)) == []
