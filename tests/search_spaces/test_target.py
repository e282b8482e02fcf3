"""The one rule for "reached"."""

from __future__ import annotations

import math

import pytest
from pydantic import TypeAdapter

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Crossing, Direction, Target

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


def test_a_row_without_the_metric_is_no_evaluation_and_a_nan_that_was_reported_is_one() -> None:
    assert LOSS.first_crossing([(180, 2.0), (198, None), (200, 0.9)]) == Crossing(steps=200, steps_low=180)
    assert LOSS.first_crossing([(180, 2.0), (198, math.nan), (200, 0.9)]) == Crossing(steps=200, steps_low=198)


def test_the_best_value_is_finite_and_after_the_start() -> None:
    evaluations = [(0, 0.1), (1, 3.0), (2, None), (3, math.nan), (4, -math.inf), (5, 2.0)]
    assert LOSS.best(evaluations) == 2.0
    assert LOSS.best(evaluations[:1]) is None
    assert Target(metric="accuracy", threshold=0.5, direction=Direction.MAXIMIZE).best(evaluations) == 3.0


def test_a_trial_that_broke_or_diverged_is_infeasible_and_only_the_former_says_nothing() -> None:
    infeasible = {outcome for outcome in Outcome if not outcome.feasible}
    assert infeasible == {Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.FAILED}
    assert {outcome for outcome in Outcome if outcome.broken} == infeasible - {Outcome.DIVERGED}


@pytest.mark.parametrize("threshold", [True, "0.1", None, math.nan, math.inf], ids=str)
def test_a_threshold_is_a_number_and_nothing_that_could_be_read_as_one(threshold: object) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Target.model_validate({"metric": "loss", "threshold": threshold, "direction": "minimize"})


def test_a_whole_threshold_is_a_number_and_a_number_with_two_dots_is_none() -> None:
    assert Target.model_validate({"metric": "loss", "threshold": 1, "direction": "minimize"}) == LOSS
    with pytest.raises(ValueError, match="threshold"):
        Target.model_validate("loss < 1.2.3")
