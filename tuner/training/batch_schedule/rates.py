"""The learning rate that goes with a batch size that changes."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass

from bcrit.tuner.training.batch_schedule.schedules import State


@dataclass(frozen=True)
class TunedRates:
    """The rates that were tuned at some fixed batch sizes, on straight lines of log lr against log B between them.

    At those sizes they are the tuned ones, to the bit; beyond the smallest and the largest they stay what they are
    there.

    Attributes:
        batch_sizes: rising.
        rates: tuned at each of them.
    """

    batch_sizes: tuple[int, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the table.

        Raises:
            ValueError: it is none.
        """
        sizes = self.batch_sizes
        if not sizes or len(sizes) != len(self.rates) or any(b <= a for a, b in zip(sizes, sizes[1:], strict=False)):
            raise ValueError(
                f"a table of learning rates needs one for each batch size, in rising order, but has {len(self.rates)} "
                f"for {list(sizes)}"
            )
        if not all(0.0 < rate < math.inf for rate in self.rates):
            raise ValueError(f"learning rates must be positive, but they are {list(self.rates)}")

    def rate(self, batch_size: int, state: State) -> float:
        """The learning rate of an update of this batch size."""
        place = bisect(self.batch_sizes, batch_size)
        if place == 0:
            return self.rates[0]
        if place == len(self.batch_sizes) or self.batch_sizes[place - 1] == batch_size:
            return self.rates[place - 1]
        (b0, b1), (r0, r1) = (values[place - 1 : place + 1] for values in (self.batch_sizes, self.rates))
        share = math.log(batch_size / b0) / math.log(b1 / b0)
        return math.exp((1.0 - share) * math.log(r0) + share * math.log(r1))

    def in_rows(self, rows: Callable[[int], int]) -> TunedRates:
        """The same with batch sizes in rows of the training set; of sizes that are the same there, the first."""
        table: dict[int, float] = {}
        for batch_size, rate in zip(self.batch_sizes, self.rates, strict=True):
            table.setdefault(rows(batch_size), rate)
        return TunedRates(tuple(table), tuple(table.values()))


@dataclass(frozen=True)
class GreedyRates:
    """A share of the best rate of the moment, lr_max / (1 + N/B) (McCandlish et al. 2018, eq. 2.6).

    This is the rate that the theory of adaptive batch sizes takes for granted. With a share e an update lowers the loss
    by (2 e - e^2) times what the best one does, at every N/B, so the theory's frontier keeps its form; as e falls to 0
    the path of the weights depends on progress alone, and the theory becomes exact.

    Attributes:
        share: e, in (0, 2).
    """

    share: float = 1.0

    def rate(self, batch_size: int, state: State) -> float:
        """The learning rate of an update of this batch size.

        Raises:
            ValueError: the run does not know the best one.
        """
        if state.lr_max is None or state.noise_scale is None:
            raise ValueError("the best learning rate of the moment is known in exact models only; use tuned rates")
        return self.share * state.lr_max / (1.0 + state.noise_scale / batch_size)

    def in_rows(self, rows: Callable[[int], int]) -> GreedyRates:
        """The same: it holds no batch size."""
        return self


Rates = TunedRates | GreedyRates
