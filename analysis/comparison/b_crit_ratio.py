"""The ratio of two critical batch sizes by profile likelihood: it has an end where the data give one, and else none."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bcrit.analysis.comparison.welch import LogRatio, freedom, tail
from bcrit.analysis.curve.fit import HyperbolaFit, grid_spread
from bcrit.analysis.curve.interval import Squared, bend
from bcrit.analysis.curve.likelihood import EXACT, REACH, likelihood

Floats = npt.NDArray[np.float64]
Form = tuple[Callable[[Floats], Floats], float]

_POINTS = 65  # of one scan for the least sum; a second scan around its best point is 32 times finer
_FARTHEST = 2 * math.log(REACH)  # log ratios beyond this are not told from infinite ones


def squared(fit: HyperbolaFit) -> Squared:
    """The statistic whose level sets are this fit's own interval of log b_crit.

    Args:
        fit: with three reached studies or more.
    """
    x = np.log([study.batch_size for study in fit.studies])
    y = np.log([study.steps or study.max_steps or math.nan for study in fit.studies])
    reached = np.array([study.steps is not None for study in fit.studies])
    residuals = np.array([study.log_residual for study in fit.studies if study.log_residual is not None])
    best = math.log(fit.b_crit) if fit.b_crit > 0 else -math.inf
    least = grid_spread(fit.studies, fit.covariance, fit.sigma)
    return Squared.of(likelihood(x, y, reached), best, bend(x[reached], residuals, best), least)


def p_value(run: Squared, baseline: Squared, log_ratio: float) -> float:
    """Test b_crit of the run = exp(log_ratio) x b_crit of the baseline.

    T^2 = min over u of t_run^2(u) + t_baseline^2(u - log_ratio). Where both fits are linear, t^2 = (u - best)^2 / v,
    the least sum is (log_ratio - difference)^2 / (v_run + v_baseline): Welch's statistic, and the run's part of it is
    its share of the variance, so that Welch's degrees of freedom follow too. Unlike that limit it remains right where
    a fit says b_crit is above something but not where. A ratio is refused where it is by both the scatter and the
    evaluation grid of each fit, as a fit refuses a value.

    Coverage of 95 % intervals: see `bcrit.analysis.comparison.ratios`.

    Args:
        run: of the run.
        baseline: of the baseline.
        log_ratio: the ratio that is tested.

    Returns:
        The two-sided p-value.
    """
    low, high = sorted((_place(run), _place(baseline) + log_ratio))  # both sums rise beyond their minima
    grid = np.linspace(low, high, _POINTS)
    return max(_tested(*forms, log_ratio, grid) for forms in product(run.forms, baseline.forms))


def _tested(run: Form, baseline: Form, log_ratio: float, grid: Floats) -> float:
    """The p-value by one form of each statistic; the minimum is sought on the grid and then on a finer one."""
    for _ in range(2):
        first, second = run[0](grid), baseline[0](grid - log_ratio)
        best = int(np.argmin(first + second))
        found = float(first[best]), float(second[best])
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)], _POINTS)
    total = found[0] + found[1]
    share = found[0] / total if total > 0 else 0.5
    return tail(math.sqrt(total), freedom(share, (run[1], baseline[1])))


def b_crit_ratio(run: HyperbolaFit, baseline: HyperbolaFit, level: float) -> LogRatio:
    """The ratio of two fits' b_crit: all ratios that `p_value` does not reject.

    Args:
        run: its b_crit is the numerator.
        baseline: its b_crit is the denominator.
        level: confidence, in (0, 1).

    Returns:
        The log ratio; an end is infinite where the data leave it open.
    """
    of_run, of_baseline = squared(run), squared(baseline)
    value = of_run.best - of_baseline.best
    if not (of_run.forms and of_baseline.forms):  # exact points on a limit of the curve
        return LogRatio(value, -math.inf, math.inf, 1.0)
    if all(one.exact and one.least < EXACT for one in (of_run, of_baseline)):
        return LogRatio(value, value, value, float(abs(value) < EXACT))
    middle = _place(of_run) - _place(of_baseline)

    def excess(log_ratio: float) -> float:
        return p_value(of_run, of_baseline, log_ratio) - (1 - level)

    return LogRatio(value, _end(excess, middle, -1), _end(excess, middle, 1), p_value(of_run, of_baseline, 0.0))


def _place(one: Squared) -> float:
    """The minimum, moved to where the curve is its limit (`REACH` beyond the data) if it lies further out."""
    batch, reach = one.profile.log_batch, math.log(REACH)
    return min(max(one.best, float(batch.min()) - reach), float(batch.max()) + reach)


def _end(excess: Callable[[float], float], middle: float, sign: int) -> float:
    """Where the excess of the p-value over 1 - level changes its sign on one side; infinite where it never does."""
    inside, step = middle, 0.25
    while step < _FARTHEST:
        outside = middle + sign * step
        if excess(outside) < 0:
            low, high = sorted((inside, outside))
            return float(optimize.brentq(excess, low, high, xtol=1e-9))
        inside, step = outside, 2 * step
    return sign * math.inf


__all__ = ["b_crit_ratio", "p_value", "squared"]
