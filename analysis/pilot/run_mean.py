"""A noise scale averaged along one kind of run: what the theory of the critical batch size asks for.

With N(s) the noise scale along progress s, a run at batch size B takes S = int (1 + N/B) ds updates (McCandlish et al.
2018, app. D). So s_min = int ds, e_min = int N ds, and

    b_crit = e_min / s_min = int N ds / int ds,    ds = dS B / (B + N).

The noise scale at the target alone is the largest of the run and overstates b_crit: on digits with momentum 0.9
B_simple was 5 to 9 times b_crit there, and 1.4 to 2.4 times it in this mean (batch sizes 8 to 64, five seeds each).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.diffusion.straight_line import t_quantile
from bcrit.analysis.noise_scale.pooled import PooledScale

Floats = npt.NDArray[np.float64]


def run_mean(
    measured: pd.DataFrame, numerator: str, denominator: str, batch_size: float, level: float = 0.95
) -> PooledScale:
    """Average a noise scale along runs that differ in their seed alone.

    Both parts are averaged over runs at every step first (a ratio of averages); the ends of the runs, which stand at
    steps of their own, count as one place. Between the places N is taken to be straight. The interval is the
    jackknife's over runs, in the logarithm, with Student's t.

    Args:
        measured: one row a measurement, with `trial_id`, `step` and both columns; the last row of each run is its end.
        numerator: column of tr(Sigma) or tr(H Sigma).
        denominator: column of |G|^2 or G'HG.
        batch_size: of the runs.
        level: of confidence.

    Returns:
        The mean. It is not resolved where fewer than two places have positive averages, or the end has not.
    """
    runs = list(measured["trial_id"].unique())
    value = _mean(measured, numerator, denominator, batch_size)
    if value is None:
        return PooledScale(None, None, None, len(runs), "noise hides the gradient along the run or at its end")
    if len(runs) < 2:
        return PooledScale(value, None, None, len(runs), "one run has no interval")
    left_out = [_mean(measured[measured["trial_id"] != r], numerator, denominator, batch_size) for r in runs]
    logs = [math.log(part) for part in left_out if part is not None]
    if len(logs) < len(runs):
        return PooledScale(value, None, None, len(runs), "it hangs on a single run")
    spread = float(np.sum((np.array(logs) - np.mean(logs)) ** 2))
    half = t_quantile(len(runs) - 1, level) * math.sqrt((len(runs) - 1) / len(runs) * spread)
    half = min(half, 300.0)  # beyond that the end is no float
    return PooledScale(value, value * math.exp(-half), value * math.exp(half), len(runs), "")


def _mean(measured: pd.DataFrame, numerator: str, denominator: str, batch_size: float) -> float | None:
    steps, scale = _curve(measured, numerator, denominator)
    if len(steps) < 2:
        return None
    middle = (scale[1:] + scale[:-1]) / 2
    progress = np.diff(steps) * batch_size / (batch_size + middle)
    return float(np.sum(middle * progress) / np.sum(progress))


def _curve(measured: pd.DataFrame, numerator: str, denominator: str) -> tuple[Floats, Floats]:
    """Steps and noise scale, where both averages are positive; nothing where they are not at the end."""
    last = measured.groupby("trial_id")["step"].transform("max") == measured["step"]
    place = measured["step"].astype(float).where(~last, float(measured.loc[last, "step"].median()))
    columns = measured[[numerator, denominator]].astype(float)
    # Before the end only places that every run passed, so that the average does not change its members.
    counts = columns.dropna().groupby([place, last]).size()
    averages = columns.dropna().groupby([place, last]).mean()
    at_end = averages.index.get_level_values(1).to_numpy(dtype=bool)
    whole = averages[(counts == counts.max()).to_numpy() | at_end]
    positive = whole[(whole > 0).all(axis=1)]
    ends = positive.index.get_level_values(1).to_numpy(dtype=bool)
    if not ends.any():
        return np.empty(0), np.empty(0)
    steps = positive.index.get_level_values(0).to_numpy(dtype=np.float64)
    kept = ends | (steps < steps[ends][0])
    ratio = (positive[numerator] / positive[denominator]).to_numpy(dtype=np.float64)
    return steps[kept], ratio[kept]


__all__ = ["run_mean"]
