"""Batch sizes at which something definite happens on a curve, as multiples of b_crit, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Landmark = Callable[[float], float]
"""log(B / b_crit) of the batch size, as a function of the sharpness p of S = s_min (1 + (b_crit / B)^p)^(1/p)."""

_STEP = 1e-4  # of log p in the central difference; the error is of its square


@dataclass(frozen=True)
class Place:
    """A batch size with its interval.

    Attributes:
        batch_size: the estimate; None where it is not identified.
        low: lower end; 0 = open.
        high: upper end; inf = open.
    """

    batch_size: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Knee:
    """Where a fitted curve bends, with what is needed to carry its uncertainty to a landmark.

    Attributes:
        place: of b_crit, where the asymptotes cross.
        p: sharpness; 1 for the hyperbola.
        covariance: of (log b_crit, log p); None where p is fixed, or not known well enough.
        t: quantile of Student's t for that covariance.
    """

    place: Place
    p: float = 1.0
    covariance: tuple[tuple[float, float], tuple[float, float]] | None = None
    t: float = math.inf

    def at(self, landmark: Landmark) -> Place:
        """The landmark on this curve.

        With p fixed it is a multiple of b_crit, and so are the ends of its interval. With p fitted, log B = log b_crit
        + g(p) has the variance v11 + 2 g' v12 + g'^2 v22, g' being dg / d log p (delta method).

        Args:
            landmark: its log(B / b_crit) by p.

        Returns:
            The batch size and its interval; both ends open where the covariance is not known.
        """
        size, ratio = self.place.batch_size, math.exp(landmark(self.p))
        if self.p == 1.0 and self.covariance is None:
            return Place(None if size is None else size * ratio, self.place.low * ratio, self.place.high * ratio)
        if size is None or self.covariance is None:
            return Place(None if size is None else size * ratio, 0.0, math.inf)
        ends = [landmark(self.p * math.exp(step)) for step in (-_STEP, _STEP)]
        slope = (ends[1] - ends[0]) / (2 * _STEP)
        (v11, v12), (_, v22) = self.covariance
        half = min(self.t * math.sqrt(max(v11 + 2 * slope * v12 + slope**2 * v22, 0.0)), 700.0)
        return Place(size * ratio, size * ratio * math.exp(-half), size * ratio * math.exp(half))


def crossing(p: float) -> float:
    """Where the two asymptotes S = s_min and S = e_min / B cross: at b_crit by definition."""
    return 0.0


def steps_are(factor: float) -> Landmark:
    """Where S = factor s_min: 1 + (b_crit / B)^p = factor^p."""
    return lambda p: -math.log(math.expm1(p * math.log(factor))) / p


def examples_are(factor: float) -> Landmark:
    """Where E = factor e_min: E / e_min = (1 + (B / b_crit)^p)^(1/p)."""
    return lambda p: math.log(math.expm1(p * math.log(factor))) / p


def doubling_saves(share: float) -> Landmark:
    """Where doubling the batch size saves this share of the steps: S(2B) = c S(B) with c = 1 - share.

    With r = (b_crit / B)^p: 1 + r / 2^p = c^p (1 + r), so that r = (1 - c^p) / (c^p - 2^-p). For the hyperbola and a
    share of 0.1 this is r = 1/4, B = 4 b_crit.
    """

    def landmark(p: float) -> float:
        kept = (1 - share) ** p
        return -math.log((1 - kept) / (kept - 0.5**p)) / p

    return landmark
