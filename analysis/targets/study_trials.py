"""The trials of one study as a grid of targets sees them: when they crossed, how they ended, which of them count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bcrit.analysis.records.one_pass import Floats
from bcrit.analysis.targets.validity import Ended, Flags
from bcrit.search_spaces.outcome import Outcome, Stage


@dataclass(frozen=True)
class Trials:
    """Some trials of one study with their crossings. Arrays are (n_trials,) and (n_trials, n_targets).

    Attributes:
        ids: their names.
        confirm: which are re-runs on fresh seeds.
        repeats: for re-runs the search trial whose point it is.
        number: place among those of the study and stage.
        ended: how they ended.
        best: best value of the metric.
        steps: steps to each target, NaN where not reached.
        steps_low: the evaluation before.
    """

    ids: Sequence[str]
    confirm: Flags
    repeats: Sequence[str]
    number: Floats
    ended: Ended
    best: Floats
    steps: Floats
    steps_low: Floats

    def some(self, which: Flags) -> Trials:
        """Those that are marked."""
        ended = Ended(self.ended.steps[which], self.ended.feasible[which], self.ended.stopped[which])
        names = [[name for name, mine in zip(of, which, strict=True) if mine] for of in (self.ids, self.repeats)]
        rest = (self.best[which], self.steps[which], self.steps_low[which])
        return Trials(names[0], self.confirm[which], names[1], self.number[which], ended, *rest)

    @cached_property
    def search(self) -> Trials:
        """The trials of the search."""
        return self.some(~self.confirm)

    @cached_property
    def seeds(self) -> Trials:
        """The re-runs."""
        return self.some(self.confirm)

    def fastest(self, target: int) -> int:
        """Place of the trial with the fewest steps, the earlier one on a tie; some trial must have reached."""
        steps = np.where(np.isnan(self.steps[:, target]), np.inf, self.steps[:, target])
        return int(np.lexsort((self.number, steps))[0])


def stopped_at_target(frame: pd.DataFrame) -> Flags:
    """Which trials ended because they reached the target that they were run to.

    Trials may have gone on beyond it: imported ones, and those of a search with the stopping rule `full`, whose re-runs
    stop. If most of a stage's trials that reached did, then one that reached it with its last evaluation did not end
    because of that.

    Args:
        frame: the trials table as it was recorded.

    Returns:
        (n_trials,).
    """
    reached = frame["outcome"].to_numpy(dtype=str) == Outcome.REACHED.value
    own = frame["steps_to_target"].to_numpy(dtype=float)
    ended: Flags = reached & (frame["steps"].to_numpy(dtype=float) <= own)
    stages = frame["stage"].to_numpy(dtype=str)
    for stage in Stage:
        mine = stages == stage.value
        if 2 * int(ended[mine].sum()) <= int(reached[mine].sum()):
            ended[mine] = False
    return ended


def trials_of(frame: pd.DataFrame, steps: Floats, steps_low: Floats, best: Floats, imported: bool) -> dict[int, Trials]:
    """The trials that count, by batch size.

    A trial that failed says nothing. One that diverged counts where it reached a target before, as it would have
    stopped there; an imported one does not (Shallue et al. 2018: infeasible is who diverged at any point).

    Args:
        frame: the trials table as it was recorded.
        steps: steps to each target; (n_trials, n_targets).
        steps_low: the evaluations before.
        best: best values; (n_trials,).
        imported: whether the run was imported.

    Returns:
        One entry a batch size.
    """
    outcome = frame["outcome"].to_numpy(dtype=str)
    diverged = outcome == Outcome.DIVERGED.value
    if imported:
        steps = np.where(diverged[:, None], np.nan, steps)
    everything = Trials(
        list(frame["trial_id"]),
        (frame["stage"] == Stage.CONFIRM).to_numpy(dtype=bool),
        [str(name) for name in frame["repeats"]],
        frame["number"].to_numpy(dtype=float),
        Ended(frame["steps"].to_numpy(dtype=float), ~diverged, stopped_at_target(frame)),
        best,
        steps,
        steps_low,
    )
    counts = ~np.isin(outcome, [ending.value for ending in Outcome if ending.broken])
    batch = frame["batch_size"].to_numpy()
    return {int(b): everything.some(counts & (batch == b)) for b in np.unique(batch)}


__all__ = ["Trials", "stopped_at_target", "trials_of"]
