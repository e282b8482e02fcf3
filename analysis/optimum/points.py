"""The points that a study tried, each with its steps to target or with how far it is known to be slower."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.fit.table import censored_median
from bcrit.search_spaces.outcome import Outcome, Stage

Floats = npt.NDArray[np.float64]

_SILENT = [outcome for outcome in Outcome if outcome.broken]


@dataclass(frozen=True)
class StudyPoints:
    """What one study tried, one row a point.

    A point that was re-run has the median over its seeds, which the luck of the search does not flatter; any other has
    its one search trial.

    Attributes:
        batch_size: the study.
        rows: the trials that the points come from, with their hyperparameters; (n,).
        steps: steps to target; NaN where not reached. (n,).
        longer_than: the steps are known to be more than this; NaN where reached, infinite where diverged. (n,).
        n_set_aside: trials that failed or did not fit into memory: not among the points.
    """

    batch_size: int
    rows: pd.DataFrame
    steps: Floats
    longer_than: Floats
    n_set_aside: int


def study_points(trials: pd.DataFrame, batch_size: int) -> StudyPoints:
    """Reduce a study's trials to points.

    Args:
        trials: the trials table.
        batch_size: the study.

    Returns:
        Its points; those that were only re-run (imports) come last.
    """
    study = trials[trials["batch_size"] == batch_size]
    told = study[~study["outcome"].isin(_SILENT)]
    search = told[told["stage"] == Stage.SEARCH]
    steps, longer = _steps(search), _longer_than(search)
    places = {str(trial): place for place, trial in enumerate(search["trial_id"])}
    more: list[int] = []
    confirm = told[told["stage"] == Stage.CONFIRM]
    others: list[tuple[float, float]] = []
    for repeats, seeds in confirm.groupby("repeats", sort=True):
        median, bound = censored_median(np.nan_to_num(_steps(seeds), nan=math.inf), _finite(seeds))
        number = (median, math.nan) if math.isfinite(median) else (math.nan, bound)
        if str(repeats) in places:
            place = places[str(repeats)]
            steps[place], longer[place] = number
        else:
            more.append(int(seeds.index[0]))
            others.append(number)
    rows = pd.concat([search, study.loc[more]]) if more else search
    extra = np.array(others).reshape(-1, 2)
    return StudyPoints(
        batch_size,
        rows.reset_index(drop=True),
        np.concatenate([steps, extra[:, 0]]),
        np.concatenate([longer, extra[:, 1]]),
        len(study) - len(told),
    )


def _steps(trials: pd.DataFrame) -> Floats:
    return trials["steps_to_target"].to_numpy(dtype=float, na_value=math.nan).copy()


def _finite(trials: pd.DataFrame) -> Floats:
    return trials["steps"].to_numpy(dtype=float)


def _longer_than(trials: pd.DataFrame) -> Floats:
    diverged = (trials["outcome"] == Outcome.DIVERGED).to_numpy()
    bound = np.where(diverged, math.inf, _finite(trials))
    return np.asarray(np.where(np.isnan(_steps(trials)), bound, math.nan))


@dataclass(frozen=True)
class SeedNoise:
    """How much the steps to target of one point differ between seeds.

    Attributes:
        log_sd: standard deviation of log(steps) over the seeds of a point, pooled over points; None where no point was
            re-run often enough.
        freedom: degrees of freedom of that estimate.
        n_unreached: seeds that did not reach and are left out, which makes it too small.
    """

    log_sd: float | None
    freedom: int
    n_unreached: int


def seed_noise(trials: pd.DataFrame) -> SeedNoise:
    """Pool the spread over seeds of all points that were re-run, over all studies.

    Args:
        trials: the trials table.

    Returns:
        The noise; `log_sd` is None without two reached re-runs of one point.
    """
    confirm = trials[trials["stage"] == Stage.CONFIRM]
    reached = confirm[confirm["steps_to_target"].notna()]
    unreached = int((confirm["steps_to_target"].isna() & ~confirm["outcome"].isin(_SILENT)).sum())
    logs = np.log(_steps(reached))
    groups = pd.Series(logs).groupby([reached["batch_size"].to_numpy(), reached["repeats"].to_numpy()])
    counts = groups.count()
    freedom = int((counts - 1).sum())
    if freedom < 1:
        return SeedNoise(None, 0, unreached)
    squares = float((groups.var(ddof=0).fillna(0) * counts).sum())
    return SeedNoise(math.sqrt(squares / freedom), freedom, unreached)


__all__ = ["SeedNoise", "StudyPoints", "seed_noise", "study_points"]
