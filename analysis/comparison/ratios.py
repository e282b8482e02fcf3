"""The ratios of s_min, e_min and b_crit of every two runs, and which of them are more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, Literal

from bcrit.analysis.comparison.b_crit_ratio import b_crit_ratio
from bcrit.analysis.comparison.source import NUMBERS, Side
from bcrit.analysis.comparison.welch import holm, welch

Verdict = Literal["differs", "no difference seen", "not comparable"]

ALPHA: Final = 0.05
"""Chance of any "differs" among all ratios of a comparison if none were real."""


@dataclass(frozen=True)
class Ratio:
    """One number of a run divided by that of another.

    Attributes:
        quantity: `s_min`, `e_min` or `b_crit`.
        run: label of the numerator.
        baseline: label of the denominator; of two runs the one that was named first.
        ratio: the estimate; None where one of the two numbers is not identified, so that only bounds are known.
        low: lower end of its interval; None = open, or not comparable.
        high: upper end.
        level: confidence of this one interval; it knows nothing of the other ratios.
        p_value: of "the ratio is 1"; None where not comparable.
        p_adjusted: by Holm's method over all ratios of the comparison.
        verdict: `differs` where `p_adjusted` is below 5 %.
        reason: why it is not comparable, or what qualifies the verdict; "" where nothing does.
    """

    quantity: str
    run: str
    baseline: str
    ratio: float | None
    low: float | None
    high: float | None
    level: float
    p_value: float | None
    p_adjusted: float | None
    verdict: Verdict
    reason: str

    @property
    def excludes_one(self) -> bool:
        """Whether its own interval, without regard to the other ratios, leaves out 1."""
        return (self.low or 0.0) > 1 or (self.high is not None and self.high < 1)


def obstacle(run: Side, baseline: Side, across_targets: bool = False) -> str | None:
    """Why nothing of two runs can be divided by each other; None where it can.

    Args:
        run: of the two.
        baseline: the other.
        across_targets: whether numbers to different targets are divided all the same.
    """
    if run.unit != baseline.unit:
        return f"their batch sizes count different things ({run.unit}, {baseline.unit})"
    targets = {target for target in (run.target, baseline.target) if target is not None}
    if len(targets) > 1 and not across_targets:
        return f"their targets differ ({run.target}, {baseline.target})"
    ends = run.range, baseline.range
    if ends[0] is None or ends[1] is None:
        return f"{(run if ends[0] is None else baseline).label} reached the target at no batch size"
    if max(ends[0][0], ends[1][0]) > min(ends[0][1], ends[1][1]):
        return "their batch sizes do not overlap"
    for one in (run, baseline):
        if one.fit is None:
            return f"{one.label} has no fit: {one.no_fit}"
        if one.fit.sigma is None:
            return f"{one.label} reached the target at two batch sizes only, which gives no interval"
    return None


def ratios(runs: Sequence[Side], across_targets: bool = False) -> tuple[Ratio, ...]:
    """Every pair of runs, each number: ratio, interval, p-value, verdict.

    Fits are independent studies. log s_min and log e_min are compared by Welch's t on the fits' variances, which come
    from the scatter of the studies about each curve and so include what is left of tuning regret; log b_crit by the
    profile form of the same statistic (`b_crit_ratio`), which also gives one-sided answers.

    Simulated with two true hyperbolas, 3 % and 10 % noise (the same or one of each) and 5 or 8 studies from b_crit / 16
    to 16 b_crit, 95 % intervals cover 94.2 to 96.0 % for s_min and e_min (4000 draws a cell). Where the true knee is
    sharper than the hyperbola's, the scatter of these two holds the misfit and they cover more. That of b_crit leaves
    out what a bend explains, as the fits' own intervals do; with b_crit of 100 and 140 they cover (1000 draws a cell,
    standard error 0.7 %; noise 3 and 3, 10 and 10, 3 and 10 %):

        truth              5 studies             8 studies
        hyperbola          96.9  97.1  93.8      93.9  93.8  93.9
        p-norm, p = 1.4    97.3  97.6  94.2      94.6  94.3  94.8
        p-norm, p = 2      98.2  97.9  96.1      96.8  94.6  95.1

    Equal numbers are called different as often as is missing to 100 %, before Holm's correction.
    `tests/analysis/comparison/test_ratios.py` draws a part of it again.

    Args:
        runs: with labels.
        across_targets: whether runs to different targets are compared.

    Returns:
        All ratios; the earlier run of a pair is the baseline, so the first run is that of all its pairs.
    """
    found = [_ratio(name, b, a, across_targets) for a, b in combinations(runs, 2) for name in NUMBERS]
    tested = [place for place, ratio in enumerate(found) if ratio.p_value is not None]
    adjusted = holm([found[place].p_value or 0.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        found[place] = _judged(found[place], p, len(tested))
    return tuple(found)


def _ratio(quantity: str, run: Side, baseline: Side, across_targets: bool) -> Ratio:
    reason = obstacle(run, baseline, across_targets)
    if reason is None:
        unknown = [one.label for one in (run, baseline) if not one.estimates[quantity].identified]
        both = len(unknown) == 2
        if unknown and (quantity != "b_crit" or both):
            reason = f"{quantity} of {' and '.join(unknown)} is not identified"
        else:
            return _compared(quantity, run, baseline, unknown)
    return Ratio(quantity, run.label, baseline.label, None, None, None, 0.95, None, None, "not comparable", reason)


def _compared(quantity: str, run: Side, baseline: Side, unknown: list[str]) -> Ratio:
    a, b = run.fit, baseline.fit
    assert a is not None and b is not None
    level = min(a.level, b.level)
    if quantity == "b_crit":
        found = b_crit_ratio(a, b, level)
    else:
        place = NUMBERS.index(quantity)
        variances = [fit.covariance[place][place] if fit.covariance else math.inf for fit in (a, b)]
        value = math.log(getattr(a, quantity) / getattr(b, quantity))
        degrees = (a.degrees_of_freedom, b.degrees_of_freedom)
        found = welch(value, (variances[0], variances[1]), degrees, level)
    names = run.label, baseline.label
    low, high = _end(found.low), _end(found.high)
    if unknown and low is None and high is None:
        reason = f"{quantity} of {unknown[0]} is not identified"
        return Ratio(quantity, *names, None, None, None, level, None, None, "not comparable", reason)
    reason = f"{quantity} of {unknown[0]} is not identified; only bounds are known" if unknown else ""
    ratio = None if unknown else _end(found.value)
    return Ratio(quantity, *names, ratio, low, high, level, found.p_value, None, "no difference seen", reason)


def _judged(ratio: Ratio, p_adjusted: float, count: int) -> Ratio:
    """The verdict after the correction; where that alone changed it, the reason says so."""
    verdict: Verdict = "differs" if p_adjusted < ALPHA else "no difference seen"
    reason = ratio.reason
    if verdict != "differs" and ratio.excludes_one:
        chance = f"its own interval excludes 1, but among {count} ratios that is not beyond chance"
        reason = f"{reason}; {chance}" if reason else chance
    return replace(ratio, p_adjusted=p_adjusted, verdict=verdict, reason=reason)


def _end(log_ratio: float) -> float | None:
    return math.exp(log_ratio) if abs(log_ratio) < 300 else None


__all__ = ["ALPHA", "Ratio", "Verdict", "obstacle", "ratios"]
