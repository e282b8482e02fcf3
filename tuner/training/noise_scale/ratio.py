"""A noise scale as a ratio of two averages, with Fieller's interval, or a reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

MIN_BLOCKS = 10  # chosen: the simulated coverage of the interval was not checked with fewer
MAX_BLOCKS = 20  # Schmeiser 1982: 10 to 30 batch means are enough, and the longer they are the less they correlate


@dataclass(frozen=True)
class Ratio:
    """A noise scale.

    Attributes:
        numerator: tr(Sigma), or tr(H Sigma).
        denominator: |G|^2, or G'HG.
        numerator_error: standard error.
        denominator_error: standard error.
        value: numerator / denominator; None where it is not resolved.
        low: of the interval; where the value is not resolved, a one-sided lower bound of the same level; at least 0.
        high: of the interval; None where the value is not resolved: any number above `low` is then possible.
        level: of confidence.
        n_blocks: independent blocks of steps or examples behind the errors.
        n_set_aside: steps left out because a gradient was not finite.
        reason: why it is not resolved; empty where it is.
    """

    numerator: float
    denominator: float
    numerator_error: float
    denominator_error: float
    value: float | None
    low: float
    high: float | None
    level: float
    n_blocks: int
    n_set_aside: int
    reason: str

    @property
    def resolved(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def __str__(self) -> str:
        share = f"{100 * self.level:g} %"
        if self.value is None:
            return f"not resolved (at least {self.low:.3g} with {share}): {self.reason}"
        return f"{self.value:.3g} ({share}: {self.low:.3g} ... {self.high:.3g})"


@dataclass(frozen=True)
class SimpleScale:
    """b_simple of all parameters together and of each named group.

    Attributes:
        total: of all parameters.
        groups: of each group by its name; their numerators and denominators add up to the total's.
        n_steps: optimizer updates, or examples at one checkpoint, that were averaged.
        rows: rows an update at the end of them; at one checkpoint the number of examples.
    """

    total: Ratio
    groups: Mapping[str, Ratio]
    n_steps: int
    rows: int

    @property
    def b_simple(self) -> float | None:
        """tr(Sigma) / |G|^2, None where it is not resolved."""
        return self.total.value

    def __str__(self) -> str:
        return f"b_simple = {self.total}"


def fieller(
    point: NDArray[np.float64],
    covariance: NDArray[np.float64],
    n_blocks: int,
    level: float,
    name: str,
    n_set_aside: int = 0,
) -> Ratio:
    """The ratio with its interval (Fieller 1954).

    A ratio r is in the interval when numerator - r denominator is no further from 0 than t of its own standard errors,

        (s - r d)^2 <= t^2 (var s - 2 r cov(s, d) + r^2 var d),    t with n_blocks - 1 degrees of freedom.

    Unlike value +- t errors this is exact for Gaussian averages, also where the denominator is poorly known, and it
    tells by itself when the ratio is not identified: it is bounded exactly if d > t sqrt(var d).

    Args:
        point: averages of numerator and denominator, shape (2,).
        covariance: of these averages, shape (2, 2).
        n_blocks: independent blocks it was estimated from.
        level: of confidence, in (0, 1).
        name: of the denominator, for the reason.
        n_set_aside: passed on.

    Returns:
        With a value if the interval is bounded and there are `MIN_BLOCKS` blocks.
    """
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    s, d = float(point[0]), float(point[1])
    facts = (s, d, float(errors[0]), float(errors[1]))
    if n_blocks < MIN_BLOCKS:
        reason = (
            f"{n_blocks} blocks are too few for an interval, which needs {MIN_BLOCKS}; measure more steps or examples"
        )
        return Ratio(*facts, None, 0.0, None, level, n_blocks, n_set_aside, reason)
    t = student((1.0 + level) / 2.0, n_blocks - 1)
    if d > t * errors[1]:
        low, high = _roots(s, d, covariance, t)
        return Ratio(*facts, s / d, max(0.0, low), high, level, n_blocks, n_set_aside, "")
    t = student(level, n_blocks - 1)
    roots = _roots(s, d, covariance, t)
    # At r = 0 the numerator is significantly above r times the denominator; the first root is where that ends.
    low = min((r for r in roots if r > 0), default=0.0) if s > t * errors[0] else 0.0
    sign, remedy = "not significantly positive", "measure more steps or examples"
    if d < -t * errors[1]:
        sign, remedy = "significantly negative", "more data will not change that"
    reason = f"{name} = {d:.3g} +- {errors[1]:.2g} is {sign}; {remedy}"
    return Ratio(*facts, None, low, None, level, n_blocks, n_set_aside, reason)


def _roots(s: float, d: float, covariance: NDArray[np.float64], t: float) -> tuple[float, float]:
    """Both solutions r of (s - r d)^2 = t^2 var(s - r d), in order."""
    a = d**2 - t**2 * float(covariance[1, 1])
    b = s * d - t**2 * float(covariance[0, 1])
    c = s**2 - t**2 * float(covariance[0, 0])
    if a == 0.0:
        only = c / (2.0 * b) if b != 0.0 else 0.0
        return only, only
    root = math.sqrt(max(b * b - a * c, 0.0))  # not negative but for rounding where d or s is significant
    first, second = sorted(((b - root) / a, (b + root) / a))
    return first, second


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t (Abramowitz and Stegun 1964, eq. 26.7.5): to 0.001 from 5 degrees of freedom at 0.975.

    Their series in 1/freedom, so that a training loop need not have SciPy.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + math.fsum(term / float(freedom ** (k + 1)) for k, term in enumerate(terms))
