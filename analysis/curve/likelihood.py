"""The hyperbola, and the likelihood of a table of steps to target along log b_crit. The one owner of these formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]
Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Hyperbola:
    """Steps and examples to one target as functions of the batch size B.

    S(B) = s_min + e_min / B = s_min (1 + b_crit / B)
    E(B) = B S(B) = e_min (1 + B / b_crit),   so that   (S / s_min - 1) (E / e_min - 1) = 1.

    Assumes that hyperparameters are tuned afresh at every batch size and that the batch size is fixed during training.
    Source: McCandlish et al. 2018 (arXiv 1812.06162), eq. 2.11 and 2.12. The limits s_min = 0 (perfect scaling) and
    e_min = 0 (no gain from larger batches) are allowed, not both at once.
    """

    s_min: float  # steps that remain at an infinite batch size
    e_min: float  # examples that remain at a vanishing batch size

    @property
    def b_crit(self) -> float:
        """e_min / s_min, in examples: there S = 2 s_min and E = 2 e_min. Infinite where s_min = 0."""
        return self.e_min / self.s_min if self.s_min > 0 else math.inf

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """S(B), in steps; shape of `batch_size`."""
        return np.asarray(self.s_min + self.e_min / np.asarray(batch_size, dtype=float))

    def examples(self, batch_size: npt.ArrayLike) -> Floats:
        """E(B) = B S(B), in examples; shape of `batch_size`."""
        return np.asarray(self.s_min * np.asarray(batch_size, dtype=float) + self.e_min)

    def efficiency(self, batch_size: npt.ArrayLike) -> Floats:
        """e_min / E(B) = 1 / (1 + B / b_crit): the share of examples that is not wasted, in [0, 1]."""
        return np.asarray(self.e_min / self.examples(batch_size))

    def batch_size_for_steps(self, max_steps: float) -> float | None:
        """The smallest B with S(B) <= max_steps: B = e_min / (max_steps - s_min); 0 where every one will do.

        None if max_steps <= s_min: no batch size is large enough.
        """
        if max_steps > self.s_min:
            return self.e_min / (max_steps - self.s_min)
        return 0.0 if self.e_min == 0 and max_steps == self.s_min else None

    def batch_size_for_examples(self, max_examples: float) -> float | None:
        """The largest B with E(B) <= max_examples: B = (max_examples - e_min) / s_min.

        Infinite where every one will do; None if max_examples <= e_min: none is small enough.
        """
        if self.s_min == 0:
            return math.inf if max_examples >= self.e_min else None
        return (max_examples - self.e_min) / self.s_min if max_examples > self.e_min else None


_ITERATIONS = 200  # of damped Newton; about 10 are used


def hazard(z: Floats) -> Floats:
    """phi(z) / Phi(-z) of the standard normal, without overflow or cancellation at either end."""
    return np.asarray(math.sqrt(2 / math.pi) / special.erfcx(z / math.sqrt(2)))


def weight(z: Floats) -> Floats:
    """-d2 log Phi(-z) / dz2 = hazard (hazard - z): a censored value's information, an observed one's being 1."""
    rate = hazard(z)
    return np.clip(rate * (rate - z), 0.0, 1.0)


def censored_normal(values: Floats, reached: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Maximise the likelihood of a right-censored normal sample over its mean and standard deviation.

    log L = sum_reached [-log sigma - r^2 / 2] + sum_others log Phi(-r),   r = (value - mean) / sigma.

    In gamma = 1 / sigma and delta = mean / sigma, r = gamma value - delta is linear and log L is concave (Olsen 1978,
    "Note on the uniqueness of the maximum likelihood estimator for the Tobit model"), so damped Newton steps from
    anywhere reach the one maximum; 1 / (1 + decrement) is the damping for which -log gamma is never left (Boyd and
    Vandenberghe, section 9.6). Many samples are solved at once because a profile is scanned on a grid: values are
    (..., n), of which those that were reached, at least two that differ, are observations and the others bounds.
    """
    # Scaled by all values, the first residuals are of order one; sigma may then shrink by a half a step.
    center, spread = values.mean(-1, keepdims=True), values.std(-1, keepdims=True)
    scaled = (values - center) / spread
    gamma, delta = np.ones(values.shape[:-1]), np.zeros(values.shape[:-1])
    for _ in range(_ITERATIONS):
        residual = gamma[..., None] * scaled - delta[..., None]
        # d log L / dr and -d2 log L / dr2, row by row.
        slope = -np.where(reached, residual, hazard(residual))
        curvature = np.where(reached, 1.0, weight(residual))
        gradient_gamma = (slope * scaled).sum(-1) + reached.sum() / gamma
        gradient_delta = -slope.sum(-1)
        gg = (curvature * scaled**2).sum(-1) + reached.sum() / gamma**2
        gd = -(curvature * scaled).sum(-1)
        dd = curvature.sum(-1)
        determinant = gg * dd - gd**2
        # Where sigma has shrunk to the rounding of the values, no digit of it is left, and no step is better than none.
        per_determinant = np.divide(1.0, determinant, out=np.zeros_like(determinant), where=determinant > 0)
        step_gamma = (dd * gradient_gamma - gd * gradient_delta) * per_determinant
        step_delta = (gg * gradient_delta - gd * gradient_gamma) * per_determinant
        decrement = np.sqrt(np.maximum(gradient_gamma * step_gamma + gradient_delta * step_delta, 0.0))
        damping = np.where(decrement > 0.25, 1 / (1 + decrement), 1.0)
        gamma, delta = gamma + damping * step_gamma, delta + damping * step_delta
        if np.all(decrement < 1e-12):
            break
    return (center[..., 0] + spread[..., 0] * delta / gamma), spread[..., 0] / gamma


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
    """

    log_batch: Floats  # log batch size; (n,)
    log_steps: Floats  # log steps to target, or log of the bound where not reached; (n,)
    reached: npt.NDArray[np.bool_]  # which; at least two. (n,).
    p: float = 1.0  # sharpness of the knee, as of a `PNorm`; inf = two straight lines

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
        """A positive multiple of d deviance / du: the other parameters are stationary, so only the offset counts."""
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
    """
    grid, deviance = profile.scan
    found = [-math.inf, math.inf]
    for i in range(1, _GRID - 1):
        if deviance[i] <= min(deviance[i - 1], deviance[i + 1]):
            low, high = float(grid[i - 1]), float(grid[i + 1])
            if profile.slope(low) < 0 < profile.slope(high):
                found.append(float(optimize.brentq(profile.slope, low, high, xtol=1e-14)))
    return found[int(np.argmin(profile.deviance(found)))]
