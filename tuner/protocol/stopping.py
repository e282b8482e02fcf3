"""When a search trial will be stopped early: ASHA inside one study, and the cap at the incumbent.

Both are decided when the trial is proposed, from the finished trials that the proposal may know of, and travel with it
as rungs and horizon. A trial then needs no word from elsewhere while it runs, and the same ledger always gives the same
decisions, whatever the machine's timing: that is what makes an experiment repeatable and a resumed one equal to an
uninterrupted one. Trials of different batch sizes are never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.options import Stopping
from search_spaces.target import Direction, Target
from tuner.protocol.proposal import Rung, TrialRecord
from tuner.training.evaluation import at_or_after


@dataclass(frozen=True)
class StoppingPlan:
    """A trial's horizon in optimizer updates, whether it is the incumbent's, its rungs, whether the target ends it."""

    max_steps: int
    capped: bool
    rungs: tuple[Rung, ...]
    stop_at_target: bool = True


def plan_stopping(
    known: Sequence[TrialRecord], budget_steps: int, stopping: Stopping, target: Target, resolution: float
) -> StoppingPlan:
    """Decide where a new trial will be stopped.

    Cap: (1 + slack) x the incumbent's steps-to-target. Rungs: grace x the incumbent's steps (x the budget while there
    is none), then a factor eta apart, below the cap; at a rung the trial must be among the best 1/eta of those that
    came as far (successive halving: Li et al. 2020, "A system for massively parallel hyperparameter tuning").

    Args:
        known: finished search trials of the same study.
        budget_steps: the study's step budget.
        stopping: the experiment's rule.
        target: metric and direction.
        resolution: of the evaluation grid; rungs and cap are points of it.

    Returns:
        Horizon and rungs.
    """
    if stopping.rule in ("none", "full"):
        return StoppingPlan(budget_steps, capped=False, rungs=(), stop_at_target=stopping.rule == "none")
    crossings = [record.steps_to_target for record in known if record.steps_to_target is not None]
    incumbent = min(crossings, default=None)
    max_steps = budget_steps
    if incumbent is not None:
        max_steps = min(budget_steps, at_or_after((1 + stopping.slack) * incumbent, resolution))
    rungs = []
    if stopping.rule == "asha":
        step = at_or_after(stopping.grace * (incumbent or budget_steps), resolution)
        while step < max_steps:
            cutoff = _cutoff(known, step, stopping.eta, target.direction)
            if cutoff is not None:
                rungs.append(Rung(step, cutoff))
            step = at_or_after(stopping.eta * step, resolution)
    return StoppingPlan(max_steps, capped=max_steps < budget_steps, rungs=tuple(rungs))


def _cutoff(known: Sequence[TrialRecord], step: int, eta: float, direction: Direction) -> float | None:
    """The metric that the best 1/eta of the trials had at a rung; None while fewer than eta trials came so far."""
    values = [
        record.best_until(step, direction)
        for record in known
        if record.outcome.feasible and record.curve and (record.steps >= step or record.steps_to_target is not None)
    ]
    if len(values) < eta:
        return None
    share = 1 / eta if direction is Direction.MINIMIZE else 1 - 1 / eta
    return float(np.quantile(values, share))
