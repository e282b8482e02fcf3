"""The likelihood of the hyperbola as a function of one number, log b_crit: its minimum and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from analysis.fit.censored import censored_normal, hazard
from analysis.fit.hyperbola import Hyperbola

Floats = npt.NDArray[np.float64]

REACH = 1e8
"""b_crit is sought up to this factor beyond the batch sizes of the data. Further out the curve departs from its limit,
a straight line in log-log, by less than 1e-8 of S, which no table of steps resolves: the limit is then reported."""

EXACT = 1e-9
"""Residuals of log S below this are rounding, not scatter: points on the curve."""

_GRID = 400  # points of the scan; a step of about 0.1 in log b_crit, far finer than the curve's knee (about 2)


@dataclass(frozen=True)
class Profile:
    """Deviance of the hyperbola at a given u = log b_crit, the other parameters being maximised out.

    For given u the model log S = log s_min + log(1 + exp(u - log B)) + error is a mean with a known offset, so that
    s_min and sigma follow in closed form (or, with unreached studies, from a concave problem). Only u is left to be
    sought, which makes the fit global, and exact under a change of either unit. Errors are normal in log S with the
    same sigma everywhere; deviance = -2 log likelihood up to a constant.

    The offset is written relative to the level at the middle of the data, so that u = -inf (e_min = 0, flat) and
    u = +inf (s_min = 0, perfect scaling) are ordinary values.

    Attributes:
        log_batch: log batch size; (n,).
        log_steps: log steps to target, or log of the bound where not reached; (n,).
        reached: which; at least two. (n,).
    """

    log_batch: Floats
    log_steps: Floats
    reached: npt.NDArray[np.bool_]

    @property
    def center(self) -> float:
        """Mean log batch size."""
        return float(self.log_batch.mean())

    def offset(self, u: npt.ArrayLike) -> Floats:
        """log(1 + exp(u - log B)) - max(u - center, 0); (..., n)."""
        beyond = np.asarray(u, dtype=float)[..., None] - self.center
        return np.logaddexp(-np.maximum(beyond, 0), np.minimum(beyond, 0) - (self.log_batch - self.center))

    def solve(self, u: npt.ArrayLike) -> tuple[Floats, Floats]:
        """The maximum-likelihood (level, sigma) at u; each (...). log S = level + offset."""
        rest = self.log_steps - self.offset(u)
        if self.reached.all():
            return rest.mean(-1), rest.std(-1)
        return censored_normal(rest, self.reached)

    def deviance(self, u: npt.ArrayLike) -> Floats:
        """-2 log L(u) up to a constant; (...). With all studies reached it is n log RSS(u)."""
        level, sigma = self.solve(u)
        sigma = np.maximum(sigma, np.finfo(float).tiny)
        residual = (self.log_steps - self.offset(u) - level[..., None]) / sigma[..., None]
        rows = np.where(self.reached, 2 * np.log(sigma)[..., None] + residual**2, -2 * special.log_ndtr(-residual))
        return np.asarray(rows.sum(-1))

    def slope(self, u: float) -> float:
        """A positive multiple of d deviance / du: the other parameters are stationary, so only the offset counts."""
        level, sigma = self.solve(u)
        residual = self.log_steps - self.offset(u) - level
        if not self.reached.all():
            residual = np.where(self.reached, residual, sigma * hazard(residual / sigma))
        return -float(residual @ special.expit(u - self.log_batch))

    def curve(self, u: float) -> Hyperbola:
        """The hyperbola at u."""
        level = float(self.solve(u)[0])
        return Hyperbola(s_min=math.exp(level - max(u - self.center, 0)), e_min=math.exp(level + min(u, self.center)))

    def grid(self) -> Floats:
        """Where u is scanned: the data's range and `REACH` beyond it on either side."""
        return np.linspace(self.log_batch.min() - math.log(REACH), self.log_batch.max() + math.log(REACH), _GRID)


def minimise(profile: Profile) -> float:
    """Find the u with the smallest deviance; -inf or +inf where a limit of the curve is better than every hyperbola.

    Every local minimum of the scan is refined as a root of the slope, which is good to rounding (a minimiser would be
    good to its square root).

    Args:
        profile: the likelihood.
    """
    grid = profile.grid()
    deviance = profile.deviance(grid)
    found = [-math.inf, math.inf]
    for i in range(1, _GRID - 1):
        if deviance[i] <= min(deviance[i - 1], deviance[i + 1]):
            low, high = float(grid[i - 1]), float(grid[i + 1])
            if profile.slope(low) < 0 < profile.slope(high):
                found.append(float(optimize.brentq(profile.slope, low, high, xtol=1e-14)))
    return found[int(np.argmin(profile.deviance(found)))]


def interval(profile: Profile, best: float, level: float) -> tuple[float, float]:
    """Find the ends of { u : deviance(u) - deviance(best) <= m log(1 + F / (m - 2)) }.

    F is the quantile of F(1, m - 2) at `level` and m the number of reached studies. With all studies reached the rule
    is
    RSS(u) <= RSS(best) (1 + F / (m - 2)): t(m - 2) on the scatter of the points about the curve, the only one-study
    interval that covers everywhere (search-cost study, section 3). It is the profile rather than the Wald interval of
    log b_crit because both cover 93 to 96 % (`benchmarks/coverage.py`), and where the data hardly reach b_crit only the
    profile says that an end is open. Unreached studies add likelihood but no degree of freedom.

    Args:
        profile: the likelihood.
        best: its minimum.
        level: confidence, in (0, 1).

    Returns:
        (low, high) of log b_crit; -inf and inf where an end is open, and both where m < 3.
    """
    freedom = int(profile.reached.sum()) - 2
    if freedom < 1:
        return -math.inf, math.inf
    if float(profile.solve(best)[1]) < EXACT:
        return best, best
    quantile = float(special.stdtrit(freedom, (1 + level) / 2)) ** 2
    threshold = float(profile.deviance(best)) + (freedom + 2) * math.log1p(quantile / freedom)

    def excess(u: float) -> float:
        return float(profile.deviance(u)) - threshold

    points = np.unique([-math.inf, *profile.grid(), best, math.inf])
    inside = np.flatnonzero(profile.deviance(points) <= threshold)
    first, last = int(inside[0]), int(inside[-1])
    # Beyond the grid the curve is its limit, so an end that is not within the grid is open.
    low = -math.inf if first < 2 else float(optimize.brentq(excess, points[first - 1], points[first]))
    high = math.inf if last > len(points) - 3 else float(optimize.brentq(excess, points[last], points[last + 1]))
    return low, high
