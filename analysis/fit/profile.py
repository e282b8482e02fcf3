"""The likelihood of a curve with a given knee as a function of one number, log b_crit, and its minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.fit.censored import censored_normal, hazard
from bcrit.analysis.fit.hyperbola import Hyperbola

Floats = npt.NDArray[np.float64]

REACH = 1e8
"""b_crit is sought up to this factor beyond the batch sizes of the data. Further out the curve departs from its limit,
a straight line in log-log, by less than 1e-8 of S, which no table of steps resolves: the limit is then reported."""

EXACT = 1e-9
"""Residuals of log S below this are rounding, not scatter: points on the curve."""

_GRID = 400  # points of the scan; a step of about 0.1 in log b_crit, far finer than the curve's knee (about 2)


@dataclass(frozen=True)
class Profile:
    """Deviance of the curve at a given u = log b_crit, the other parameters being maximised out.

    For given u the model log S = log s_min + log(1 + exp(p (u - log B))) / p + error is a mean with a known offset, so
    that s_min and sigma follow in closed form (or, with unreached studies, from a concave problem). Only u is left to
    be sought, which makes the fit global, and exact under a change of either unit. Errors are normal in log S with the
    same sigma everywhere; deviance = -2 log likelihood up to a constant. p = 1 is the hyperbola.

    The offset is written relative to the level at the middle of the data, so that u = -inf (e_min = 0, flat) and
    u = +inf (s_min = 0, perfect scaling) are ordinary values.

    Attributes:
        log_batch: log batch size; (n,).
        log_steps: log steps to target, or log of the bound where not reached; (n,).
        reached: which; at least two. (n,).
        p: sharpness of the knee, as in `bcrit.analysis.fit.p_norm`; inf = two straight lines.
    """

    log_batch: Floats
    log_steps: Floats
    reached: npt.NDArray[np.bool_]
    p: float = 1.0

    @property
    def center(self) -> float:
        """Mean log batch size."""
        return float(self.log_batch.mean())

    def offset(self, u: npt.ArrayLike) -> Floats:
        """log(1 + exp(p (u - log B))) / p - max(u - center, 0); (..., n)."""
        beyond = np.asarray(u, dtype=float)[..., None] - self.center
        plateau, slope = -np.maximum(beyond, 0), np.minimum(beyond, 0) - (self.log_batch - self.center)
        if math.isinf(self.p):
            return np.maximum(plateau, slope)
        return np.asarray(np.logaddexp(self.p * plateau, self.p * slope) / self.p)

    def solve(self, u: npt.ArrayLike) -> tuple[Floats, Floats]:
        """The maximum-likelihood (level, sigma) at u; each (...). log S = level + offset."""
        rest = self.log_steps - self.offset(u)
        if self.reached.all():
            return rest.mean(-1), rest.std(-1)
        return censored_normal(rest, self.reached)

    def deviance(self, u: npt.ArrayLike) -> Floats:
        """-2 log L(u) up to a constant; (...). With all studies reached it is n log RSS(u), sigma >= `EXACT`."""
        level, sigma = self.solve(u)
        sigma = np.maximum(sigma, EXACT)
        residual = (self.log_steps - self.offset(u) - level[..., None]) / sigma[..., None]
        rows = np.where(self.reached, 2 * np.log(sigma)[..., None] + residual**2, -2 * special.log_ndtr(-residual))
        return np.asarray(rows.sum(-1))

    def slope(self, u: float) -> float:
        """A positive multiple of d deviance / du: the other parameters are stationary, so only the offset counts.

        Args:
            u: where.
        """
        level, sigma = self.solve(u)
        residual = self.log_steps - self.offset(u) - level
        if not self.reached.all():
            residual = np.where(self.reached, residual, sigma * hazard(residual / sigma))
        return -float(residual @ special.expit(self.p * (u - self.log_batch)))

    def curve(self, u: float) -> Hyperbola:
        """The asymptotes at u, as the hyperbola that has them; at p = 1 the curve itself."""
        level = float(self.solve(u)[0])
        return Hyperbola(s_min=math.exp(level - max(u - self.center, 0)), e_min=math.exp(level + min(u, self.center)))

    @cached_property
    def scan(self) -> tuple[Floats, Floats]:
        """Where u is scanned, the data's range and `REACH` beyond it on either side, and the deviance there."""
        low, high = self.log_batch.min() - math.log(REACH), self.log_batch.max() + math.log(REACH)
        grid = np.linspace(low, high, _GRID)
        return grid, self.deviance(grid)


def likelihood(log_batch: Floats, log_steps: Floats, reached: npt.NDArray[np.bool_]) -> Profile:
    """The likelihood of the hyperbola, without unreached studies where they cannot or need not enter.

    With two reached studies, or with points on a curve that the bounds do not contradict, sigma -> 0 makes the
    likelihood infinite there: the curve through the reached points is the answer.

    Args:
        log_batch: log batch size of all studies; (n,).
        log_steps: log steps to target, or log of the bound where not reached; (n,).
        reached: which; (n,).
    """
    x, y = log_batch, log_steps
    full, only = Profile(x, y, reached), Profile(x[reached], y[reached], reached[reached])
    if reached.all() or reached.sum() == 2:
        return only
    best = minimise(only)
    on_curve = float(only.solve(best)[1]) < EXACT
    bounds_kept = bool(np.all(np.log(only.curve(best).steps(np.exp(x[~reached]))) >= y[~reached]))
    return only if on_curve and bounds_kept else full


def minimise(profile: Profile) -> float:
    """Find the u with the smallest deviance; -inf or +inf where a limit of the curve is better than every hyperbola.

    Every local minimum of the scan is refined as a root of the slope, which is good to rounding (a minimiser would be
    good to its square root).

    Args:
        profile: the likelihood.
    """
    grid, deviance = profile.scan
    found = [-math.inf, math.inf]
    for i in range(1, _GRID - 1):
        if deviance[i] <= min(deviance[i - 1], deviance[i + 1]):
            low, high = float(grid[i - 1]), float(grid[i + 1])
            if profile.slope(low) < 0 < profile.slope(high):
                found.append(float(optimize.brentq(profile.slope, low, high, xtol=1e-14)))
    return found[int(np.argmin(profile.deviance(found)))]
