"""Reports as one curve: the rules, on reports that are written down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.training.trial import Ended, Limits, Report, Reported, Returned, Trial, as_row

TARGET = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)


@dataclass
class Written:
    """Reports by (step, loss); None is a moment without one."""

    script: Sequence[tuple[int, float] | None]
    closed: int = 0
    given: list[int] = field(default_factory=list)

    def next(self, seconds: float) -> Report | None:
        place = len(self.given)
        if place == len(self.script):
            raise Returned
        said = self.script[place]
        self.given.append(place)
        return None if said is None else Report(said[0], 7 * said[0], said[0] / 10, 0.5, {"loss": said[1]})

    def close(self) -> None:
        self.closed += 1


def trial(script: Sequence[tuple[int, float] | None], **limits: object) -> tuple[Trial, Written]:
    found = Written(script)
    at = Limits(**{"max_steps": 100, "capped": False, "rungs": (), "resolution": 0.02} | limits)  # type: ignore[arg-type]
    return Trial(lambda: Reported(found, "loss", at.max_steps, at.at_horizon), TARGET, at), found


@pytest.mark.parametrize(
    ("script", "outcome", "steps", "message"),
    [
        ([(0, 10), (10, 5), (20, 0.5), (30, 0.1)], Outcome.REACHED, 20, None),
        ([(0, 0.5), (50, 2), (100, 1)], Outcome.EXHAUSTED, 100, None),
        ([(0, 10), (40, 5), (80, 3)], Outcome.EXHAUSTED, 80, "returned after its report at step 80 of 100"),
        ([(0, 10), (40, 5), (60, 3)], Outcome.FAILED, 60, "at step 60 of 100; it must train and report until"),
        ([], Outcome.FAILED, 0, "returned without a single report"),
        ([(0, 10)], Outcome.FAILED, 0, "after its report at step 0 of 100; it must"),
        ([(0, 10), (0, 9)], Outcome.FAILED, 0, "step 0 was reported after step 0"),
        ([(9, 10), (8, 0.5)], Outcome.FAILED, 9, "step 8 was reported after step 9"),
        ([(60, 10), (101, 0.5)], Outcome.EXHAUSTED, 60, "step 101 came after max_steps = 100"),
        ([(10, 1), (20, 10.1)], Outcome.DIVERGED, 20, "loss was 10.1 at step 20, 1 at the start"),
    ],
    ids=str,
)
def test_a_curve_of_reports_ends_as_it_must(
    script: list[tuple[int, float] | None], outcome: Outcome, steps: int, message: str | None
) -> None:
    made, reports = trial(script)
    made.advance(60)
    assert made.ending is not None and (made.ending.outcome, made.ending.steps) == (outcome, steps)
    assert re.search(message or "^$", made.ending.message or "")
    assert reports.closed == 1


def test_what_never_came_is_waited_for_and_what_comes_later_counts() -> None:
    made, reports = trial([None, (10, 5), None, None, (20, 0.5)])
    assert made.advance(0) == []
    rest = [measurement for _ in range(4) for measurement in made.advance(0)]
    assert [m.step for m in rest] == [10, 20]
    assert made.ending is not None and made.ending.crossing is not None
    assert (made.ending.crossing.steps_low, made.ending.crossing.steps) == (10, 20)
    assert (made.ending.train_seconds, made.ending.evaluate_seconds) == (2, 0.5)


def test_a_report_is_not_asked_for_before_the_last_one_is_judged() -> None:
    made, reports = trial([(0, 10), (10, 0.5), (20, 0.1)])
    made.advance(60)
    assert reports.given == [0, 1]


def test_a_wide_interval_passes_rungs_and_a_cap_that_it_steps_over() -> None:
    made, _ = trial([(0, 10), (50, 5)], rungs=((30, 4.0),))
    made.advance(60)
    assert made.ending is not None and made.ending.outcome is Outcome.PRUNED
    capped, _ = trial([(0, 10), (50, 5), (150, 0.5)], capped=True)
    capped.advance(60)
    assert capped.ending is not None and (capped.ending.outcome, capped.ending.steps) == (Outcome.CAPPED, 50)


def test_a_report_without_the_target_names_what_it_has() -> None:
    found = Written([(0, 1)])
    with pytest.raises(Ended, match="the report at step 0 lacks the target's metric 'acc': it has loss"):
        Reported(found, "acc", 10, Outcome.EXHAUSTED).next(1)


def test_examples_are_the_function_s_own_count() -> None:
    made, _ = trial([(0, 10), (10, 0.5)])
    assert [as_row(m, "t", 64)["examples"] for m in made.advance(60)] == [0, 70]


def test_closing_a_trial_stops_its_training_once() -> None:
    made, reports = trial([(0, 10), (1, 9)])
    made.advance(0)
    made.close()
    made.close()
    assert reports.closed == 1
