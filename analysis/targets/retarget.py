"""The trials of a run as if another target had been its own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bcrit.analysis.targets.crossings import Crossings
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Target


def retargeted(trials: pd.DataFrame, crossings: Crossings, target: Target, imported: bool) -> pd.DataFrame:
    """Rewrite the columns that belong to the target: `steps_to_target`, its lower end, `best_value` and `outcome`.

    A trial that crossed is `reached`, whatever became of it later, as it would have stopped there; of an imported one
    that diverged the crossing does not count. A trial that stopped at the run's own target and before this one is
    `exhausted`: its training ended.

    Args:
        trials: the trials table.
        crossings: of its trials, this target among them.
        target: the other target.
        imported: whether the run was imported.

    Returns:
        A new frame.
    """
    column = crossings.at(target)
    outcome = trials["outcome"].to_numpy(dtype=object)
    crossed = ~np.isnan(crossings.steps[:, column])
    if imported:
        crossed &= outcome != Outcome.DIVERGED.value
    ended = np.where(outcome == Outcome.REACHED.value, Outcome.EXHAUSTED.value, outcome)
    return trials.assign(
        steps_to_target=np.where(crossed, crossings.steps[:, column], np.nan),
        steps_to_target_low=np.where(crossed, crossings.steps_low[:, column], np.nan),
        best_value=crossings.best,
        outcome=np.where(crossed, Outcome.REACHED.value, ended),
    )


__all__ = ["retargeted"]
