"""A straight line through correlated points, and how many independent ones they are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StraightLine:
    """y = intercept + slope x by least squares.

    Attributes:
        intercept: in units of y.
        slope: in units of y / x.
        residuals: shape (n,), in the order of the points.
        rss: sum of their squares; not below the rounding of y to float32, so that exact numbers have a scale too.
        spread: sum of squares of x about its mean.
        n: points.
        independent: n' = n (1 - rho) / (1 + rho), rho being the residuals' correlation from one to the next (0 if
            negative): as many independent points know as much about the mean in a first-order autoregression.
        reach: range of y.
    """

    intercept: float
    slope: float
    residuals: Floats
    rss: float
    spread: float
    n: int
    independent: float
    reach: float


def straight_line(x: Floats, y: Floats) -> StraightLine:
    """Fit the line to two points or more, not all at one x."""
    centred, reach = x - x.mean(), float(np.ptp(y))
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    residuals = y - y.mean() - slope * centred
    rss = max(float(residuals @ residuals), len(x) * (1e-7 * max(reach, float(np.abs(y).max()))) ** 2)
    rho = min(max(float(residuals[:-1] @ residuals[1:]) / rss, 0.0), 0.99)
    independent = len(x) * (1 - rho) / (1 + rho)
    return StraightLine(float(y.mean() - slope * x.mean()), slope, residuals, rss, spread, len(x), independent, reach)


def t_quantile(freedom: float, level: float) -> float:
    """Half-width of Student's interval in standard errors."""
    return float(special.stdtrit(freedom, (1 + level) / 2))


__all__ = ["Floats", "StraightLine", "straight_line", "t_quantile"]
