"""What can be limited, and the budgets to look at: the user's own, or a grid chosen from the trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from bcrit.analysis.records.one_pass import Floats
from bcrit.analysis.targets.validity import Flags
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError

N_BUDGETS = 6
"""Budgets of the default grid of each resource. Chosen, not studied."""

_RANGE = 16.0
"""The smallest default budget is this fraction of the largest. Chosen, not studied."""


class Resource(StrEnum):
    """What a budget limits; the budget itself is inside the limit (Shallue et al. 2018)."""

    STEPS = "steps"
    EXAMPLES = "examples"
    HOURS = "hours"

    def spent(self, trials: pd.DataFrame) -> Floats:
        """What every trial used by its end; NaN where it was not recorded. (n_trials,)."""
        if self is Resource.HOURS:
            seconds = trials["train_seconds"].to_numpy(dtype=float)
            return np.asarray(np.where(seconds > 0, seconds / 3600, np.nan))
        column = "steps" if self is Resource.STEPS else "examples"
        return np.asarray(trials[column].to_numpy(dtype=float))


def that_count(trials: pd.DataFrame) -> Flags:
    """Which trials speak for their study: those of its search, or the re-runs of one without any; none that failed.

    Args:
        trials: the trials table.

    Returns:
        (n_trials,).
    """
    failed = trials["outcome"].isin([ending.value for ending in Outcome if ending.broken]).to_numpy(dtype=bool)
    search = (trials["stage"] == Stage.SEARCH).to_numpy(dtype=bool) & ~failed
    batch = trials["batch_size"].to_numpy()
    return np.asarray(search | (~np.isin(batch, batch[search]) & ~failed))


Budgets = Mapping[Resource, tuple[float, ...]]
"""Rising budgets by resource; none for a resource that was not recorded."""


def read_budgets(given: Mapping[Resource, Sequence[float]]) -> dict[Resource, tuple[float, ...]]:
    """Check the user's budgets.

    Args:
        given: by resource.

    Returns:
        The budgets in rising order; only resources that were given.

    Raises:
        InputError: one is no positive number.
    """
    problems = [
        f"--{resource.value}: a budget is a positive number, but it is {value:g}; give how much may be used"
        for resource, values in given.items()
        for value in values
        if not 0 < value < math.inf
    ]
    if problems:
        raise InputError("budgets", problems)
    return {resource: tuple(sorted(set(values))) for resource, values in given.items() if values}


def default_budgets(trials: pd.DataFrame, stopped: Flags) -> dict[Resource, tuple[float, ...]]:
    """Choose budgets by equal factors up to the largest under which all studies can still be compared.

    That is the most that every study used, by the trials that count; and where those stop at the run's target, what the
    second study needs until then: beyond, two have stopped.

    Args:
        trials: the trials table.
        stopped: which of them ended because they reached the target that they were run to; (n_trials,).

    Returns:
        At most `N_BUDGETS` a resource, rounded to two digits; none where fewer than two studies used any.
    """
    found = {}
    counts = that_count(trials)
    trials, stopped = trials[counts], stopped[counts]
    batch = trials["batch_size"].to_numpy()
    for resource in Resource:
        spent = pd.Series(resource.spent(trials))
        used = spent.groupby(batch).max()
        used = used[used > 0]
        if len(used) < 2:
            continue
        first_stops = spent[stopped].groupby(batch[stopped]).min().sort_values()
        largest = min([float(used.min()), *first_stops.iloc[1:2]])
        budgets = {_rounded_down(value) for value in np.geomspace(largest / _RANGE, largest, N_BUDGETS)}
        if resource is Resource.STEPS:
            budgets = {max(1.0, math.floor(budget)) for budget in budgets}
        found[resource] = tuple(sorted(budgets))
    return found


def _rounded_down(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit * (1 + 1e-12)) * unit:.2g}")


__all__ = ["N_BUDGETS", "Budgets", "Resource", "default_budgets", "read_budgets", "that_count"]
