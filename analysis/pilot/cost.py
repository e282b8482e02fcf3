"""What the study that follows will cost: steps, examples and hours, from a pilot's steps and step times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bcrit.analysis.pilot.grid import Hint
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Budget, Confirm

BUDGET_OVER_STEPS: Final = 4.0
# The budget over the steps that the curve needs at its dearest; the search simulated on the noisy quadratic model had 4
# times the best steps at every batch size, and lost nothing by it.
OVERHEAD_SECONDS: Final = 0.071  # a trial's beside its training (`benchmarks.trial_overhead`)


@dataclass(frozen=True)
class Amount:
    """A number that is not known exactly, and the ends to be reckoned with."""

    value: float
    low: float
    high: float


# How many times the tuned steps-to-target something takes, from trials tables. The value is the mean over 19 studies on
# digits with default settings (examples/digits.yaml, and what its pilot proposed; 1135 trials); the ends are the
# extremes of those, 8 studies on Fashion-MNIST (20 trials, momentum searched) and 8 on digits with momentum 0.9 (16).
SEARCH: Final = Amount(1.34, 0.34, 1.98)  # steps of a search trial, stopped early or not
CONFIRM: Final = Amount(1.45, 0.76, 2.86)  # steps of a confirming run, of slower points too
DRAWS: Final = Amount(1.13, 1.0, 1.25)  # search trials for each that is wanted: the others diverged
CAP_ALONE: Final = 2.3  # steps with `cap` over those with `asha`: on the noisy quadratic model, decay searched


@dataclass(frozen=True)
class Timing:
    """What was timed at one batch size.

    Attributes:
        batch_size: where.
        step_seconds: of an update; None where none was made.
        problem: why not; empty where it was.
    """

    batch_size: int
    step_seconds: float | None
    problem: str


@dataclass(frozen=True)
class StudyCost:
    """One study to come.

    Attributes:
        batch_size: where.
        steps: to the target at its tuned settings, as the hyperbola through the pilot predicts.
        budget_steps: of a search trial in the proposed budget.
        trial_steps: optimizer updates of all trials.
        trial_seconds: time of all trials, evaluation included, one after the other; None where a step was not timed.
    """

    batch_size: int
    steps: Amount
    budget_steps: int
    trial_steps: Amount
    trial_seconds: Amount | None


@dataclass(frozen=True)
class Cost:
    """The whole study.

    Attributes:
        studies: by batch size.
        steps: optimizer updates.
        examples: in the unit of a batch.
        hours: at this many workers; None where a batch size was not timed.
        workers: trials at once.
        n_trials: expected.
    """

    studies: tuple[StudyCost, ...]
    steps: Amount
    examples: Amount
    hours: Amount | None
    workers: int
    n_trials: int


@dataclass(frozen=True)
class Curve:
    """The hyperbola s_min + e_min / B through one measured point, with b_crit anywhere in the hint's interval.

    Attributes:
        steps: to the target at `batch_size`.
        batch_size: the pilot's.
        around: the hint.

    Example:
        >>> Curve(30, 64, Hint(64, 32, 128)).at(128)  # s_min = 15 and e_min = 960, if b_crit is 64
        Amount(value=22.5, low=20.0, high=25.0)
    """

    steps: float
    batch_size: int
    around: Hint

    def at(self, batch_size: float) -> Amount:
        """Steps to the target at a batch size."""
        low, high = sorted(self._steps(batch_size, b_crit) for b_crit in (self.around.low, self.around.high))
        return Amount(self._steps(batch_size, self.around.middle), low, high)

    def _steps(self, batch_size: float, b_crit: float) -> float:
        return self.steps * (1.0 + b_crit / batch_size) / (1.0 + b_crit / self.batch_size)

    def budget(self) -> Budget:
        """What leaves every batch size enough, wherever in the hint's interval b_crit lies.

        s_min is highest at the interval's low end and e_min at its high end; both times `BUDGET_OVER_STEPS`.
        """
        s_min = self.steps / (1.0 + self.around.low / self.batch_size)
        e_min = self.steps / (1.0 + self.around.high / self.batch_size) * self.around.high
        return Budget(steps=_rounded_up(BUDGET_OVER_STEPS * s_min), examples=_rounded_up(BUDGET_OVER_STEPS * e_min))


@dataclass(frozen=True)
class Clock:
    """What time things take.

    Attributes:
        timings: of updates, by batch size.
        evaluate_seconds: of one evaluation.
        evaluations: how many of them a run of so many steps has.
        workers: trials at once.
    """

    timings: Mapping[int, Timing]
    evaluate_seconds: float
    evaluations: Callable[[float], int]
    workers: int


def cost(proposed: Experiment, curve: Curve, clock: Clock) -> Cost:
    """Predict what the proposed experiment takes; widened boxes are not counted.

    Args:
        proposed: the experiment, with its budget.
        curve: of steps.
        clock: of seconds.

    Returns:
        Values with low and high ends, which multiply the hint's interval with the range of what trials took before.
    """
    studies = tuple(_study(proposed, b, curve.at(b), clock) for b in proposed.batch_sizes)
    seconds = [study.trial_seconds for study in studies if study.trial_seconds is not None]
    timed = len(seconds) == len(studies)
    return Cost(
        studies=studies,
        steps=_total([study.trial_steps for study in studies]),
        examples=_total([_times(study.trial_steps, study.batch_size) for study in studies]),
        hours=_times(_total(seconds), 1.0 / clock.workers / 3600.0) if timed else None,
        workers=clock.workers,
        n_trials=round(len(studies) * (proposed.search.trials * DRAWS.value + _reruns(proposed))),
    )


def _study(proposed: Experiment, batch_size: int, needed: Amount, clock: Clock) -> StudyCost:
    search, budget = proposed.search, proposed.budget.max_steps(batch_size)
    step_seconds, reruns = clock.timings[batch_size].step_seconds, _reruns(proposed)
    steps, seconds = [], []
    for s, draws, of_search, of_rerun in zip(*map(_ends, (needed, DRAWS, SEARCH, CONFIRM)), strict=True):
        n_trials = search.trials * draws
        a_trial = _trial_steps(s, of_search, budget, search.stopping.rule)
        a_rerun = _rerun_steps(s, of_rerun, budget, proposed.confirm)
        steps.append(n_trials * a_trial + reruns * a_rerun)
        evaluations = n_trials * clock.evaluations(a_trial) + reruns * clock.evaluations(a_rerun)
        beside = evaluations * clock.evaluate_seconds + (n_trials + reruns) * OVERHEAD_SECONDS
        seconds.append(beside if step_seconds is None else steps[-1] * step_seconds + beside)
    timed = None if step_seconds is None else Amount(*seconds)
    return StudyCost(batch_size, needed, budget, Amount(*steps), timed)


def _reruns(proposed: Experiment) -> int:
    return proposed.confirm.points * proposed.confirm.seeds


def _ends(amount: Amount) -> tuple[float, float, float]:
    return amount.value, amount.low, amount.high


def _trial_steps(steps: float, factor: float, budget: int, rule: str) -> float:
    """Mean steps of a search trial; where nothing but the target stops it, nearly all take the whole budget."""
    if rule in ("none", "full"):
        return float(budget)
    return min(float(budget), steps * factor * (CAP_ALONE if rule == "cap" else 1.0))


def _times(amount: Amount, factor: float) -> Amount:
    return Amount(amount.value * factor, amount.low * factor, amount.high * factor)


def _rerun_steps(steps: float, factor: float, budget: int, confirm: Confirm) -> float:
    """Mean steps of a re-run, which may be told to go on to its horizon."""
    return max(float(budget), confirm.horizon * steps) if confirm.beyond_target else factor * steps


def _total(amounts: list[Amount]) -> Amount:
    return Amount(*(math.fsum(ends) for ends in zip(*map(_ends, amounts), strict=True)))


def _rounded_up(number: float) -> int:
    """To two digits."""
    digits = int(10 ** max(0, math.floor(math.log10(max(number, 1.0))) - 1))
    return max(1, math.ceil(number / digits) * digits)


__all__ = ["Amount", "Clock", "Cost", "Curve", "StudyCost", "Timing", "cost"]
