"""Which batch sizes to study: around a hint at b_crit, as far as it may be off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bcrit.analysis.noise_scale.pooled import PooledScale

# A fit needs batch sizes from b_crit / 16 to 2.5 b_crit; within a factor 4 of the knee it reads 10 to 45 % too low
# (simulated on the noisy quadratic model).
BELOW: Final = 16.0
ABOVE: Final = 2.5
_MOST_OFF: Final = 10.0  # McCandlish et al. 2018, section 5: how far noise scales were off from b_crit, at worst
_HALF_A_STEP: Final = math.sqrt(2.0)  # batch sizes are a factor 2 apart, so rounding is at most this
_TUNING: Final = 2.0
# How far b_crit itself moves with what is tuned: on digits it is 39 with momentum 0.9 and 84 where momentum and
# schedule are searched too; on Fashion-MNIST 46 with SGD and 93 with momentum.


@dataclass(frozen=True)
class Hint:
    """Where b_crit may lie.

    Attributes:
        value: the hint; None where no noise scale is resolved.
        low: b_crit is hardly below.
        high: b_crit is hardly above.
    """

    value: float | None
    low: float
    high: float

    @property
    def middle(self) -> float:
        """The hint; where there is none, the geometric middle of the ends."""
        return self.value or math.sqrt(self.low * self.high)


@dataclass(frozen=True)
class Grid:
    """The batch sizes to study.

    Attributes:
        batch_sizes: rising.
        wanted: what the hint asks for, (lowest, highest).
        clipped_low: whether it begins higher than wanted, because batches cannot be smaller.
        clipped_high: whether it would have ended beyond the training set.
        left_out: powers of two in between that the workload cannot make.
    """

    batch_sizes: tuple[int, ...]
    wanted: tuple[float, float]
    clipped_low: bool
    clipped_high: bool
    left_out: tuple[int, ...]


def hint(simple: PooledScale, noise: PooledScale, batch_size: int) -> Hint:
    """Where b_crit may lie by both noise scales.

    The value is the geometric mean of those resolved: B_noise is what the theory means, and B_simple is known better.
    The ends leave room for B_simple's interval, for B_noise as a second opinion (its own interval is several times as
    wide), and beyond both for what tuning changes.

    Args:
        simple: mean of B_simple along the runs.
        noise: mean of B_noise.
        batch_size: of the runs, around which the hint stands where neither is resolved.

    Returns:
        Ends at most a factor 10 from the value.
    """
    known = [scale for scale in (simple, noise) if scale.value is not None]
    values = [scale.value for scale in known if scale.value is not None]
    if not values:
        return Hint(None, batch_size / _MOST_OFF, batch_size * _MOST_OFF)
    value = math.exp(math.fsum(math.log(v) for v in values) / len(values))
    low, high = known[0].low, known[0].high
    if low is None or high is None:  # then it is trusted as little as the literature found it worth
        return Hint(value, value / _MOST_OFF, value * _MOST_OFF)
    low, high = min(low, *values) / _TUNING, max(high, *values) * _TUNING
    return Hint(value, max(low, value / _MOST_OFF), min(high, value * _MOST_OFF))


def grid(around: Hint, n_examples: int | None, fits: Callable[[int], bool], base: int = 1) -> Grid:
    """Powers of two from low / 16 to 2.5 high, within the training set.

    Where the workload can make none of them, they are doublings of the smallest batch that halving `base` leads to.

    Args:
        around: where b_crit may lie.
        n_examples: size of the training set; None = unlimited.
        fits: whether the workload can make batches of this size.
        base: a batch size that it can make.

    Returns:
        The batch sizes; at least one.
    """
    low, high = around.low / BELOW, around.high * ABOVE
    largest = math.inf if n_examples is None else n_examples
    inside = _doublings(low, min(high, largest), 1, largest)
    made = tuple(b for b in inside if fits(b))
    if not made:
        while base % 2 == 0 and fits(base // 2):
            base //= 2
        inside = _doublings(low, min(high, largest), base, largest)
        made = tuple(b for b in inside if fits(b)) or (base,)
    most = largest if not inside else inside[-1]  # the powers of two may end before the training set does
    return Grid(made, (low, high), low < made[0] / _HALF_A_STEP, high > most, tuple(b for b in inside if b not in made))


def _doublings(low: float, high: float, base: int, largest: float) -> list[int]:
    """All base 2^k, k >= 0, from the one nearest to `low` to the first at or above `high`, none above `largest`.

    Nearest and not below, because the smallest batch size takes as many steps as all others together.
    """
    first, last = round(math.log2(low / base)), math.ceil(math.log2(high / base))
    return [base * 2**k for k in range(max(0, first), last + 1) if base * 2**k <= largest]


__all__ = ["ABOVE", "BELOW", "Grid", "Hint", "grid", "hint"]
