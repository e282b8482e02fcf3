"""The fit of a law: least squares on the logarithm, with profile intervals.

The level is linear in log y, so the fit is a scan over the knee and the exponent, which is global; the same scan gives
the intervals of every parameter and of the law itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.optimum.laws import Law

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95
"""Confidence of the intervals."""

REACH: Final = math.log(1e3)
"""The knee is sought up to this factor beyond the batch sizes of the data; further out none is seen. Chosen."""

_KNEES, _EXPONENTS = 160, 21  # points of the scan in log B_n and in the exponent
_ZOOMS = 3  # times the scan is refined about its best point, each time tenfold
_EXACT = 1e-6  # residuals of log y below this are rounding: a law that holds exactly


@dataclass(frozen=True)
class Estimate:
    """A parameter with its interval; an end is NaN where the data give none, infinite or 0 where it is open."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class LawFit:
    """A law fitted to the studies of one run.

    Attributes:
        law: which.
        parameters: by name: `y_max` (or `a`), `g`, `B_n`, as far as the law has them free.
        residuals: log(y / law), one a study; (n,).
        sum_of_squares: of residuals divided by half-widths.
        aicc: Akaike's criterion for small samples, normal scatter of a fitted scale; None with too few studies.
        freedom: studies minus parameters.
        knees: u of all (u, g, a) that the data allow, the best first; (m,).
        exponents: their g; (m,).
        levels: their a; (m,).
        slack: how far a may be moved there within the interval; (m,).
        scatter: standard deviation of one study about the law, at the median half-width; NaN without freedom.
    """

    law: Law
    parameters: dict[str, Estimate]
    residuals: Floats
    sum_of_squares: float
    aicc: float | None
    freedom: int
    knees: Floats
    exponents: Floats
    levels: Floats
    slack: Floats
    scatter: float

    def log_value(self, batch_size: npt.ArrayLike) -> Floats:
        """Log y on the law; shape of `batch_size`."""
        log_b = np.log(np.asarray(batch_size, dtype=float))
        return np.asarray(self.levels[0] + self.exponents[0] * self.law.x(log_b, self.knees[0]))

    def predict(self, batch_size: float) -> Estimate:
        """Y of a new study at a batch size: the law's uncertainty and the scatter of a study about it together.

        Args:
            batch_size: inside or outside of the studies.

        Returns:
            The value; its interval is NaN without freedom.
        """
        log_b = math.log(batch_size)
        middle = self.levels + self.exponents * self.law.x(log_b, self.knees)
        value = float(middle[0])
        if self.freedom < 1:
            return Estimate(math.exp(value), math.nan, math.nan)
        beyond = float(special.stdtrit(self.freedom, (1 + LEVEL) / 2)) * self.scatter
        low = value - math.hypot(value - float((middle - self.slack).min()), beyond)
        high = value + math.hypot(float((middle + self.slack).max()) - value, beyond)
        return Estimate(*(math.exp(end) for end in (value, low, high)))


def fit_law(law: Law, log_batch: Floats, log_value: Floats, half_width: Floats) -> LawFit | None:
    """Fit a law by least squares, each study weighted by the inverse square of the half-width of its near-optimal set.

    The widths say how studies compare, not how far they scatter: that scale is estimated from the residuals, so that
    intervals are t intervals and a run whose best points are known better than their sets are wide is not punished.

    Args:
        law: which.
        log_batch: log batch size; (n,).
        log_value: log of the hyperparameter, middle of the near-optimal set; (n,).
        half_width: half the width of the set, in log; above 0; (n,).

    Returns:
        The fit; None with fewer studies than parameters.
    """
    n = len(log_batch)
    if n < law.n_parameters:
        return None
    weight, freedom = half_width**-2.0, n - law.n_parameters
    quantile = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) if freedom else math.nan
    allowed = 1 + quantile**2 / freedom if freedom else 1.0  # of the least sum of squares: the t interval's rule
    u, g = _scan(law, log_batch, log_value, weight)
    for zoom in range(_ZOOMS + 1):
        _, squares = _levels(law, log_batch, log_value, weight, u, g)
        best = int(np.argmin(squares))
        places = _near(law, u, g, best) if zoom < _ZOOMS else _filled(u, g, squares <= squares[best] * allowed)
        u, g = np.concatenate([u, places[0]]), np.concatenate([g, places[1]])
    level, squares = _levels(law, log_batch, log_value, weight, u, g)
    best = int(np.argmin(squares))
    least = float(squares[best])
    inside = np.flatnonzero(squares <= least * allowed) if freedom else np.array([best])
    order = np.concatenate([[best], inside[inside != best]])
    slack = np.sqrt(np.maximum(least * allowed - squares[order], 0) / weight.sum())
    residuals = log_value - level[best] - g[best] * law.x(log_batch, u[best])
    scatter = math.sqrt(least / freedom) * float(np.median(half_width)) if freedom else math.nan
    fit = LawFit(
        law, {}, residuals, least, _aicc(least, n, law.n_parameters), freedom, u[order], g[order], level[order], slack,
        scatter,
    )  # fmt: skip
    fit.parameters.update(_parameters(fit, log_batch))
    return fit


