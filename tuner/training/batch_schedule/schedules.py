"""The batch size of the next update: fixed, a ramp, or the square root of the noise scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

MOST_CHANGE = 2.0
"""Factor by which a batch size that follows the noise may change in one update; chosen, not studied. A single bad
estimate then costs an update of at most twice the batch size, and five updates cover a factor of 32."""


@dataclass(frozen=True)
class State:
    """What is known before an update.

    Attributes:
        step: updates made.
        examples: training items used.
        batch_size: of the update before; None before the first.
        noise_scale: N, in examples; None where it is not known yet.
        lr_max: the best learning rate without noise; None where it is not known: of all but exact models.
    """

    step: int
    examples: int
    batch_size: int | None = None
    noise_scale: float | None = None
    lr_max: float | None = None


@dataclass(frozen=True)
class Fixed:
    """One batch size.

    Attributes:
        batch_size: of every update.
    """

    batch_size: int

    def wanted(self, state: State) -> float:
        """The batch size of the next update, not rounded."""
        return self.batch_size

    def in_rows(self, rows: Callable[[int], int], items_per_row: float) -> Fixed:
        """The same in rows of the training set."""
        return Fixed(rows(self.batch_size))


@dataclass(frozen=True)
class Ramp:
    """Batch sizes by stages, each from a step or from a number of examples on (Merrill et al. 2025 have three).

    Attributes:
        stages: (from, batch size), the first from 0.
        by: what `from` counts.
    """

    stages: tuple[tuple[int, int], ...]
    by: Literal["steps", "examples"] = "steps"

    def __post_init__(self) -> None:
        """Check the stages.

        Raises:
            ValueError: they are none.
        """
        starts = [start for start, _ in self.stages]
        if not starts or starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
            given = ", ".join(map(str, starts))
            raise ValueError(
                f"the stages of a ramp must begin at 0 and rise, but they begin at {given}; 0, 100, 300, say"
            )
        if (least := min(batch_size for _, batch_size in self.stages)) < 1:
            raise ValueError(f"every batch size of a ramp must be at least 1, but one is {least}; choose a larger one")

    def wanted(self, state: State) -> float:
        """The batch size of the next update."""
        at = state.step if self.by == "steps" else state.examples
        return [batch_size for start, batch_size in self.stages if start <= at][-1]

    def in_rows(self, rows: Callable[[int], int], items_per_row: float) -> Ramp:
        """The same in rows of the training set."""
        scale = items_per_row if self.by == "examples" else 1.0
        return replace(self, stages=tuple((round(start / scale), rows(b)) for start, b in self.stages))


@dataclass(frozen=True)
class ByNoise:
    """B = sqrt(r N) (McCandlish et al. 2018, eq. D.3), with N the running noise scale times a factor.

    Where N is not known the batch size stays. It changes by `MOST_CHANGE` in an update at most.

    Attributes:
        exchange_rate: r, the examples that are paid for an update less.
        low: the smallest batch size.
        high: the largest.
        first: of the first update; None = `low`.
        factor: what the measured noise scale is multiplied by. b_simple differs from b_crit by a factor that hardly
            changes along training, so one may be taken from runs at fixed batch sizes.
    """

    exchange_rate: float
    low: int
    high: int
    first: int | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: one is impossible.
        """
        if not 0.0 < self.exchange_rate < math.inf or not 0.0 < self.factor < math.inf:
            raise ValueError(
                "an exchange rate and a factor of the noise scale must be positive, but they are "
                f"{self.exchange_rate} and {self.factor}"
            )
        if not 1 <= self.low <= self.high:
            raise ValueError(f"1 <= low <= high must hold, but low={self.low} and high={self.high}; swap them, maybe")

    def wanted(self, state: State) -> float:
        """The batch size of the next update, not rounded."""
        before = state.batch_size
        if before is None:
            return min(max(self.first or self.low, self.low), self.high)
        if state.noise_scale is None:
            return before
        best = math.sqrt(self.exchange_rate * self.factor * max(state.noise_scale, 0.0))
        within = min(max(best, before / MOST_CHANGE), before * MOST_CHANGE)
        return min(max(within, self.low), self.high)

    def in_rows(self, rows: Callable[[int], int], items_per_row: float) -> ByNoise:
        """The same in rows of the training set: with k items in a row, (B/k)^2 = (r/k) (N/k).

        `first` is what a noise scale asked for, so it need not be whole rows, or whole ghost batches: it is rounded.
        """
        first = None if self.first is None else max(1, round(self.first / items_per_row))
        rate = self.exchange_rate / items_per_row
        return replace(self, exchange_rate=rate, low=rows(self.low), high=rows(self.high), first=first)


Schedule = Fixed | Ramp | ByNoise
