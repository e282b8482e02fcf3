"""The ratio of two critical batch sizes by profile likelihood: it has an end where the data give one, and else none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from analysis.comparison.welch import LogRatio, freedom, tail, welch
from analysis.fit.profile import EXACT, REACH, Profile
from analysis.fit.result import HyperbolaFit

Floats = npt.NDArray[np.float64]

_POINTS = 65  # of one scan for the least sum; a second scan around its best point is 32 times finer
_FARTHEST = 2 * math.log(REACH)  # log ratios beyond this are not told from infinite ones


@dataclass(frozen=True)
class Squared:
    """The squared t-statistic of one fit as a function of u = log b_crit.

    t^2(u) = f (RSS(u) / RSS(best) - 1), and with unreached studies f (exp(deviance difference / m) - 1): the statistic
    whose level sets are the fit's own interval (`analysis.fit.profile.interval`).

    Attributes:
        profile: the likelihood.
        best: its minimum, perhaps infinite.
        degrees: f, reached studies - 2.
    """

    profile: Profile
    best: float
    degrees: int

    @classmethod
    def of(cls, fit: HyperbolaFit) -> Squared:
        """Of a fit with scatter about its curve."""
        x = np.log([study.batch_size for study in fit.studies])
        y = np.log([study.steps or study.max_steps or math.nan for study in fit.studies])
        reached = np.array([study.steps is not None for study in fit.studies])
        return cls(Profile(x, y, reached), _log_b_crit(fit), fit.degrees_of_freedom)

    @property
    def place(self) -> float:
        """The minimum, moved to where the curve is its limit (`REACH` beyond the data) if it lies further out."""
        batch, reach = self.profile.log_batch, math.log(REACH)
        return min(max(self.best, float(batch.min()) - reach), float(batch.max()) + reach)

    def at(self, u: Floats) -> Floats:
        """t^2(u), shape of `u`."""
        rise = self.profile.deviance(u) - float(self.profile.deviance(self.best))
        reached = int(self.profile.reached.sum())
        return self.degrees * np.expm1(np.minimum(np.maximum(rise, 0.0) / reached, 500.0))


def p_value(run: Squared, baseline: Squared, log_ratio: float) -> float:
    """Test b_crit of the run = exp(log_ratio) x b_crit of the baseline.

    T^2 = min over u of t_run^2(u) + t_baseline^2(u - log_ratio). Where both fits are linear, t^2 = (u - best)^2 / v,
    the least sum is (log_ratio - difference)^2 / (v_run + v_baseline): Welch's statistic, and the run's part of it is
    its share of the variance, so that Welch's degrees of freedom follow too. Unlike that limit it remains right where
    a fit says b_crit is above something but not where. Coverage is measured in the tests.

    Args:
        run: of the run.
        baseline: of the baseline.
        log_ratio: the ratio that is tested.

    Returns:
        The two-sided p-value.
    """
    low, high = sorted((run.place, baseline.place + log_ratio))  # both sums rise beyond their minima

    def parts(u: Floats) -> tuple[Floats, Floats]:
        return run.at(u), baseline.at(u - log_ratio)

    grid = np.linspace(low, high, _POINTS)
    for _ in range(2):
        first, second = parts(grid)
        best = int(np.argmin(first + second))
        found = float(first[best]), float(second[best])
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)], _POINTS)
    total = found[0] + found[1]
    share = found[0] / total if total > 0 else 0.5
    return tail(math.sqrt(total), freedom(share, (run.degrees, baseline.degrees)))


def b_crit_ratio(run: HyperbolaFit, baseline: HyperbolaFit, level: float) -> LogRatio:
    """The ratio of two fits' b_crit: all ratios that `p_value` does not reject.

    Args:
        run: its b_crit is the numerator.
        baseline: its b_crit is the denominator.
        level: confidence, in (0, 1).

    Returns:
        The log ratio; an end is infinite where the data leave it open.
    """
    exact = [fit for fit in (run, baseline) if (fit.sigma or 0.0) < EXACT]
    if exact:
        variances = _variance(run), _variance(baseline)
        value = _log_b_crit(run) - _log_b_crit(baseline)
        return welch(value, variances, (run.degrees_of_freedom, baseline.degrees_of_freedom), level)
    of_run, of_baseline = Squared.of(run), Squared.of(baseline)
    middle = of_run.place - of_baseline.place

    def excess(log_ratio: float) -> float:
        return p_value(of_run, of_baseline, log_ratio) - (1 - level)

    value = of_run.best - of_baseline.best
    return LogRatio(value, _end(excess, middle, -1), _end(excess, middle, 1), p_value(of_run, of_baseline, 0.0))


def _end(excess: Callable[[float], float], middle: float, sign: int) -> float:
    """Where the excess of the p-value over 1 - level changes its sign on one side; infinite where it never does."""
    inside, step = middle, 0.25
    while step < _FARTHEST:
        outside = middle + sign * step
        if excess(outside) < 0:
            low, high = sorted((inside, outside))
            return float(optimize.brentq(excess, low, high, xtol=1e-6))
        inside, step = outside, 2 * step
    return sign * math.inf


def _log_b_crit(fit: HyperbolaFit) -> float:
    return math.log(fit.b_crit) if fit.b_crit > 0 else -math.inf


def _variance(fit: HyperbolaFit) -> float:
    """Of log b_crit = log e_min - log s_min, linearised."""
    if fit.covariance is None:
        return math.inf
    (ss, se), (_, ee) = fit.covariance
    return ss + ee - 2 * se


__all__ = ["Squared", "b_crit_ratio", "p_value"]
