"""The difference of two numbers that were estimated independently: Welch's t, and Holm's correction for many looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from bcrit.analysis.numbers.estimate import LEVEL, Estimate

_EXACT = 1e-9  # a standard error below this is rounding, not scatter


def freedom(share: float, freedoms: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of two estimated variances, of which the first is this share.

    1 / (w^2 / f_1 + (1 - w)^2 / f_2), w being the first one's share of the sum (Welch 1947, "The generalization of
    Student's problem"; Satterthwaite 1946). It lies between the smaller of the two and their sum; each is 1 or more,
    and infinite for a variance that is known.
    """
    inverse = share**2 / freedoms[0] + (1 - share) ** 2 / freedoms[1]
    return 1 / inverse if inverse > 0 else math.inf


def tail(t: float, degrees: float) -> float:
    """P(|T| > t) of Student's t."""
    return 2 * float(special.stdtr(degrees, -abs(t)))


def welch(
    value: float, variances: tuple[float, float], freedoms: tuple[float, float], level: float = LEVEL
) -> tuple[Estimate, float]:
    """Interval and p-value of a difference of two independent estimates, each with its own estimated variance.

    value +- t(nu) sqrt(v_1 + v_2) with the degrees of freedom nu of `freedom`. The two scatters are not pooled: a
    noisier way of training has every right to scatter more. The difference of two exact numbers has no width.
    """
    total = variances[0] + variances[1]
    if math.sqrt(total) < _EXACT:
        return Estimate(value, value, value, level), float(abs(value) < _EXACT)
    degrees = freedom(variances[0] / total, freedoms)
    p_value = tail(value / math.sqrt(total), degrees)
    return Estimate.t(value, math.sqrt(total), degrees, level=level), p_value


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false "differs" among them stays below the level (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, and none may be smaller than those before it. The order stays.

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
