"""The first crossing of many targets by every trial, in one pass: `bcrit.search_spaces.target`, vectorised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bcrit.analysis.records.one_pass import Chunk, Floats, Integers, read_measurements
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.target import Direction, Target


@dataclass
class Crossings:
    """Where every trial crossed every target; it fills while it reads the measurements.

    A target is crossed at the first evaluation after step 0 that is strictly better than the threshold; the evaluation
    before it bounds the crossing from below (`Target.first_crossing`, `Target.best`).

    How: with the thresholds in order of strictness, the *level* of an evaluation is how many of them it passes, and a
    trial crosses the thresholds by which its highest level so far rises. The running maximum of level + (K + 1) x
    (place of the trial in the chunk) is that of each trial alone, so that one `maximum.accumulate` serves all trials
    and the work does not grow with the number of targets.

    Attributes:
        targets: of one metric and direction, the loosest first.
        steps: steps to target, NaN where not reached; (n_trials, n_targets).
        steps_low: the evaluation before; (n_trials, n_targets).
        best: best finite value after step 0, NaN where there is none; (n_trials,).
    """

    targets: tuple[Target, ...]
    steps: Floats
    steps_low: Floats
    best: Floats
    _level: Integers = field(repr=False)

    @classmethod
    def of(cls, targets: Sequence[Target], n_trials: int) -> Crossings:
        """Nothing is crossed yet; the targets are put in order."""
        ordered = in_order(targets)
        unknown = np.full((n_trials, len(ordered)), np.nan)
        best = np.full(n_trials, np.nan)
        return cls(ordered, unknown, unknown.copy(), best, np.zeros(n_trials, dtype=np.int64))

    def take(self, chunk: Chunk) -> None:
        """Read on."""
        first = chunk.trial[chunk.starts]
        level = self._levels(chunk)
        level[chunk.starts] = np.maximum(level[chunk.starts], self._level[first])
        lengths = np.diff(np.append(chunk.starts, len(level)))
        offset = np.repeat(np.arange(len(first)) * (len(self.targets) + 1), lengths)
        reached = np.maximum.accumulate(level + offset) - offset
        before = np.empty_like(reached)
        before[1:] = reached[:-1]
        before[chunk.starts] = self._level[first]
        rows = np.flatnonzero(reached > before)
        risen = (reached - before)[rows]
        # A row may cross several targets at once: before, before + 1, ... reached - 1.
        crossing = np.repeat(rows, risen)
        target = np.arange(len(crossing)) - np.repeat(np.cumsum(risen) - risen, risen) + before[crossing]
        self.steps[chunk.trial[crossing], target] = chunk.step[crossing]
        self.steps_low[chunk.trial[crossing], target] = chunk.before[crossing]
        self._level[first] = reached[np.append(chunk.starts[1:], len(level)) - 1]
        self._better(chunk, first)

    def _levels(self, chunk: Chunk) -> Integers:
        """How many targets each evaluation passes."""
        thresholds = np.sort([target.threshold for target in self.targets])
        if self.targets[0].direction is Direction.MINIMIZE:
            level = len(thresholds) - np.searchsorted(thresholds, chunk.value, side="right")
        else:
            level = np.searchsorted(thresholds, chunk.value, side="left")
            level[np.isnan(chunk.value)] = 0  # NaN sorts above everything
        level[chunk.step <= 0] = 0
        return np.asarray(level, dtype=np.int64)

    def _better(self, chunk: Chunk, first: Integers) -> None:
        best = np.fmin if self.targets[0].direction is Direction.MINIMIZE else np.fmax
        values = np.where((chunk.step > 0) & np.isfinite(chunk.value), chunk.value, np.nan)
        self.best[first] = best(self.best[first], best.reduceat(values, chunk.starts))

    def forget(self, trials: Integers) -> None:
        """Go back to the beginning of these trials."""
        self.steps[trials], self.steps_low[trials], self.best[trials], self._level[trials] = np.nan, np.nan, np.nan, 0

    def at(self, target: Target) -> int:
        """The column of a target."""
        return self.targets.index(target)


def in_order(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets without repeats, the loosest first."""
    return tuple(sorted(dict.fromkeys(targets), key=lambda t: t.threshold, reverse=_falls(targets)))


def _falls(targets: Sequence[Target]) -> bool:
    return targets[0].direction is Direction.MINIMIZE


def crossings(folder: RunFolder, trials: pd.DataFrame, targets: Sequence[Target]) -> Crossings:
    """Read the measurements once for the first crossings of targets.

    Args:
        folder: the run.
        trials: its trials table.
        targets: at least one; of one metric and direction.

    Returns:
        Crossings with one row a trial, in the order of the trials table.

    Raises:
        InputError: the measurements break their schema.
    """  # noqa: DOC502 (raised by `read_measurements`)
    found = Crossings.of(targets, len(trials))
    read_measurements(folder, list(trials["trial_id"]), targets[0].metric, [found])
    return found


__all__ = ["Crossings", "crossings", "in_order"]
