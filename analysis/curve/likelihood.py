"""The one fit of curves with a knee: least squares of the logarithm, bounds for what was not seen.

Every curve is log y = level + offset(log B; u), u being the log batch size of its knee. The level and the scatter
follow in closed form for given u, so that only u is sought: the fit is global, and the same scan gives the interval.
Members are the hyperbola, the p-norm and two straight lines (`PowerSum`), the U (`Valley`), and the laws of the optimum
(`bcrit.analysis.optimum.laws`).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.numbers import Floats

Matrix = tuple[tuple[float, ...], ...]


_ITERATIONS = 200  # of damped Newton; about 10 are used


def hazard(z: Floats) -> Floats:
    """phi(z) / Phi(-z) of the standard normal, without overflow or cancellation at either end."""
    return np.asarray(math.sqrt(2 / math.pi) / special.erfcx(z / math.sqrt(2)))


def weight(z: Floats) -> Floats:
    """-d2 log Phi(-z) / dz2 = hazard (hazard - z): a censored value's information, an observed one's being 1."""
    rate = hazard(z)
    return np.clip(rate * (rate - z), 0.0, 1.0)


LEAST = 0.03
"""The least scatter of log S where some studies are known between two evaluations only: a curve may keep all of these,
and the likelihood has no maximum without it. Tuned studies scatter by 3 % or more (search-cost study)."""

MOST = 30.0
"""The most: where all studies are bounds, none may be the best. Chosen, far beyond what a table can have."""


def between(low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
    """Of a normal value between two bounds: log P, P = Phi(high) - Phi(low); phi(low) / P; phi(high) / P.

    Taken in the logarithm, on the side of the mean where both tails are small. Shapes of `low` and `high`.
    """
    flip = low + high > 0
    near, far = (special.log_ndtr(end) for end in (np.where(flip, -low, high), np.where(flip, -high, low)))
    log_p = near + np.log1p(-np.exp(np.minimum(far - near, -1e-15)))
    at_low, at_high = (np.exp(-(end**2) / 2 - math.log(2 * math.pi) / 2 - log_p) for end in (low, high))
    return np.asarray(log_p), at_low, at_high


def censored_normal(
    values: Floats, reached: npt.NDArray[np.bool_], lower: Floats | None = None
) -> tuple[Floats, Floats]:
    """Maximise the likelihood of a right-censored normal sample over its mean and standard deviation.

    log L = sum_reached [-log sigma - r^2 / 2] + sum_others log Phi(-r),   r = (value - mean) / sigma.

    In gamma = 1 / sigma and delta = mean / sigma, r = gamma value - delta is linear and log L is concave (Olsen 1978,
    "Note on the uniqueness of the maximum likelihood estimator for the Tobit model"), so damped Newton steps from
    anywhere reach the one maximum; 1 / (1 + decrement) is the damping for which -log gamma is never left (Boyd and
    Vandenberghe, section 9.6). Many samples are solved at once because a profile is scanned on a grid: values are
    (..., n), of which those that were reached, at least two that differ, are observations and the others bounds.

    Where a reached value is above its `lower`, (..., n), it lies between the two: its term is log(Phi(r) -
    Phi(r_lower)), which is concave too (Burridge 1981, "A note on maximum likelihood estimation for regression models
    using grouped data"), and the standard deviation lies from `LEAST` to `MOST`.
    """
    inside = np.zeros(values.shape, dtype=bool) if lower is None else reached & (lower < values)
    n_seen = (reached & ~inside).sum(-1)
    # Scaled by all values, the first residuals are of order one; sigma may then shrink by a half a step.
    center, spread = values.mean(-1, keepdims=True), values.std(-1, keepdims=True)
    spread = spread if lower is None else np.maximum(spread, LEAST)  # upper ends may lie on the curve by construction
    scaled = (values - center) / spread
    gamma, delta = np.ones(values.shape[:-1]), np.zeros(values.shape[:-1])
    below = scaled if lower is None else np.where(inside, (lower - center) / spread, scaled - 1.0)
    few, most = (0.0, np.inf) if lower is None else (spread[..., 0] / MOST, spread[..., 0] / LEAST)
    for _ in range(_ITERATIONS):
        residual = gamma[..., None] * scaled - delta[..., None]
        # d log L / dr and -d2 log L / dr2, row by row.
        slope = -np.where(reached, residual, hazard(residual))
        curvature = np.where(reached, 1.0, weight(residual))
        terms = slope * scaled, -slope, curvature * scaled**2, -curvature * scaled, curvature
        if lower is not None:
            bottom = gamma[..., None] * below - delta[..., None]
            _, low, high = between(bottom, residual)
            hh, ll, lh = -residual * high - high**2, bottom * low - low**2, low * high  # second derivatives of log P
            by_gamma = -(scaled**2 * hh + 2 * scaled * below * lh + below**2 * ll)
            both = scaled * hh + (scaled + below) * lh + below * ll
            own = high * scaled - low * below, low - high, by_gamma, both, -(hh + 2 * lh + ll)
            terms = tuple(np.where(inside, term, usual) for term, usual in zip(own, terms, strict=True))
        gradient_gamma, gradient_delta, gg, gd, dd = (term.sum(-1) for term in terms)
        gradient_gamma, gg = gradient_gamma + n_seen / gamma, gg + n_seen / gamma**2
        # Where values lie at one bound, the curvature in one direction is lost to rounding, and a step that way would
        # lead anywhere; of a curvature that is known this takes nothing. Without intervals sigma may shrink to the
        # rounding of the values: no digit of it is left then, and no step is better than none.
        determinant = gg * dd * (1.0 if lower is None else 1 + 1e-12) - gd**2
        per_determinant = np.divide(1.0, determinant, out=np.zeros_like(determinant), where=determinant > 0)
        step_gamma = (dd * gradient_gamma - gd * gradient_delta) * per_determinant
        step_delta = (gg * gradient_delta - gd * gradient_gamma) * per_determinant
        if lower is not None:
            held = np.where(step_gamma > 0, gamma >= most * (1 - 1e-12), gamma <= few * (1 + 1e-12))
            step_gamma, step_delta = np.where(held, 0.0, step_gamma), np.where(held, gradient_delta / dd, step_delta)
        decrement = np.sqrt(np.maximum(gradient_gamma * step_gamma + gradient_delta * step_delta, 0.0))
        damping = np.where(decrement > 0.25, 1 / (1 + decrement), 1.0)
        if lower is not None:  # a step ends at the bounds of sigma, not beside them
            end = np.where(step_gamma > 0, most, few)
            room = np.divide(end - gamma, step_gamma, out=np.ones_like(gamma), where=step_gamma != 0)
            damping = np.minimum(damping, room)
        gamma, delta = gamma + damping * step_gamma, delta + damping * step_delta
        if np.all(decrement < 1e-12):
            break
    return (center[..., 0] + spread[..., 0] * delta / gamma), spread[..., 0] / gamma


REACH = 1e8
"""b_crit is sought up to this factor beyond the batch sizes of the data. Further out the curve departs from its limit,
a straight line in log-log, by less than 1e-8 of S, which no table of steps resolves: the limit is then reported."""

EXACT = 1e-9
"""Residuals of log S below this are rounding, not scatter: points on the curve."""

_FLAT = 1e-9  # of a deviance: its rounding is less, and nothing that data say is as little
_GRID = 400  # points of the scan; a step of about 0.1 in log b_crit, far finer than the curve's knee (about 2)


class Shape(ABC):
    """The offset of a curve log y = level + offset(log B; u)."""

    reach: ClassVar[float] = REACH  # the knee is sought up to this factor beyond the batch sizes of the data
    limits: ClassVar[tuple[float, ...]] = ()  # values of u beyond, where the curve is its limit and still ordinary

    @abstractmethod
    def offset(self, log_batch: Floats, u: npt.ArrayLike) -> Floats:
        """Log y less its level; (..., n)."""

    @abstractmethod
    def slope(self, log_batch: Floats, u: float) -> Floats:
        """Its derivative with respect to u, up to a constant; (n,)."""


@dataclass(frozen=True)
class PowerSum(Shape):
    """S^p = s_min^p + (e_min / B)^p: log S = log s_min + log(1 + exp(p (u - log B))) / p with u = log b_crit.

    The offset is written relative to the level at the middle of the data, so that u = -inf (e_min = 0, flat) and
    u = +inf (s_min = 0, perfect scaling) are ordinary values.
    """

    p: float = 1.0  # sharpness of the knee, as of a `PNorm`; 1 = the hyperbola, inf = two straight lines
    limits: ClassVar[tuple[float, ...]] = (-math.inf, math.inf)

    def offset(self, log_batch: Floats, u: npt.ArrayLike) -> Floats:
        """log(1 + exp(p (u - log B))) / p - max(u - center, 0)."""
        beyond = np.asarray(u, dtype=float)[..., None] - log_batch.mean()
        plateau, slope = -np.maximum(beyond, 0), np.minimum(beyond, 0) - (log_batch - log_batch.mean())
        if math.isinf(self.p):
            return np.asarray(np.maximum(plateau, slope))
        return np.asarray(np.logaddexp(self.p * plateau, self.p * slope) / self.p)

    def above(self, log_batch: Floats, u: npt.ArrayLike) -> Floats:
        """log(S / s_min); (..., n)."""
        return np.asarray(np.logaddexp(0, self.p * (np.asarray(u, dtype=float)[..., None] - log_batch)) / self.p)

    def slope(self, log_batch: Floats, u: float) -> Floats:
        """The share w of the falling part: (e_min / B)^p / S^p."""
        z = u - log_batch
        return np.asarray(special.expit(self.p * z))

    def bending(self, log_batch: Floats, u: float) -> Floats:
        """D log S / d log p = z w - log(1 + exp(p z)) / p with z = u - log B; (n,)."""
        z = u - log_batch
        return np.asarray(z * self.slope(log_batch, u) - np.logaddexp(0, self.p * z) / self.p)


@dataclass(frozen=True)
class Valley(Shape):
    """The U, S = s_min + e / B + q / B^2: log S = log s_min + log(1 + exp(u - log B) + exp(2 (v - log B))).

    u = log(e / s_min) and v = log b_opt, since q = s_min b_opt^2.
    """

    log_b_opt: npt.ArrayLike  # v; broadcast against u

    def offset(self, log_batch: Floats, u: npt.ArrayLike) -> Floats:
        """log(S / s_min)."""
        return self.above(log_batch, u)

    def above(self, log_batch: Floats, u: npt.ArrayLike) -> Floats:
        """log(1 + exp(u - log B) + exp(2 (v - log B))); (..., n)."""
        first, second = (np.asarray(of, dtype=float)[..., None] - log_batch for of in (u, self.log_b_opt))
        return np.asarray(np.logaddexp(np.logaddexp(0, first), 2 * second))

    def slope(self, log_batch: Floats, u: float) -> Floats:
        """The share of e / B."""
        return np.asarray(np.exp(u - log_batch - self.offset(log_batch, u)))

    def bending(self, log_batch: Floats, u: float) -> Floats:
        """D log S / d v: twice the share of q / B^2; (n,)."""
        return np.asarray(2 * np.exp(2 * (np.asarray(self.log_b_opt) - log_batch) - self.offset(log_batch, u)))


@dataclass(frozen=True)
class Profile:
    """Deviance of a curve at a given u, the level and sigma being maximised out.

    Errors are normal in log y, with the same sigma everywhere or in the proportions that weights say. The model is a
    mean with a known offset, so that level and sigma follow in closed form (or, with unreached studies, from a concave
    problem). Only u is left to be sought, which makes the fit global, and exact under a change of either unit;
    deviance = -2 log likelihood up to a constant.
    """

    log_batch: Floats  # log batch size; (n,)
    log_steps: Floats  # log steps to target (of a law: log y), or log of the bound where not reached; (n,)
    reached: npt.NDArray[np.bool_]  # which; at least two. (n,).
    shape: Shape = PowerSum()
    weights: Floats | float = 1.0  # proportional to inverse variances; with all reached. (n,).
    # Log of the evaluation before, where a study is known to lie between the two only; log_steps elsewhere. (n,).
    lower: Floats | None = None

    def offset(self, u: npt.ArrayLike) -> Floats:
        """Of the curve; (..., n)."""
        return self.shape.offset(self.log_batch, u)

    def solve(self, u: npt.ArrayLike) -> tuple[Floats, Floats]:
        """The maximum-likelihood (level, sigma) at u; each (...). log y = level + offset."""
        rest = self.log_steps - self.offset(u)
        if self.lower is not None:
            return censored_normal(rest, self.reached, self.lower - self.offset(u))
        if not self.reached.all():
            return censored_normal(rest, self.reached)
        level = (self.weights * rest).mean(-1) / np.mean(self.weights)
        return np.asarray(level), np.sqrt((self.weights * (rest - level[..., None]) ** 2).mean(-1))

    def deviance(self, u: npt.ArrayLike, solved: tuple[Floats, Floats] | None = None) -> Floats:
        """-2 log L(u) up to a constant; (...). With all studies reached it is n log RSS(u), sigma >= `EXACT`."""
        level, sigma = solved or self.solve(u)
        sigma = np.maximum(sigma, EXACT)
        residual = (self.log_steps - self.offset(u) - level[..., None]) / sigma[..., None]
        seen = 2 * np.log(sigma)[..., None] + self.weights * residual**2
        if self.lower is not None:
            width = (self.log_steps - self.lower) / sigma[..., None]
            log_p, *_ = between(residual - np.where(width > 0, width, 1.0), residual)
            seen = np.where(width > 0, -2 * log_p, seen)
        return np.asarray(np.where(self.reached, seen, -2 * special.log_ndtr(-residual)).sum(-1))

    def expected(self, u: float) -> Floats:
        """Log y less the curve at u; of what is only bounded its expectation, given the bounds. (n,)."""
        level, sigma = self.solve(u)
        residual = self.log_steps - self.offset(u) - level
        if self.reached.all() and self.lower is None:
            return np.asarray(residual)
        found = np.where(self.reached, residual, sigma * hazard(residual / sigma))
        if self.lower is not None:
            width = self.log_steps - self.lower
            _, low, high = between((residual - np.where(width > 0, width, 1.0)) / sigma, residual / sigma)
            found = np.where(self.reached & (width > 0), sigma * (low - high), found)
        return found

    def slope(self, u: float) -> float:
        """A positive multiple of d deviance / du: the other parameters are stationary, so only the offset counts."""
        return -float((self.weights * self.expected(u)) @ self.shape.slope(self.log_batch, u))

    def curve(self, u: float) -> Hyperbola:
        """The asymptotes of a `PowerSum` at u, as the hyperbola that has them; at p = 1 and of a `Valley` the curve."""
        if isinstance(self.shape, Valley):
            s_min, b_opt = math.exp(float(self.solve(u)[0])), math.exp(float(np.asarray(self.shape.log_b_opt)))
            return Hyperbola(s_min, s_min * (math.exp(u) + 2 * b_opt), b_opt)
        level, center = float(self.solve(u)[0]), float(self.log_batch.mean())
        return Hyperbola(s_min=math.exp(level - max(u - center, 0)), e_min=math.exp(level + min(u, center)))

    @cached_property
    def scan(self) -> tuple[Floats, Floats]:
        """Where u is scanned, the data's range and `reach` beyond it on either side, and the deviance there."""
        reach = math.log(self.shape.reach)
        grid = np.linspace(self.log_batch.min() - reach, self.log_batch.max() + reach, _GRID)
        return grid, self.deviance(grid)

    def ends(self, best: float, allowed: float) -> tuple[float, float]:
        """The outermost u whose deviance is `allowed` above that of `best`; infinite where it does not rise so far."""
        threshold = float(self.deviance(best)) + allowed

        def excess(u: float) -> float:
            return float(self.deviance(u)) - threshold

        grid, deviance = self.scan
        apart = [*self.shape.limits, best]
        points, order = np.unique([*apart, *grid], return_index=True)
        inside = np.flatnonzero(np.concatenate([self.deviance(apart), deviance])[order] <= threshold)
        first, last = int(inside[0]), int(inside[-1])
        # Beyond the grid the curve is its limit, so an end that is not within the grid is open.
        edge = len(self.shape.limits) // 2
        low = -math.inf if first <= edge else float(optimize.brentq(excess, points[first - 1], points[first]))
        high = math.inf
        if last < len(points) - 1 - edge:
            high = float(optimize.brentq(excess, points[last], points[last + 1]))
        return low, high


def likelihood(
    log_batch: Floats, log_steps: Floats, reached: npt.NDArray[np.bool_], lower: Floats | None = None
) -> Profile:
    """The likelihood of the hyperbola, without unreached studies where they cannot or need not enter.

    With two reached studies, or with points on a curve that the bounds do not contradict, sigma -> 0 makes the
    likelihood infinite there: the curve through the reached points is the answer.
    """
    x, y = log_batch, log_steps
    full, only = Profile(x, y, reached, lower=lower), Profile(x[reached], y[reached], reached[reached])
    if lower is not None:
        only = replace(only, lower=lower[reached])
    if reached.all() or reached.sum() == 2:
        return only
    best = minimise(only)
    on_curve = float(only.solve(best)[1]) < EXACT
    bounds_kept = bool(np.all(np.log(only.curve(best).steps(np.exp(x[~reached]))) >= y[~reached]))
    return only if on_curve and bounds_kept else full


def minimise(profile: Profile) -> float:
    """Find the u with the smallest deviance; -inf or +inf where a limit of the curve is better than every knee.

    Every local minimum of the scan is refined as a root of the slope, which is good to rounding (a minimiser would be
    good to its square root). Where the deviance is flat, as wide intervals leave it, there is nothing to refine, and
    which of equals is taken is not left to rounding: a limit, or the smallest.
    """
    grid, deviance = profile.scan
    found = list(profile.shape.limits or (float(grid[0]), float(grid[-1])))
    for i in range(1, _GRID - 1):
        if deviance[i] <= min(deviance[i - 1], deviance[i + 1]):
            low, high = float(grid[i - 1]), float(grid[i + 1])
            if max(deviance[i - 1], deviance[i + 1]) - deviance[i] < _FLAT:
                found.append(float(grid[i]))
            elif profile.slope(low) < 0 < profile.slope(high):
                found.append(float(optimize.brentq(profile.slope, low, high, xtol=1e-14)))
    reached = profile.deviance(found)
    return found[int(np.argmax(reached < reached.min() + _FLAT))]
