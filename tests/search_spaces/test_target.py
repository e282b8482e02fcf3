"""The one rule for "reached"."""

from __future__ import annotations

import math

import pytest
from pydantic import TypeAdapter

from search_spaces.outcome import Outcome
from search_spaces.target import Crossing, Direction, Target

LOSS = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)


@pytest.mark.parametrize("text", ["val_loss < 0.15", "accuracy > 0.9", "loss<1e-3", "x > -2"])
def test_a_sentence_is_read_and_written_back(text: str) -> None:
    target = TypeAdapter(Target).validate_python(text)
    assert TypeAdapter(Target).validate_python(str(target)) == target


def test_reached_is_strictly_better() -> None:
    assert LOSS.reached(0.999) and not LOSS.reached(1.0) and not LOSS.reached(math.nan)
    high = Target(metric="accuracy", threshold=0.5, direction=Direction.MAXIMIZE)
    assert high.reached(0.51) and not high.reached(0.5)


def test_the_first_crossing_counts_and_is_bounded_by_the_evaluation_before() -> None:
    evaluations = [(0, 5.0), (10, 1.0), (20, math.nan), (30, 0.9), (40, 2.0), (50, 0.1)]
    assert LOSS.first_crossing(evaluations) == Crossing(steps=30, steps_low=20)
    assert LOSS.first_crossing(evaluations[:3]) is None


@pytest.mark.parametrize("outcome", Outcome, ids=str)
def test_every_outcome_has_a_sentence(outcome: Outcome) -> None:
    assert outcome.sentence.endswith(".")
