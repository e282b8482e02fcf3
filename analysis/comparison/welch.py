"""The difference of two numbers from independent fits: Welch's t, and Holm's correction for looking at many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from bcrit.analysis.curve.likelihood import EXACT


@dataclass(frozen=True)
class LogRatio:
    """log(run / baseline) of a number, with its interval.

    Attributes:
        value: the estimate; -inf and inf where one of the two lies at its limit.
        low: lower end; -inf = open.
        high: upper end; inf = open.
        p_value: of "the ratio is 1", two-sided.
    """

    value: float
    low: float
    high: float
    p_value: float


def freedom(share: float, freedoms: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of two estimated variances.

    1 / (w^2 / f_1 + (1 - w)^2 / f_2), w being the first one's share of the sum (Welch 1947, "The generalization of
    Student's problem"; Satterthwaite 1946). It lies between the smaller of the two and their sum.

    Args:
        share: w, in [0, 1].
        freedoms: f_1 and f_2, each 1 or more; infinite for a variance that is known.
    """
    inverse = share**2 / freedoms[0] + (1 - share) ** 2 / freedoms[1]
    return 1 / inverse if inverse > 0 else math.inf


def tail(t: float, degrees: float) -> float:
    """P(|T| > t) of Student's t."""
    return 2 * float(special.stdtr(degrees, -abs(t)))


def welch(value: float, variances: tuple[float, float], freedoms: tuple[float, float], level: float) -> LogRatio:
    """Interval and test of a difference of two independent estimates, each with its own estimated variance.

    value +- t(nu) sqrt(v_1 + v_2) with the degrees of freedom nu of `freedom`. The two scatters are not pooled: a
    noisier way of training has every right to scatter more.

    Args:
        value: the difference, of logarithms.
        variances: of the two estimates.
        freedoms: behind each variance, 1 or more.
        level: confidence, in (0, 1).

    Returns:
        The difference; without width where both estimates are exact.
    """
    total = variances[0] + variances[1]
    if math.sqrt(total) < EXACT:
        return LogRatio(value, value, value, float(abs(value) < EXACT))
    degrees = freedom(variances[0] / total, freedoms)
    half = float(special.stdtrit(degrees, (1 + level) / 2)) * math.sqrt(total)
    return LogRatio(value, value - half, value + half, tail(value / math.sqrt(total), degrees))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false "differs" among them stays below the level (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, and none may be smaller than those before it.

    Args:
        p_values: of all tests that are looked at together.

    Returns:
        Adjusted p-values in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


__all__ = ["LogRatio", "freedom", "holm", "tail", "welch"]