def _scan(law: Law, log_batch: Floats, log_value: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """All (u, g) to try first."""
    u = np.zeros(1)
    if law.has_knee:
        u = np.linspace(log_batch.min() - REACH, log_batch.max() + REACH, _KNEES)
    g = np.array([law.exponents[0]])
    if math.isinf(law.exponents[1]):
        g = _free_exponents(log_batch, log_value, weight)
    elif law.free_exponent:
        g = np.linspace(*law.exponents, _EXPONENTS)
    return np.repeat(u, len(g)), np.tile(g, len(u))


def _free_exponents(log_batch: Floats, log_value: Floats, weight: Floats) -> Floats:
    """The slope of the weighted line and the places about it, out to the ends of its t interval exactly."""
    x = log_batch - np.average(log_batch, weights=weight)
    y = log_value - np.average(log_value, weights=weight)
    squares = float((weight * x**2).sum())
    slope, freedom = float((weight * x * y).sum()) / squares, len(x) - 2
    if freedom < 1:
        return np.array([slope])
    error = math.sqrt(float((weight * (y - slope * x) ** 2).sum()) / freedom / squares)
    reach = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error * (1 - 1e-12)  # the ends stay within the interval
    return np.concatenate([[slope], slope + np.linspace(-reach, reach, 201)])


def _near(law: Law, u: Floats, g: Floats, best: int) -> tuple[Floats, Floats]:
    """A finer scan about the best point: as wide as its neighbours on the scan so far."""
    places = [np.array([u[best]]), np.array([g[best]])]
    for axis, (values, wanted) in enumerate(((u, law.has_knee), (g, math.isfinite(law.exponents[1])))):
        others = np.unique(values)
        if not wanted or len(others) < 2:
            continue
        at = int(np.searchsorted(others, values[best]))
        low, high = others[max(at - 1, 0)], others[min(at + 1, len(others) - 1)]
        places[axis] = np.linspace(low, high, 21)
    return np.repeat(places[0], len(places[1])), np.tile(places[1], len(places[0]))


def _filled(u: Floats, g: Floats, inside: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """A finer scan in u of what the data allow and of one step beyond, so that the interval's ends are fine as well."""
    knees = np.unique(u)
    if len(knees) < 2:
        return u[:0], g[:0]
    first, last = (int(np.searchsorted(knees, end)) for end in (u[inside].min(), u[inside].max()))
    fine = np.linspace(knees[max(first - 1, 0)], knees[min(last + 1, len(knees) - 1)], _KNEES)
    exponents = np.unique(g[inside])[:: max(1, len(np.unique(g[inside])) // _EXPONENTS)]
    return np.repeat(fine, len(exponents)), np.tile(exponents, len(fine))


def _levels(
    law: Law, log_batch: Floats, log_value: Floats, weight: Floats, u: Floats, g: Floats
) -> tuple[Floats, Floats]:
    """The best level at every (u, g), and the weighted sum of squares that it leaves; each (m,)."""
    rest = log_value - g[:, None] * law.x(log_batch, u[:, None])
    level = (rest * weight).sum(-1) / weight.sum()
    return level, (weight * (rest - level[:, None]) ** 2).sum(-1)


def _aicc(squares: float, n: int, parameters: int) -> float | None:
    """N log(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1), k counting the scale (Hurvich and Tsai 1989)."""
    k = parameters + 1
    if n - k - 1 < 1:
        return None
    return n * math.log(max(squares / n, _EXACT**2)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _parameters(fit: LawFit, log_batch: Floats) -> dict[str, Estimate]:
    law, known = fit.law, fit.freedom > 0
    found = {}
    low, high = (fit.levels - fit.slack).min(), (fit.levels + fit.slack).max()
    found["y_max" if law.has_knee else "a"] = _between(fit.levels[0], low, high, known, exp=True)
    if law.free_exponent:
        found["g"] = _between(fit.exponents[0], fit.exponents.min(), fit.exponents.max(), known)
    if law.has_knee:
        start, end = log_batch.min() - REACH, log_batch.max() + REACH
        lowest, highest = fit.knees.min(), fit.knees.max()
        low, high = (-math.inf if lowest <= start else lowest), (math.inf if highest >= end else highest)
        found["B_n"] = _between(fit.knees[0], low, high, known, exp=True)
        if math.isinf(high):  # beyond the data a knee and a level cannot be told apart
            found["y_max"] = Estimate(found["y_max"].value, found["y_max"].low, math.inf if known else math.nan)
    return found


def _between(value: float, low: float, high: float, known: bool, exp: bool = False) -> Estimate:
    ends = (float(value), float(low) if known else math.nan, float(high) if known else math.nan)
    with np.errstate(over="ignore"):
        return Estimate(*(float(np.exp(end)) if exp else end for end in ends))


__all__ = ["LEVEL", "Estimate", "LawFit", "fit_law"]
