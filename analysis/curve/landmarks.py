"""What is read from a curve: landmarks as multiples of b_crit, what others call critical, the three regimes."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.likelihood import Matrix
from bcrit.analysis.numbers import Estimate, readable
from bcrit.search_spaces import InputError


@dataclass(frozen=True)
class Landmark:
    """The batch size at which something holds."""

    # log(B / b_crit) as a function of the sharpness p of S = s_min (1 + (b_crit / B)^p)^(1/p).
    of_knee: Callable[[float], float]
    of_curve: Callable[[Hyperbola], float | None]  # B itself on a U, where it is no multiple of b_crit

    def __call__(self, p: float) -> float:
        """log(B / b_crit) at this sharpness."""
        return self.of_knee(p)


_STEP = 1e-4  # of log p in the central difference; the error is of its square


def place(batch_size: float | None, low: float, high: float) -> Estimate:
    """A batch size whose interval is open below at 0 and above at infinity; an upper end of 0 is a flat curve's."""
    return Estimate(batch_size, low or None, high if high < math.inf else None)


def _ends(found: Estimate) -> tuple[float, float]:
    return found.low or 0.0, math.inf if found.high is None else found.high


@dataclass(frozen=True)
class Knee:
    """Where a fitted curve bends, with what is needed to carry its uncertainty to a landmark."""

    b_crit: Estimate  # where the asymptotes cross; without a number where it is not identified
    p: float = 1.0  # sharpness; 1 for the hyperbola
    # Of (log b_crit, log p); None where p is fixed, or not known well enough.
    covariance: Matrix | None = None
    t: float = math.inf  # quantile of Student's t for that covariance

    def at(self, landmark: Landmark) -> Estimate:
        """The landmark on this curve.

        With p fixed it is a multiple of b_crit, and so are the ends of its interval. With p fitted, log B = log b_crit
        + g(p) has the variance v11 + 2 g' v12 + g'^2 v22, g' being dg / d log p (delta method).
        """
        there = self.b_crit.times(math.exp(landmark(self.p)))
        if self.p == 1.0 and self.covariance is None:
            return there
        if there.value is None or self.covariance is None:
            return Estimate(there.value)
        ends = [landmark(self.p * math.exp(step)) for step in (-_STEP, _STEP)]
        slope = (ends[1] - ends[0]) / (2 * _STEP)
        (v11, v12), (_, v22) = self.covariance
        half = min(self.t * math.sqrt(max(v11 + 2 * slope * v12 + slope**2 * v22, 0.0)), 700.0)
        return place(there.value, there.value * math.exp(-half), there.value * math.exp(half))


crossing = Landmark(lambda p: 0.0, lambda curve: curve.e_min / curve.s_min)
"""Where the two asymptotes S = s_min and S = e_min / B cross: at b_crit by definition."""


@dataclass(frozen=True)
class Trough:
    """The same of a U: a landmark has the values that the curves in the region of confidence give it."""

    curve: Hyperbola
    region: tuple[Hyperbola, ...]  # curves on its border, s_min left out
    reach: tuple[float, float]  # an end at or beyond these batch sizes is open
    largest: float  # batch size that reached; where b_opt lies beyond it has an interval alone
    known: bool = True  # whether b_crit is identified: else what lies beyond b_opt has an interval alone

    def at(self, landmark: Landmark) -> Estimate:
        """The landmark on this curve, and the ends of its interval."""
        value, *ends = (landmark.of_curve(curve) or math.inf for curve in (self.curve, *self.region))
        low, high = min(ends), max(ends)
        known = value <= self.largest if landmark == bottom else self.known
        return place(
            value if known and value < self.reach[1] else None,
            low if low > self.reach[0] else 0.0,
            high if high < self.reach[1] else math.inf,
        )

    @property
    def b_crit(self) -> Estimate:
        """Where examples are twice their minimum."""
        return self.at(examples_are(2))


bottom = Landmark(lambda p: -math.inf, lambda curve: curve.b_opt)
"""Where examples are fewest: b_opt, which a knee has at a vanishing batch size."""


def steps_are(factor: float) -> Landmark:
    """Where S = factor s_min: 1 + (b_crit / B)^p = factor^p."""
    return Landmark(
        lambda p: -math.log(math.expm1(p * math.log(factor))) / p,
        lambda curve: curve.batch_size_for_steps(factor * curve.s_min),
    )


def examples_are(factor: float) -> Landmark:
    """Where E = factor e_min: E / e_min = (1 + (B / b_crit)^p)^(1/p); of a U beyond b_opt."""
    return Landmark(
        lambda p: math.log(math.expm1(p * math.log(factor))) / p,
        lambda curve: curve.batch_size_for_examples(factor * curve.e_min),
    )


