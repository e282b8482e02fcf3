"""Learning rates against each other: successive halving in which nobody trains a step twice.

At a rung the worse half stops and the others go on from where they are, twice as far (Jamieson and Talwalkar 2016).
Rungs are shares of the budget, and two always stay, because a rate that is fast at first need not be so at the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from bcrit.analysis.questions.pilot.answer import Tried
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Target
from bcrit.tuner.training.evaluation import at_or_after
from bcrit.tuner.training.settings import Run
from bcrit.tuner.training.trial import Ending, Limits, Trial

_FIRST_RUNG: Final = 1 / 32  # of the horizon; chosen: ten rates then take about one horizon in all
_STAY: Final = 2  # at least; chosen, not studied

Begin = Callable[[float], Callable[[], Run]]
"""Learning rate -> how to begin its run."""


class _Lane:
    """A trial that is moved on evaluation by evaluation."""

    def __init__(self, lr: float, trial: Trial) -> None:
        self.lr, self.trial = lr, trial
        self.step = 0
        self.best: float | None = None

    @property
    def ended(self) -> Ending | None:
        return self.trial.ending

    @property
    def reached(self) -> bool:
        return self.ended is not None and self.ended.crossing is not None

    def until(self, step: int) -> None:
        direction = self.trial.target.direction
        while self.trial.ending is None and self.step < step:
            for measured in self.trial.advance(0.0):
                value, self.step = measured.metrics[self.trial.target.metric], measured.step
                if measured.step > 0 and (self.best is None or direction.better(value, self.best)):
                    self.best = value

    def stop(self) -> Tried:
        ending = self.trial.ending
        self.trial.close()
        if ending is None:
            return Tried(self.lr, Outcome.PRUNED, None, self.step, None, self.best)
        reached = None if ending.crossing is None else ending.crossing.steps
        return Tried(self.lr, ending.outcome, ending.message, ending.steps, reached, ending.best_value)


def race(begin: Begin, rates: Sequence[float], target: Target, horizon: int, resolution: float) -> tuple[Tried, ...]:
    """Find the learning rate that reaches the target first.

    Args:
        begin: starts a run.
        rates: learning rates.
        target: of the experiment.
        horizon: optimizer updates that one may train.
        resolution: of the evaluation grid.

    Returns:
        Each rate in the given order. At least one is trained to the target or to the horizon, unless all diverge.
    """
    limits = Limits(horizon, capped=False, rungs=(), resolution=resolution)
    lanes = [_Lane(lr, Trial(begin(lr), target, limits)) for lr in rates]
    alive, rung = list(lanes), at_or_after(_FIRST_RUNG * horizon, resolution)
    while alive:
        cap = min(rung, horizon)
        for lane in alive:
            lane.until(cap)
            if lane.ended is not None and lane.ended.crossing is not None:
                cap = min(cap, lane.ended.crossing.steps)  # the others need not go further
        if any(lane.reached for lane in alive) or rung >= horizon:
            break
        kept = _better_half([lane for lane in alive if lane.ended is None], target)
        for lane in alive:
            if lane not in kept:
                lane.trial.close()  # its memory
        alive = kept
        rung = at_or_after(2 * rung, resolution)
    return tuple(lane.stop() for lane in lanes)


def winner(tried: Sequence[Tried], target: Target) -> Tried | None:
    """The best: fewest steps to the target, then the better metric; None where all diverged or failed.

    Args:
        tried: from one or several races.
        target: of the experiment.
    """
    sign = 1.0 if target.direction.better(0.0, 1.0) else -1.0
    sound = [one for one in tried if one.outcome.feasible and one.best_value is not None]

    def merit(one: Tried) -> tuple[float, float]:
        steps = math.inf if one.steps_to_target is None else one.steps_to_target
        return steps, sign * (one.best_value if one.best_value is not None else math.inf)

    return min(sound, key=merit, default=None)


def _better_half(lanes: list[_Lane], target: Target) -> list[_Lane]:
    sign = 1.0 if target.direction.better(0.0, 1.0) else -1.0
    order = sorted(lanes, key=lambda lane: math.inf if lane.best is None else sign * lane.best)
    return order[: max(_STAY, math.ceil(len(order) / 2))]


__all__ = ["Begin", "Tried", "race", "winner"]
