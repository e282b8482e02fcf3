"""A noise scale pooled over runs: a ratio of averages, no average of ratios (McCandlish et al. 2018, app. A.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bcrit.analysis.diffusion.straight_line import t_quantile


@dataclass(frozen=True)
class PooledScale:
    """mean numerator / mean denominator over runs.

    Attributes:
        value: in the unit of a batch; None where it is not resolved.
        low: lower end of its interval; None where there is none.
        high: upper end; likewise.
        n_runs: independent runs behind it.
        reason: why there is no value, or no interval; empty where there are both.
    """

    value: float | None
    low: float | None
    high: float | None
    n_runs: int
    reason: str


def pool(numerator: npt.ArrayLike, denominator: npt.ArrayLike, runs: npt.ArrayLike, level: float = 0.95) -> PooledScale:
    """Pool the measurements of several runs.

    With the sums n_r and d_r of each of R runs, b = sum n_r / sum d_r. Runs have seeds of their own and are
    independent, so the errors are those of e_r = n_r - b d_r,

        var b = R / (R - 1) sum e_r^2 / (sum d_r)^2,    b exp(+- t sqrt(var b) / b),

    with Student's t of R - 1 degrees of freedom, in the logarithm because b spans orders of magnitude. It is not
    resolved where t sqrt(var b) >= b: then the numerator or the denominator may as well be 0.

    Args:
        numerator: tr(Sigma) or tr(H Sigma) of each measurement, shape (m,); rows with NaN are left out.
        denominator: |G|^2 or G'HG, likewise.
        runs: the run that each belongs to.
        level: of confidence.

    Example:
        >>> pool([10.0, 20.0, 30.0], [1.0, 2.0, 3.0], ["a", "b", "c"]).value
        10.0
    """
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    there = np.isfinite(above) & np.isfinite(below)
    names, place = np.unique(np.asarray(runs)[there], return_inverse=True)
    n_runs = len(names)
    if n_runs == 0:
        return PooledScale(None, None, None, 0, "it was not measured")
    n, d = (np.bincount(place, weights=part[there], minlength=n_runs) for part in (above, below))
    if n.sum() <= 0 or d.sum() <= 0:
        what = "numerator" if n.sum() <= 0 else "denominator"
        return PooledScale(None, None, None, n_runs, f"its mean {what} came out negative, so noise hides it")
    value = float(n.sum() / d.sum())
    if n_runs == 1:
        return PooledScale(value, None, None, 1, "one run has no interval")
    error = math.sqrt(n_runs / (n_runs - 1) * float(((n - value * d) ** 2).sum())) / float(d.sum())
    share = t_quantile(n_runs - 1, level) * error / value
    if share >= 1.0:
        return PooledScale(None, None, None, n_runs, f"over {n_runs} runs its error is as large as itself")
    factor = math.exp(share)
    return PooledScale(value, value / factor, value * factor, n_runs, "")


def over(scale: PooledScale, b_crit: float, low: float, high: float) -> tuple[float, float, float] | None:
    """A noise scale over a critical batch size, with an interval: both errors add up as squares of logarithms.

    Args:
        scale: resolved or not.
        b_crit: positive.
        low: lower end of its interval; 0 = open.
        high: upper end; inf = open.

    Returns:
        (ratio, low, high); 0 and inf where an end is open; None where the scale is not resolved.
    """
    if scale.value is None:
        return None
    ratio = scale.value / b_crit
    if scale.low is None or scale.high is None:
        return ratio, 0.0, math.inf
    down = math.hypot(math.log(scale.value / scale.low), math.log(high / b_crit)) if high < math.inf else math.inf
    up = math.hypot(math.log(scale.high / scale.value), math.log(b_crit / low)) if low > 0 else math.inf
    return ratio, ratio * math.exp(-down), ratio * math.exp(up) if up < math.inf else math.inf


__all__ = ["PooledScale", "over", "pool"]
