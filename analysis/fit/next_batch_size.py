"""Which batch size to measure next: the one that shrinks the interval of log b_crit most for what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.fit.hyperbola import Hyperbola
from bcrit.analysis.fit.interval import freedom
from bcrit.analysis.wording import readable

Floats = npt.NDArray[np.float64]
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
    """A suggestion.

    Attributes:
        per: what the study is paid in: steps, examples or seconds of its best run (a search costs a multiple of it).
        batch_size: the suggestion.
        cost: of one run there, in `per`.
        ratio_now: upper over lower end of the interval of b_crit; None where an end is open.
        ratio_after: what to expect of it with the new study; None where an end is open now.
        extrapolated: whether it lies outside of the measured batch sizes.
        reason: why, in a phrase.
    """

    per: str
    batch_size: float
    cost: float
    ratio_now: float | None
    ratio_after: float | None
    extrapolated: bool
    reason: str


@dataclass(frozen=True)
class Measured:
    """What a suggestion needs to know of the studies so far.

    Attributes:
        reached: batch sizes that reached the target, rising.
        unreached: those that did not.
    """

    reached: Sequence[float]
    unreached: Sequence[float]

    def candidates(self) -> Floats:
        """Powers of two around the reached batch sizes, up to `FURTHEST` beyond them.

        Batch sizes at or beyond an unreached one are left out: they would most likely not reach the target either.
        """
        low, high = min(self.reached) / FURTHEST, max(self.reached) * FURTHEST
        if min(self.reached) >= 1:  # a batch of examples cannot be smaller; one counted in millions can
            low = max(low, 1.0)
        low = max([low, *(size * NEAR for size in self.unreached if size < min(self.reached))])
        high = min([high, *(size / NEAR for size in self.unreached if size > max(self.reached))])
        sizes = 2.0 ** np.arange(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
        known = np.array([*self.reached, *self.unreached])
        return np.asarray(sizes[np.all(np.abs(np.log(sizes[:, None] / known)) > math.log(NEAR), axis=1)])


def next_batch_size(
    curve: Hyperbola,
    interval: tuple[float, float],
    identified: Mapping[str, bool],
    measured: Measured,
    level: float,
    step_seconds: StepSeconds | None = None,
) -> tuple[NextBatchSize, ...]:
    """Suggest one batch size for each kind of cost.

    With j = (1 - w, w), w = e_min / (B S), the derivatives of log S with respect to (log s_min, log e_min), the
    information of the studies is M = sum j j' / sigma^2, and log b_crit = c' theta with c = (-1, 1) has the variance
    V = c' M^-1 c at the estimate. A study at B makes it V - (c' M^-1 j)^2 / (sigma^2 + j' M^-1 j) (c-optimal design,
    Silvey 1980, chapter 3). The suggestion maximises log(V / V_after) per unit of cost; sigma cancels. The width that
    is expected scales with the square root of V and with Student's t, which gains a degree of freedom.

    On hyperbolas with b_crit = 64, 5 % noise and studies at 8, 16, 64, 256 and 512 (150 simulations), following it cut
    log(high / low) by 4.4 times as much per step as a study in the middle (32), and by 2.4 times as much as one at a
    random candidate; per example by 2.1 times as much as either. The expected ratio was 1.45, the one found 1.44.

    While an end of the interval is open, or a number is not identified, there is no curve to compute with: the rule
    is then to go as far as allowed on the open side, by steps to the large side first and by examples to the small one.

    Args:
        curve: the estimate.
        interval: of b_crit; 0 and inf are open ends.
        identified: from `bcrit.analysis.fit.identify`.
        measured: the batch sizes so far.
        level: confidence of the interval.
        step_seconds: time of a step; None leaves out seconds.

    Returns:
        One suggestion for each kind of cost; none where no candidate is left, or the interval has no width.
    """
    sizes = measured.candidates()
    steps = curve.steps(sizes)
    costs = {"steps": steps, "examples": steps * sizes}
    if step_seconds is not None:
        costs["seconds"] = steps * np.asarray(step_seconds(sizes))
    closed = interval[0] > 0 and interval[1] < math.inf
    if not (closed and identified["s_min"] and identified["e_min"]):
        ends = (min(measured.reached), max(measured.reached))
        outward = [_further_out(per, cost, sizes, ends, identified) for per, cost in costs.items()]
        return tuple(suggestion for suggestion in outward if suggestion is not None)
    if len(sizes) == 0 or interval[0] == interval[1]:
        return ()
    shrink = _shrinks(curve, np.asarray(measured.reached, dtype=float), sizes)
    now = math.log(interval[1] / interval[0])
    gained = _student(len(measured.reached) + 1, level) / _student(len(measured.reached), level)
    found = []
    for per, cost in costs.items():
        i = int(np.argmax(-np.log(shrink) / cost))
        size = float(sizes[i])
        after = math.exp(now * math.sqrt(float(shrink[i])) * gained)
        reason = f"most information on b_crit per {per.removesuffix('s')}"
        found.append(
            NextBatchSize(
                per,
                size,
                float(cost[i]),
                math.exp(now),
                after,
                not min(measured.reached) < size < max(measured.reached),
                reason,
            )
        )
    return tuple(found)


def sentence(found: Sequence[NextBatchSize], unit: str) -> str | None:
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

    def derivatives(batch: Floats) -> Floats:
        share = curve.efficiency(batch)  # e_min / E = w
        return np.stack([1 - share, share], axis=-1)

    rows, new = derivatives(reached), derivatives(sizes)
    inverse = np.linalg.pinv(rows.T @ rows)
    contrast = inverse @ [-1.0, 1.0]
    before = float(contrast @ [-1.0, 1.0])
    return np.asarray(1 - (new @ contrast) ** 2 / (1 + np.einsum("ni,ij,nj->n", new, inverse, new)) / before)


def _student(m: int, level: float) -> float:
    """The quantile that the interval of m studies uses (`bcrit.analysis.fit.interval`)."""
    return float(special.stdtrit(freedom(m), (1 + level) / 2))


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
