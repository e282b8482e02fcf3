"""Which laws the near-optimal sets of a run allow, and which of those the data prefer; none may be the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.optimum.law_fit import LawFit, fit_law
from bcrit.analysis.optimum.laws import Law

Floats = npt.NDArray[np.float64]
Kind = Literal["one", "several", "none", "too few"]

REJECT: Final = 0.05
"""A law is rejected where the near-optimal sets miss it with less than this probability."""

WORSE: Final = 0.95
"""A law that passes is set aside where it fits worse than the best-fitting one by more than an F test at this level
allows."""

FEWEST: Final = 4
"""Studies below which nothing is said: a line through three points leaves one degree of freedom. Chosen."""

_NARROWEST = 0.02  # half-width in log below which nothing is resolved: 2 %, the spacing of evaluations by default


@dataclass(frozen=True, eq=False)
class Fitted:
    """A law with what speaks for and against it.

    Attributes:
        fit: the law as fitted.
        p_value: probability of missing the near-optimal sets by this much if the law holds and the middle of a set lies
            anywhere in it; None without freedom.
        misses: batch sizes whose near-optimal set, of the half-width that is used, does not hold the law.
        rejected: whether p_value is below `REJECT`.
        delta: AICc above the least of the laws that are not rejected; None where it cannot be computed.
    """

    fit: LawFit
    p_value: float | None
    misses: tuple[float, ...]
    rejected: bool
    delta: float | None

    @property
    def law(self) -> Law:
        """Which law."""
        return self.fit.law


@dataclass(frozen=True, eq=False)
class LawVerdict:
    """What the studies say of the laws for one hyperparameter.

    Attributes:
        batch_sizes: of the studies with a near-optimal set; (n,).
        values: middles of the sets; (n,).
        half_width: half-widths that were used, in log; (n,).
        laws: every law that could be fitted.
        kind: `one` (a single law is supported), `several` (they cannot be told apart), `none` (all are rejected),
            `too few` (studies).
        supported: names of the laws that the data allow, the one with the least AICc first.
    """

    batch_sizes: Floats
    values: Floats
    half_width: Floats
    laws: tuple[Fitted, ...]
    kind: Kind
    supported: tuple[str, ...]

    def law(self, name: str) -> Fitted:
        """A law by name."""
        return next(fitted for fitted in self.laws if fitted.law.name == name)

    @property
    def chosen(self) -> Fitted | None:
        """The best supported law; None where none is."""
        return self.law(self.supported[0]) if self.supported else None


def judge(
    laws: Sequence[Law],
    batch_sizes: Floats,
    values: Floats,
    low: Floats,
    high: Floats,
    spreads: Sequence[tuple[float, int]] = (),
) -> LawVerdict:
    """Fit laws and judge them.

    A law passes if sum over studies of (residual / (half-width / sqrt 3))^2 is no larger than chi^2(n - parameters)
    allows: half-width / sqrt 3 is the standard deviation of a value that may lie anywhere in its set. The half-width of
    a set of few points is itself poorly known, so none is taken to be smaller than the pooled spread of the points
    within sets makes it. Sets that are wide because the hyperparameter hardly matters let every law pass: that is what
    the data say.

    Of the laws that pass, the scatter about them decides: one is set aside where an F test against the law with the
    least scatter says that it fits worse, or where it only generalises one that stays: a free exponent beside the one
    fixed exponent that stays, or a knee that lies beyond the measured batch sizes, where none can be seen. AICc orders
    the others but does not exclude: with six studies its penalty for a second parameter is 10, so that it would declare
    a straight line the only law where a knee is there (in 40 to 60 % of simulated runs). With nine studies that scatter
    by 0.25 in log, the right law is among those that stay in 91 to 99 % of runs, and a zigzag is always rejected.

    Args:
        laws: which.
        batch_sizes: of studies with a near-optimal set; (n,).
        values: positive; middles of the sets; (n,).
        low: lower ends of the sets; (n,).
        high: upper ends; (n,).
        spreads: (standard deviation in log, points) of each set.

    Returns:
        The verdict.
    """
    log_b, log_y = np.log(batch_sizes), np.log(values)
    width = np.maximum((np.log(high) - np.log(low)) / 2, max(_NARROWEST, math.sqrt(3) * _pooled(spreads)))
    fits = [found for law in laws if (found := fit_law(law, log_b, log_y, width)) is not None]
    judged = [_judged(found, batch_sizes, width) for found in fits]
    if len(batch_sizes) < FEWEST:
        return LawVerdict(batch_sizes, values, width, tuple(judged), "too few", ())
    criteria = [j.fit.aicc for j in judged if j.fit.aicc is not None and not j.rejected]
    judged = [_with_delta(j, min(criteria, default=math.nan)) for j in judged]
    supported = _supported([j for j in judged if not j.rejected and j.fit.freedom > 0], log_b)
    kind: Kind = "none" if not supported else "one" if len(supported) == 1 else "several"
    return LawVerdict(batch_sizes, values, width, tuple(judged), kind, tuple(j.law.name for j in supported))


def _supported(passing: list[Fitted], log_b: Floats) -> list[Fitted]:
    """The laws among the passing ones that the scatter allows, without those that only generalise another."""
    if not passing:
        return []
    best = min((j.fit for j in passing), key=lambda fit: fit.sum_of_squares / fit.freedom)
    stay = [j for j in passing if j.fit is best or not _is_worse(j.fit, best)]
    seen = [j for j in stay if not j.law.has_knee or log_b.min() < j.fit.knees[0] < log_b.max()]
    stay = seen or stay
    for shape in ("power", "saturating"):
        fixed = [j for j in stay if j.law.shape == shape and not j.law.free_exponent]
        if len(fixed) == 1:
            stay = [j for j in stay if j.law.shape != shape or not j.law.free_exponent]
    return sorted(stay, key=lambda j: math.inf if j.delta is None else j.delta)


def _is_worse(fit: LawFit, best: LawFit) -> bool:
    """An F test of the sums of squares; laws of equally many parameters count as one apart."""
    if best.sum_of_squares <= 0:
        return fit.sum_of_squares > 0
    apart = max(1, fit.freedom - best.freedom)
    ratio = (fit.sum_of_squares - best.sum_of_squares) / apart / (best.sum_of_squares / best.freedom)
    return float(special.fdtr(apart, best.freedom, max(ratio, 0.0))) > WORSE


def _pooled(spreads: Sequence[tuple[float, int]]) -> float:
    freedom = sum(n - 1 for _, n in spreads)
    return math.sqrt(sum((n - 1) * sd**2 for sd, n in spreads) / freedom) if freedom else 0.0


def _judged(fit: LawFit, batch_sizes: Floats, half_width: Floats) -> Fitted:
    p_value = float(special.chdtrc(fit.freedom, 3 * fit.sum_of_squares)) if fit.freedom > 0 else None
    misses = tuple(float(b) for b in batch_sizes[np.abs(fit.residuals) > half_width])
    return Fitted(fit, p_value, misses, p_value is not None and p_value < REJECT, None)


def _with_delta(fitted: Fitted, least: float) -> Fitted:
    delta = None if fitted.fit.aicc is None or math.isnan(least) else fitted.fit.aicc - least
    return Fitted(fitted.fit, fitted.p_value, fitted.misses, fitted.rejected, delta)


__all__ = ["FEWEST", "REJECT", "WORSE", "Fitted", "Kind", "LawVerdict", "judge"]
