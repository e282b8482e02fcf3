"""Which trials of a large study are drawn: a page with a mark for each of many thousands is slow and shows less."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

MOST_MARKS: Final = 6000
"""Of all studies together: about 1 MB of page, most of it what hovering shows; chosen, not studied."""

_LEAST: Final = 20  # of one outcome of one study, so that what is rare stays visible; chosen, not studied


def shown_trials(search: pd.DataFrame, most: int = MOST_MARKS) -> pd.DataFrame:
    """All trials, or of each study and outcome an even selection from the fastest trial to the slowest.

    Every outcome of a study keeps its share, at least 20 trials, and its fastest and slowest, so that the picture stays
    what it would be with all marks, only thinner. The selection is not random: the same run has the same page.

    Args:
        search: rows of the trials table.
        most: so many are drawn in all, unless the 20 of every outcome are more.

    Returns:
        The rows to draw, in their order.
    """
    if len(search) <= most:
        return search
    share = most / len(search)
    kept: list[pd.Index] = []
    ordered = search.sort_values(["steps_to_target", "steps", "trial_id"])
    for _, alike in ordered.groupby(["batch_size", "outcome"], sort=False):
        count = min(len(alike), max(_LEAST, int(share * len(alike))))
        kept.append(alike.index[np.unique(np.linspace(0, len(alike) - 1, count).round().astype(int))])
    return search.loc[np.sort(np.concatenate(kept))]


__all__ = ["MOST_MARKS", "shown_trials"]
