"""What a new study would measure, and where it would tell most."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.interval import freedom
from bcrit.analysis.numbers import Floats, readable, t_quantile
from bcrit.analysis.records.number_table import LARGEST
from bcrit.search_spaces import InputError

if TYPE_CHECKING:
    from bcrit.analysis.curve import HyperbolaFit

Ends = tuple[float | None, float | None]


@dataclass(frozen=True)
class Prediction:
    """Steps to target of a new study."""

    batch_size: float  # where
    steps: float  # the hyperbola there
    steps_low: float | None  # lower end of the predictive interval: where a newly measured study would lie
    steps_high: float | None  # its upper end; both None without degrees of freedom
    curve_low: float | None  # lower end of the curve's own interval, which a new study leaves more often
    curve_high: float | None  # its upper end
    examples: float  # batch_size x steps
    extrapolated: bool  # whether it lies outside of the reached batch sizes


BEYOND = 0.1
"""Standard deviation of log S by which curves leave the fitted one with every doubling beyond the batch sizes that were
reached. Of 33 published curves (29 of MLPerf's, 4 of language models) 90 % intervals held 31 and 32 of the largest and
the smallest batch size left out, 29 and 29 without it; 0.06 gives 30 and 30."""


def predictions(fit: HyperbolaFit, batch_sizes: Sequence[float]) -> tuple[Prediction, ...]:
    """Predict new studies: log S +- sqrt(t^2 (sigma^2 + j' C j) + d^2 + (z `BEYOND` k)^2).

    sigma is the scatter of studies about the curve, j' C j the variance of the curve, and d = log(p-norm / hyperbola)
    what the choice of the curve could change; between the measured batch sizes d is small, beyond them it grows. (A U
    has no d: the p-norm is worse by its own test.) k is how many doublings the batch size lies beyond the reached ones,
    and z the normal quantile.

    Leaving out one batch size at a time of these 33 curves (5 to 13 batch sizes, 240 predictions), 90 % intervals held
    92 % of the left-out studies between others, 97 % of the smallest batch sizes and 94 % of the largest.

    A batch size that is not a positive number is an InputError.
    """
    wrong = [size for size in batch_sizes if not 1 / LARGEST < size < LARGEST]
    if wrong:
        raise InputError(
            "predict", [f"a batch size must be a positive number, but it is {size:g}; give 4096, say" for size in wrong]
        )
    found = []
    for size in batch_sizes:
        steps = float(fit.curve.steps(size))
        new: Ends = (None, None)
        own: Ends = (None, None)
        if fit.sigma is not None:
            of_curve = float(fit.variance(size))
            sharper = None if fit.trough is not None else fit.p_norm
            other = 0.0 if sharper is None else math.log(float(sharper.steps(size)) / steps)
            doublings = math.log2(max(size / max(fit.reached), min(fit.reached) / size, 1))
            beyond = BEYOND * doublings * float(special.ndtri((1 + fit.level) / 2))
            new = _around(steps, math.sqrt(fit.t**2 * (fit.sigma**2 + of_curve) + other**2 + beyond**2))
            own = _around(steps, fit.t * math.sqrt(of_curve))
        extrapolated = not min(fit.reached) <= size <= max(fit.reached)
        found.append(Prediction(size, steps, *new, *own, size * steps, extrapolated))
    return tuple(found)


def prediction_sentence(found: Prediction, level: float, unit: str) -> str:
    """One prediction, for people."""
    where = f"A new study at batch size {readable(found.batch_size)}"
    what = f"about {readable(found.steps)} steps ({readable(found.examples)} {unit})"
    interval = "without an interval, for lack of studies"
    if found.steps_low is not None and found.steps_high is not None:
        interval = f"with {100 * level:g} % between {readable(found.steps_low)} and {readable(found.steps_high)}"
    beyond = "; extrapolated" if found.extrapolated else ""
    return f"{where} would take {what}, {interval}{beyond}."


def _around(value: float, log_half_width: float) -> tuple[float, float]:
    half = min(log_half_width, 600.0)  # beyond that the end is no float
    return value * math.exp(-half), value * math.exp(half)


StepSeconds = Callable[[npt.ArrayLike], Floats]
"""Seconds of one step by batch size."""

FURTHEST = 4.0
"""How far beyond the measured batch sizes a suggestion may lie, as a factor: further out a study may not even run, and
what the curve says about it is extrapolation. Chosen, not studied."""

NEAR = 1.2
"""A batch size within this factor of a measured one is no new one: repeats of a study enter as its median and add no
point to the curve. Chosen, not studied."""


@dataclass(frozen=True)
class NextBatchSize:
    """A suggestion."""

    per: str  # what the study is paid in: steps, examples or seconds of its best run (a search costs a multiple of it)
    batch_size: float  # the suggestion
    cost: float  # of one run there, in `per`
    ratio_now: float | None  # upper over lower end of the interval of b_crit; None where an end is open
    ratio_after: float | None  # what to expect of it with the new study; None where an end is open now
    extrapolated: bool  # whether it lies outside of the measured batch sizes
    reason: str  # why, in a phrase


def candidates(reached: Sequence[float], unreached: Sequence[float]) -> Floats:
    """Powers of two around the reached batch sizes, up to `FURTHEST` beyond them.

    Batch sizes at or beyond an unreached one are left out: they would most likely not reach the target either.
    """
    low, high = min(reached) / FURTHEST, max(reached) * FURTHEST
    if min(reached) >= 1:  # a batch of examples cannot be smaller; one counted in millions can
        low = max(low, 1.0)
    low = max([low, *(size * NEAR for size in unreached if size < min(reached))])
    high = min([high, *(size / NEAR for size in unreached if size > max(reached))])
    sizes = 2.0 ** np.arange(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    known = np.array([*reached, *unreached])
    return np.asarray(sizes[np.all(np.abs(np.log(sizes[:, None] / known)) > math.log(NEAR), axis=1)])


def next_batch_size(fit: HyperbolaFit, step_seconds: StepSeconds | None = None) -> tuple[NextBatchSize, ...]:
    """Suggest one batch size for each kind of cost.

    With j = (1 - w, w), w = e_min / (B S), the derivatives of log S with respect to theta = (log s_min, log e_min), the
    information of the studies is M = sum j j' / sigma^2, and log b_crit = c' theta with c = (-1, 1) has the variance
    V = c' M^-1 c at the estimate. (Of a U, theta has log b_opt too, and c are the derivatives of log b_crit.) A study
    at B makes it V - (c' M^-1 j)^2 / (sigma^2 + j' M^-1 j) (c-optimal design, Silvey 1980, chapter 3). The suggestion
    maximises log(V / V_after) per unit of cost; sigma cancels. The width that is expected scales with the square root
    of V and with Student's t, which gains a degree of freedom.

    On hyperbolas with b_crit = 64, 5 % noise and studies at 8, 16, 64, 256 and 512 (150 simulations), following it cut
    log(high / low) by 4.4 times as much per step as a study in the middle (32), and by 2.4 times as much as one at a
    random candidate; per example by 2.1 times as much as either. The expected ratio was 1.45, the one found 1.44.

    While an end of the interval is open, or a number is not identified, there is no curve to compute with: the rule
    is then to go as far as allowed on the open side, by steps to the large side first and by examples to the small one.
    """
    if fit.boxes is not None and fit.boxes.decide:  # no other batch size helps before the boxes are wider
        return ()
    tried = [study.batch_size for study in fit.studies if study.steps is None]
    tried += [] if fit.boxes is None else [size for size in fit.boxes.batch_sizes if size not in fit.reached]
    sizes = candidates(fit.reached, tried)
    ends, steps = (min(fit.reached), max(fit.reached)), fit.curve.steps(sizes)
    costs = {"steps": steps, "examples": steps * sizes}
    if step_seconds is not None:
        costs["seconds"] = steps * np.asarray(step_seconds(sizes))
    low, high = fit.interval("b_crit")
    if not (low > 0 and high < math.inf and fit.identified["s_min"] and fit.identified["e_min"]):
        known = fit.identified if fit.trough is None else {"s_min": False, "e_min": True}  # a U opens upwards alone
        outward = [_further_out(per, cost, sizes, ends, known) for per, cost in costs.items()]
        return tuple(suggestion for suggestion in outward if suggestion is not None)
    if len(sizes) == 0 or low == high:
        return ()
    shrink = _shrinks(fit.curve, np.asarray(fit.reached, dtype=float), sizes)
    now, m = math.log(high / low), len(fit.reached)
    gained = t_quantile(freedom(m + 1), fit.level) / t_quantile(freedom(m), fit.level)
    found = []
    for per, cost in costs.items():
        i = int(np.argmax(-np.log(shrink) / cost))
        size = float(sizes[i])
        after = math.exp(now * math.sqrt(float(shrink[i])) * gained)
        reason = f"most information on b_crit per {per.removesuffix('s')}"
        outside = not ends[0] < size < ends[1]
        found.append(NextBatchSize(per, size, float(cost[i]), math.exp(now), after, outside, reason))
    return tuple(found)


def next_sentence(found: Sequence[NextBatchSize], unit: str) -> str | None:
    """What to measure next, for people; None without a suggestion."""
    if not found:
        return None
    if found[0].ratio_after is None:
        sizes = list(dict.fromkeys(readable(suggestion.batch_size) for suggestion in found))
        return f"Measure batch size {' or '.join(sizes)} next: {found[0].reason}."
    ways: dict[float, list[NextBatchSize]] = {}
    for suggestion in found:
        ways.setdefault(suggestion.batch_size, []).append(suggestion)
    words = []
    for size, group in ways.items():
        paid = " and ".join({"examples": unit}.get(suggestion.per, suggestion.per) for suggestion in group)
        words.append(f"{readable(size)} where {paid} are what counts (then about {_factor(group[0].ratio_after)})")
    return (
        f"To narrow the interval of b_crit, whose ends are a factor {_factor(found[0].ratio_now)} apart, measure batch "
        f"size {' or '.join(words)}."
    )


def _factor(ratio: float | None) -> str:
    return "unknown" if ratio is None else f"{ratio:.2f}" if ratio < 10 else readable(ratio)


def _shrinks(curve: Hyperbola, reached: Floats, sizes: Floats) -> Floats:
    """Variance of log b_crit after a study at each of `sizes`, over that before."""
    rows, new = curve.jacobian(reached), curve.jacobian(sizes)
    inverse = np.linalg.pinv(rows.T @ rows)
    contrast = inverse @ curve.of_b_crit
    before = float(contrast @ curve.of_b_crit)
    return np.asarray(1 - (new @ contrast) ** 2 / (1 + np.einsum("ni,ij,nj->n", new, inverse, new)) / before)


def _further_out(
    per: str, cost: Floats, sizes: Floats, ends: tuple[float, float], identified: Mapping[str, bool]
) -> NextBatchSize | None:
    """The furthest candidate on a side that is open; on the side that this kind of cost makes cheap, if both are."""
    sides = []
    if not identified["s_min"]:
        sides.append((sizes > ends[1], -1, "larger batch sizes show where the steps stop falling"))
    if not identified["e_min"]:
        sides.append((sizes < ends[0], 0, "smaller batch sizes show where the steps fall as 1/B"))
    options = [(int(np.flatnonzero(inside)[place]), reason) for inside, place, reason in sides if inside.any()]
    if not options:
        return None
    i, reason = min(options, key=lambda option: float(cost[option[0]]))
    return NextBatchSize(per, float(sizes[i]), float(cost[i]), None, None, True, reason)
