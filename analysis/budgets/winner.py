"""Which batch size wins under a budget, and whether that is more than luck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from bcrit.analysis.records.one_pass import Floats

CLEAR = 0.9
"""A study is the clear winner if it is best in this share of the resamples. Chosen, not studied."""

FEWEST_TRIALS = 3
"""Of each study; with fewer, resampling them says nothing of their spread. Chosen, not studied."""

_NEVER = 1e-17
"""A probability that changes no sum of probabilities in floating point."""


def win_shares(values: Mapping[int, Floats]) -> dict[int, float]:
    """How often each study is best when the trials of all studies are drawn again.

    The best of n trials falls with n and is lucky. So m trials are drawn with replacement from each study and their
    best values compared, m half the smallest number of trials of any. (The plain bootstrap, m = n, fails for a minimum;
    fewer draws mend that: Bickel, Goetze and van Zwet 1997. In our simulation of 2 equal studies of 5 to 40 trials it
    named a clear winner in 37 to 45 %, this one in 10 to 14 %, and of 5 equal studies in under 2 %.) No random numbers
    are needed: the best of m draws is no better than the j-th best of n with probability ((n - j + 1) / n)^m. A tie
    counts half.

    Args:
        values: by batch size the values of its trials, smaller is better, none of them NaN.

    Returns:
        The shares by batch size, summing to 1; empty where a study has fewer than three trials, or there are fewer than
        two studies.
    """
    if len(values) < 2 or min(len(mine) for mine in values.values()) < FEWEST_TRIALS:
        return {}
    m = round(min(len(mine) for mine in values.values()) / 2)
    ordered = {batch_size: np.sort(mine) for batch_size, mine in values.items()}
    found = {}
    for batch_size, mine in ordered.items():
        tail = ((len(mine) - np.arange(len(mine) + 1)) / len(mine)) ** m
        chance = tail[:-1] - tail[1:]  # of each value to be the best
        # Of thousands of trials nearly all are so far behind that they are never the best of m draws.
        mine, chance = mine[tail[:-1] > _NEVER], chance[tail[:-1] > _NEVER]
        for other, theirs in ordered.items():
            if other != batch_size:
                chance = chance * (_worse(theirs, mine, m, "right") + _worse(theirs, mine, m, "left")) / 2
        found[batch_size] = float(chance.sum())
    total = sum(found.values())  # 1 but for ties of three or more
    return {batch_size: share / total for batch_size, share in found.items()}


def _worse(ordered: Floats, than: Floats, m: int, side: Literal["left", "right"]) -> Floats:
    """Probability that the best of m draws is worse than each number; `left` counts a tie as worse."""
    return np.asarray((1 - np.searchsorted(ordered, than, side=side) / len(ordered)) ** m)


__all__ = ["CLEAR", "FEWEST_TRIALS", "win_shares"]
