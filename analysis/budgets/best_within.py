"""The best value of every trial within each of many budgets, in one pass over the measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcrit.analysis.budgets.resources import Budgets, Resource
from bcrit.analysis.records.one_pass import Chunk, Floats, Integers
from bcrit.search_spaces.target import Direction


@dataclass
class BestWithin:
    """Best values so far; it fills while it reads the measurements.

    Every evaluation belongs to the smallest budget that holds it, and runs of evaluations that belong together are
    reduced at once. `value` then takes the best over all smaller budgets too. The evaluation before any step does not
    count: an untrained model has used no budget.

    Attributes:
        budgets: rising, by resource.
        direction: of the metric.
        batch_size: of every trial; (n_trials,).
    """

    budgets: Budgets
    direction: Direction
    batch_size: Floats
    _best: dict[Resource, Floats]

    @classmethod
    def of(cls, budgets: Budgets, direction: Direction, batch_size: Floats) -> BestWithin:
        """Nothing is known yet. Beyond each resource's last budget there is a column for what no budget holds."""
        n = len(batch_size)
        best = {resource: np.full((n, len(of) + 1), np.inf) for resource, of in budgets.items()}
        return cls(budgets, direction, batch_size, best)

    def take(self, chunk: Chunk) -> None:
        """Read on."""
        sign = 1.0 if self.direction is Direction.MINIMIZE else -1.0
        value = np.where((chunk.step > 0) & np.isfinite(chunk.value), sign * chunk.value, np.inf)
        for resource, budgets in self.budgets.items():
            # NaN (time that was not recorded) sorts above everything: no budget holds it.
            place = np.searchsorted(np.array(budgets), self._used(resource, chunk), side="left")
            cell = chunk.trial * (len(budgets) + 1) + place
            starts = np.concatenate([[0], np.flatnonzero(cell[1:] != cell[:-1]) + 1])
            np.minimum.at(self._best[resource].reshape(-1), cell[starts], np.minimum.reduceat(value, starts))

    def _used(self, resource: Resource, chunk: Chunk) -> Floats:
        if resource is Resource.HOURS:
            assert chunk.train_seconds is not None
            return chunk.train_seconds / 3600
        used = chunk.step.astype(float)
        return used * self.batch_size[chunk.trial] if resource is Resource.EXAMPLES else used

    def forget(self, trials: Integers) -> None:
        """Go back to the beginning of these trials."""
        for best in self._best.values():
            best[trials] = np.inf

    def value(self, resource: Resource) -> Floats:
        """Best value of each trial within each budget, NaN where it has none; (n_trials, n_budgets)."""
        sign = 1.0 if self.direction is Direction.MINIMIZE else -1.0
        best = np.minimum.accumulate(self._best[resource][:, :-1], axis=1)
        return np.where(np.isinf(best), np.nan, sign * best)


__all__ = ["BestWithin"]
