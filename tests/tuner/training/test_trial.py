"""One trial: every way it can end, and that errors of the training code are outcomes."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.training.reported import Ended, Report, Reported, Returned
from bcrit.tuner.training.settings import at_or_after
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial, as_row

TARGET = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)
LIMITS = Limits(max_steps=200, capped=False, rungs=(), resolution=0.02)


class Falling:
    """Loss falls by `slope` a step from 10; may raise or turn to a value at a step."""

    def __init__(self, slope: float, special: Mapping[int, Any] | None = None) -> None:
        self.slope, self.special, self.step = slope, dict(special or {}), 0

    def train(self, steps: int) -> None:
        self.step += steps

    def evaluate(self) -> Mapping[str, float]:
        value = self.special.get(self.step, 10 - self.slope * self.step)
        if isinstance(value, BaseException):
            raise value
        return {"loss": value}


def run(
    slope: float, special: Mapping[int, Any] | None = None, limits: Limits = LIMITS
) -> tuple[Ending, list[Measurement]]:
    trial = Trial(lambda: Falling(slope, special), TARGET, limits)
    made: list[Measurement] = []
    while trial.ending is None:
        made += trial.advance(0)
    return trial.ending, made


def test_a_trial_ends_at_the_first_evaluation_below_the_target() -> None:
    ending, made = run(0.1)
    assert ending.outcome is Outcome.REACHED
    assert ending.crossing is not None and ending.crossing.steps == ending.steps == made[-1].step
    assert ending.crossing == TARGET.first_crossing([(m.step, m.metrics["loss"]) for m in made])
    assert ending.crossing.steps_low <= 90 < ending.crossing.steps <= 90 * 1.02 + 1
    assert ending.gradients_per_example is None and ending.micro_batch is None, "this run does not tell"


@pytest.mark.parametrize(("capped", "outcome"), [(False, Outcome.EXHAUSTED), (True, Outcome.CAPPED)])
def test_the_horizon_ends_a_trial_exactly_there(capped: bool, outcome: Outcome) -> None:
    ending, made = run(0.01, limits=Limits(123, capped, (), 0.02))
    assert (ending.outcome, ending.steps, made[-1].step) == (outcome, 123, 123)


@pytest.mark.parametrize("lowered", [60, 40, 10], ids=["ahead", "here", "passed"])
def test_a_horizon_that_is_lowered_ends_a_trial_there_or_at_once(lowered: int) -> None:
    trial = Trial(lambda: Falling(0.01), TARGET, LIMITS)
    made = trial.advance(0)
    while made[-1].step < 40:
        made += trial.advance(0)
    trial.lower(lowered)
    while trial.ending is None:
        made += trial.advance(0)
    assert (trial.ending.outcome, trial.ending.steps) == (Outcome.CAPPED, max(lowered, 40))
    assert made[-1].step == max(lowered, 40)


def test_a_rung_prunes_what_is_worse_than_its_cutoff_and_lets_ties_go_on() -> None:
    rung = at_or_after(40, 0.02)
    value = 10 - 0.05 * rung
    worse, _ = run(0.05, limits=Limits(200, False, ((rung, value - 1e-9),), 0.02))
    tie, _ = run(0.05, limits=Limits(200, False, ((rung, value),), 0.02))
    assert (worse.outcome, worse.steps) == (Outcome.PRUNED, rung)
    assert tie.outcome is Outcome.REACHED
    assert worse.message is not None and f"at step {rung}" in worse.message


def test_a_rung_looks_at_the_best_value_so_far() -> None:
    rung = at_or_after(40, 0.02)
    ending, _ = run(0.05, {30: 2.0}, Limits(200, False, ((rung, 3.0),), 0.02))
    assert ending.outcome is Outcome.REACHED


@pytest.mark.parametrize("value", [math.nan, math.inf, 100.1], ids=str)
def test_nan_infinity_and_a_loss_far_above_the_start_are_divergence(value: float) -> None:
    ending, made = run(0.01, {7: value})
    assert (ending.outcome, ending.steps) == (Outcome.DIVERGED, 7)
    assert len(made) == 8


def test_nan_in_any_metric_is_divergence_and_infinity_in_the_target_alone() -> None:
    class Two(Falling):
        def __init__(self, other: float) -> None:
            super().__init__(0.1)
            self.other = other

        def evaluate(self) -> Mapping[str, float]:
            return {**super().evaluate(), "perplexity": self.other if self.step < 5 else 1.0}

    def ending(other: float) -> Ending | None:
        trial = Trial(lambda: Two(other), TARGET, LIMITS)
        trial.advance(60)
        return trial.ending

    healthy, broken = ending(math.inf), ending(math.nan)
    assert healthy is not None and healthy.outcome is Outcome.REACHED
    assert broken is not None and broken.message == "perplexity became nan by step 0"


def test_a_target_met_before_training_does_not_count() -> None:
    ending, made = run(0.1, {0: 0.99})
    assert ending.crossing is not None and ending.crossing.steps > 80
    assert made[0].metrics == {"loss": 0.99}


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RuntimeError("boom"), Outcome.FAILED),
        (MemoryError(), Outcome.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Outcome.OUT_OF_MEMORY),
        (GeneratorExit(), Outcome.FAILED),
    ],
    ids=repr,
)
def test_errors_of_the_training_code_are_outcomes(error: BaseException, outcome: Outcome, step: int) -> None:
    ending, made = run(0.01, {step: error})
    assert ending.outcome is outcome and ending.message is not None and type(error).__name__ in ending.message
    assert len(made) == step


def test_a_missing_metric_names_what_there_is() -> None:
    trial = Trial(lambda: Falling(0.1), Target(metric="acc", threshold=1, direction=Direction.MAXIMIZE), LIMITS)
    trial.advance(0)
    assert trial.ending is not None and "no metric 'acc', only ['loss']" in (trial.ending.message or "")


def test_a_keyboard_interrupt_is_not_an_outcome() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(0.01, {5: KeyboardInterrupt()})


def test_how_a_trial_is_chunked_does_not_show() -> None:
    whole = Trial(lambda: Falling(0.1), TARGET, LIMITS)
    at_once = whole.advance(60)
    _, in_pieces = run(0.1)
    assert [(m.step, m.metrics) for m in at_once] == [(m.step, m.metrics) for m in in_pieces]


class Telling(Falling):
    """Tells how a batch was computed, or has something else by the names."""

    def __init__(self, gradients_per_example: Any, micro_batch: Any) -> None:
        super().__init__(0.1)
        self.gradients_per_example, self.micro_batch = gradients_per_example, micro_batch


@pytest.mark.parametrize(
    ("told", "recorded"), [((2, 16), (2, 16)), ((1, None), (1, None)), (("auto", [8]), (None, None))], ids=str
)
def test_the_ending_tells_how_a_batch_was_computed(told: tuple[Any, Any], recorded: tuple[Any, Any]) -> None:
    trial = Trial(lambda: Telling(*told), TARGET, LIMITS)
    trial.advance(60)
    assert trial.ending is not None
    assert (trial.ending.gradients_per_example, trial.ending.micro_batch) == recorded


def test_a_message_is_text_that_a_table_can_hold() -> None:
    ending, _ = run(0.1, {5: ValueError("cannot read caf\udce9.png")})
    assert ending.message == "ValueError: cannot read caf\\udce9.png"


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

    def state(self) -> None:
        return None

    def load(self, state: Mapping[str, Any], last: Report) -> None:
        raise NotImplementedError

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


def test_a_report_is_not_asked_for_before_the_last_one_is_judged_and_counts_its_own_examples() -> None:
    made, reports = trial([(0, 10), (10, 0.5), (20, 0.1)])
    assert [as_row(m, "t", 64)["examples"] for m in made.advance(60)] == [0, 70]
    assert reports.given == [0, 1]


def test_closing_a_trial_stops_its_training_once() -> None:
    made, reports = trial([(0, 10), (1, 9)])
    made.advance(0)
    made.close()
    made.close()
    assert reports.closed == 1