def doubling_saves(share: float) -> Landmark:
    """Where doubling the batch size saves this share of the steps: S(2B) = c S(B) with c = 1 - share.

    With r = (b_crit / B)^p: 1 + r / 2^p = c^p (1 + r), so that r = (1 - c^p) / (c^p - 2^-p). For the hyperbola and a
    share of 0.1 this is r = 1/4, B = 4 b_crit. Of a U it is the root of
    (1 - c) s_min B^2 = (c - 1/2) e B + (c - 1/4) q.
    """

    def of_knee(p: float) -> float:
        kept = (1 - share) ** p
        return -math.log((1 - kept) / (kept - 0.5**p)) / p

    def of_curve(curve: Hyperbola) -> float:
        e, q = curve.e_min - 2 * curve.s_min * curve.b_opt, curve.s_min * curve.b_opt**2
        half, square = (0.5 - share) * e / (2 * share * curve.s_min), (0.75 - share) * q / (share * curve.s_min)
        return half + math.hypot(half, math.sqrt(square))

    return Landmark(of_knee, of_curve)


OVER_LINEAR = 1.2
"""Zhang et al. 2024 (arXiv 2410.21676), section 2: 20 % more steps than linear scaling from B0 would need."""


@dataclass(frozen=True)
class Definition:
    """One reading of "critical batch size"."""

    name: str  # short, unique in the list
    batch_size: float | None  # the estimate; None where it is not identified
    low: float | None  # ends of its interval; None = open
    high: float | None
    definition: str  # what it estimates, in a sentence
    curve: Literal["hyperbola", "u_shape", "p_norm"]  # from which curve it is read


def definitions(
    used: Knee | Trough, free: Knee | None, unit: str, linear_from: float = 0.0, efficiency: float = 0.8
) -> tuple[Definition, ...]:
    """Read all definitions from the curves.

    On the hyperbola the 2x point, both doubling points and the crossing of the asymptotes are one number. On a p-norm
    with p != 1 they differ (1.6-fold for p = 1.4, search-cost study, section 1), which is why its own are listed.

    20 % over linear scaling: linear scaling from B0 needs S(B0) B0 / B steps. With S = s_min (1 + b / B), S(B) = 1.2
    S(B0) B0 / B gives B + b = 1.2 (B0 + b), B* = b / 5 + 1.2 B0 (Zhang et al. 2024). It grows with b_crit, and so do
    the ends of its interval; for B0 = 0 it is where E = 1.2 e_min. On a U it is where E = 1.2 E(B0), B0 being b_opt at
    least.

    Sample efficiency e = e_min / E = 1 / (1 + B / b), so B = b (1 / e - 1). Options out of range are an InputError.
    """
    problems = []
    if not 0 <= linear_from < 1e100:
        rule = "linear scaling starts from a batch size of at least 0"
        problems.append(f"{rule}, but it is {linear_from:g}; use 256, say")
    if not 0 < efficiency < 1:
        problems.append(f"an efficiency lies between 0 and 1, but it is {efficiency:g}; use 0.8, say")
    if problems:
        raise InputError("definitions", problems)
    end, start = used.at(examples_are(OVER_LINEAR)), OVER_LINEAR * linear_from
    low, high = _ends(end)
    linear = place(None if end.value is None else end.value + start, low + start, high + start)
    origin, twice = "a vanishing batch size", f"Twice the fewest steps and twice the fewest {unit}"
    if isinstance(used, Trough):
        linear = used.at(Landmark(crossing.of_knee, lambda c: _over_linear(c, linear_from)))
        origin, twice = "b_opt", f"Beyond b_opt, twice the fewest {unit}"
    origin = readable(linear_from) if linear_from else origin
    share, here = readable(100 * efficiency), isinstance(used, Trough)
    curve: Literal["u_shape", "hyperbola"] = "u_shape" if here else "hyperbola"
    found: dict[str, tuple[Estimate, str]] = {
        "2x": (used.b_crit, f"{twice} (McCandlish et al. 2018)."),
        "20_percent_over_linear": (linear, f"20 % more steps than linear scaling from {origin} (Zhang et al. 2024)."),
        "efficiency": (
            used.at(examples_are(1 / efficiency)),
            f"{share} % of the {unit} that are used would do at {'b_opt' if here else 'the smallest batch sizes'}.",
        ),
    }
    own = len(found)
    if free is not None:
        sharpness = f"with a free knee (p = {free.p:.2g})"
        meet = f"Where perfect scaling and plateau, drawn on, meet, {sharpness}."
        found["steps_double"] = free.at(steps_are(2)), f"Twice the fewest steps, {sharpness}."
        found["examples_double"] = free.at(examples_are(2)), f"Twice the fewest {unit}, {sharpness}."
        found["asymptotes_cross"] = free.at(crossing), meet
    return tuple(
        Definition(name, size.value, size.low, size.high, what, curve if n < own else "p_norm")
        for n, (name, (size, what)) in enumerate(found.items())
    )


