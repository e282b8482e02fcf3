"""When a search trial will be stopped early: ASHA inside one study, and the cap at the incumbent.

Both are decided when the trial is proposed, from the finished trials that the proposal may know of, and travel with it
as rungs and horizon. A trial then needs no word from elsewhere while it runs, and the same ledger always gives the same
decisions, whatever the machine's timing: that is what makes an experiment repeatable and a resumed one equal to an
uninterrupted one. Trials of different batch sizes are never compared.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bcrit.search_spaces.options import Stopping
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.protocol.proposal import Proposal, Rung, TrialRecord
from bcrit.tuner.training.settings import at_or_after


def cap(incumbent: int | None, budget_steps: int, stopping: Stopping, resolution: float) -> int:
    """The horizon of a trial: (1 + slack) x the incumbent's steps-to-target, at most the budget."""
    if incumbent is None or stopping.rule in ("none", "full"):
        return budget_steps
    return min(budget_steps, at_or_after((1 + stopping.slack) * incumbent, resolution, coarse=True))


class Stops:
    """What decides where a study's trials are stopped, kept up with the trials that may be known.

    Cap: (1 + slack) x the incumbent's steps-to-target. Rungs: grace x the incumbent's steps (x the budget while there
    is none), then a factor eta apart, below the cap; at a rung the trial must be among the best 1/eta of those that
    came as far (successive halving: Li et al. 2020, "A system for massively parallel hyperparameter tuning"). Rungs and
    cap are points of the coarse part of the evaluation grid, which has this `resolution`.
    """

    def __init__(self, budget_steps: int, stopping: Stopping, target: Target, resolution: float) -> None:
        self._budget_steps, self._stopping, self._target = budget_steps, stopping, target
        self._resolution = resolution
        self._known: list[TrialRecord] = []
        self._incumbent: int | None = None
        self._place()

    def add(self, record: TrialRecord) -> None:
        """One more finished search trial of the study may be known."""
        self._known.append(record)
        steps = record.steps_to_target
        if steps is not None and (self._incumbent is None or steps < self._incumbent):
            self._incumbent = steps
            self._place()
        else:
            self._stand(record)

    def limited(self, proposal: Proposal) -> Proposal:
        """A trial that may know of these, with where it will be stopped."""
        if self._stopping.rule in ("none", "full"):
            return replace(proposal, max_steps=self._budget_steps, stop_at_target=self._stopping.rule == "none")
        cutoffs = ((step, self._cutoff(values)) for step, values in self._standings)
        rungs = tuple(Rung(step, cutoff) for step, cutoff in cutoffs if cutoff is not None)
        capped = self._max_steps < self._budget_steps
        return replace(proposal, max_steps=self._max_steps, capped=capped, rungs=rungs, stop_at_target=True)

    def _place(self) -> None:
        """Put up cap and rungs for a new incumbent, and measure all that are known at them."""
        rule, incumbent = self._stopping, self._incumbent
        self._max_steps = cap(incumbent, self._budget_steps, rule, self._resolution)
        # At each rung the metric of those that came so far, in ascending order.
        self._standings: list[tuple[int, list[float]]] = []
        if rule.rule == "asha":
            step = at_or_after(rule.grace * (incumbent or self._budget_steps), self._resolution, coarse=True)
            while step < self._max_steps:
                self._standings.append((step, []))
                step = at_or_after(rule.eta * step, self._resolution, coarse=True)
        for record in self._known:
            self._stand(record)

    def _stand(self, record: TrialRecord) -> None:
        """Enter a trial at the rungs that it came to."""
        if not record.outcome.feasible or not record.curve:
            return
        for step, values in self._standings:
            if record.steps >= step or record.steps_to_target is not None:
                insort(values, record.best_until(step, self._target.direction))

    def _cutoff(self, ascending: Sequence[float]) -> float | None:
        """The metric that the best 1/eta of the trials had at a rung; None while fewer than eta trials came so far."""
        eta, n = self._stopping.eta, len(ascending)
        if n < eta:
            return None
        share = 1 / eta if self._target.direction is Direction.MINIMIZE else 1 - 1 / eta
        # numpy's quantile lies between two neighbours; to give it these alone saves it sorting what is sorted.
        place = (n - 1) * share
        low = int(place)
        if not np.isfinite(ascending[low : low + 2]).all():  # some had not been evaluated by then
            return None
        return float(np.quantile(ascending[low : low + 2], place - low))