def _over_linear(curve: Hyperbola, linear_from: float) -> float | None:
    return curve.batch_size_for_examples(OVER_LINEAR * float(curve.examples(max(linear_from, curve.b_opt))))


def definition_sentence(found: Definition, unit: str) -> str:
    """One definition, for people."""
    ends = [f"{word} {readable(end)}" for word, end in (("from", found.low), ("to", found.high)) if end is not None]
    between = f" ({' '.join(ends)})" if ends else ""
    size = "not identified" if found.batch_size is None else f"{readable(found.batch_size)} {unit}"
    return f"{size}{between}: {found.definition}"


WASTE = 1.2
"""Perfect scaling ends where E is 20 % above e_min, at b_crit / 5 on the hyperbola: the 20 % of Zhang et al. 2024
(arXiv 2410.21676). Shallue et al. 2018 (arXiv 1811.03600, section 4.1) draw the line by eye."""

SAVING = 0.1
"""The plateau begins where twice the batch size saves less than 10 % of the steps, at 4 b_crit on the hyperbola.
Chosen, not studied; at b_crit doubling saves 25 %."""


class Regime(StrEnum):
    """Where a batch size lies."""

    TOO_SMALL = "too small"
    PERFECT_SCALING = "perfect scaling"
    DIMINISHING_RETURNS = "diminishing returns"
    PLATEAU = "plateau"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class Regimes:
    """The boundaries of the regimes and where each measured batch size lies."""

    perfect_scaling_ends: Estimate  # the batch size where E = 1.2 e_min
    plateau_begins: Estimate  # the batch size from which doubling saves less than a tenth of the steps
    # Batch size -> regime; uncertain where the interval of a boundary crosses it.
    studies: tuple[tuple[float, Regime], ...]
    b_opt: Estimate | None = None  # below it batch sizes are too small; None without a U


def regimes(knee: Knee | Trough, batch_sizes: Iterable[float]) -> Regimes:
    """Read the regimes from a curve.

    Where b_crit is only bounded on one side, so are the boundaries: with b_crit > 1000 every batch size below 200 lies
    in perfect scaling, and of the others nothing is said.
    """
    first, second = knee.at(examples_are(WASTE)), knee.at(doubling_saves(SAVING))
    b_opt = knee.at(bottom) if isinstance(knee, Trough) else None
    return Regimes(first, second, tuple((size, regime(size, first, second, b_opt)) for size in batch_sizes), b_opt)


def regime(batch_size: float, first: Estimate, second: Estimate, b_opt: Estimate | None = None) -> Regime:
    """Where a batch size lies between boundaries that are known to their intervals."""
    (first_low, first_high), (second_low, second_high) = _ends(first), _ends(second)
    least_low, least_high = (0.0, 0.0) if b_opt is None else _ends(b_opt)
    if batch_size < least_low:
        return Regime.TOO_SMALL
    if least_high <= batch_size < first_low:
        return Regime.PERFECT_SCALING
    if batch_size > second_high:
        return Regime.PLATEAU
    if first_high < batch_size < second_low:
        return Regime.DIMINISHING_RETURNS
    return Regime.UNCERTAIN


def regimes_sentence(found: Regimes) -> str | None:
    """Where the regimes begin and end, for people; None where neither boundary is known on any side."""
    first, second = found.perfect_scaling_ends, found.plateau_begins
    if found.b_opt is not None:
        rest = regimes_sentence(replace(found, b_opt=None, studies=()))
        return f"Too small below batch size {found.b_opt.text()}.{f' {rest}' if rest else ''}"
    sizes = [size for size, _ in found.studies]
    # A boundary below all that was measured, perhaps below a single example, is no place on this curve.
    if sizes and second.high is not None and second.high < min(sizes):
        return f"All batch sizes lie on the plateau, from the smallest, {readable(min(sizes))}, on."
    if sizes and first.low is not None and first.low > max(sizes):
        return f"All batch sizes scale perfectly, up to the largest, {readable(max(sizes))}."
    if first.known and second.known:
        return (
            f"Perfect scaling up to batch size {_with_interval(first)}, plateau from {_with_interval(second)} on, "
            "diminishing returns between."
        )
    # A bound outside of what was measured says nothing of it.
    if first.low is not None and (not sizes or first.low >= min(sizes)):
        return f"Perfect scaling at least up to batch size {readable(first.low)}; where it ends is not identified."
    if second.high is not None and (not sizes or second.high <= max(sizes)):
        return f"Plateau at the latest from batch size {readable(second.high)} on; where it begins is not identified."
    return None


def _with_interval(place: Estimate) -> str:
    return readable(place.value or 0.0) if None in (place.low, place.high) else place.text()
