"""Batch sizes that change along a run: the schedules, the learning rate that goes with them, the noise they follow.

`Settings(batches=BatchPlan(schedule, rates))` makes a run of them; without a plan nothing of this is used. A batch size
is fixed, a ramp, or the square root of the noise scale.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.tuner.training.data import Batches
from bcrit.tuner.training.settings import Settings

MOST_CHANGE = 2.0
"""Factor by which a batch size that follows the noise may change in one update; chosen, not studied. A single bad
estimate then costs an update of at most twice the batch size, and five updates cover a factor of 32."""


@dataclass(frozen=True)
class State:
    """What is known before an update."""

    step: int  # updates made
    examples: int  # used
    batch_size: int | None = None  # of the update before; None before the first
    noise_scale: float | None = None  # N, in examples; None where it is not known yet


@dataclass(frozen=True)
class Fixed:
    """One batch size for every update."""

    batch_size: int

    def wanted(self, state: State) -> float:
        """The batch size of the next update, not rounded."""
        return self.batch_size

    def in_rows(self, rows: Callable[[int], int], items_per_row: float) -> Fixed:
        """The same in rows of the training set."""
        return Fixed(rows(self.batch_size))


@dataclass(frozen=True)
class Ramp:
    """Batch sizes by stages, each from a step or from a number of examples on (Merrill et al. 2025 have three)."""

    stages: tuple[tuple[int, int], ...]  # (from, batch size), the first from 0
    by: Literal["steps", "examples"] = "steps"  # what `from` counts

    def __post_init__(self) -> None:
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
    """

    exchange_rate: float  # r, the examples that are paid for an update less
    low: int  # the smallest batch size
    high: int  # the largest
    first: int | None = None  # of the first update; None = `low`
    # what the measured noise scale is multiplied by. b_simple differs from b_crit by a factor that hardly changes along
    # training, so one may be taken from runs at fixed batch sizes
    factor: float = 1.0

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class TunedRates:
    """The rates that were tuned at some fixed batch sizes, on straight lines of log lr against log B between them.

    At those sizes they are the tuned ones, to the bit; beyond the smallest and the largest they stay what they are
    there.
    """

    batch_sizes: tuple[int, ...]  # rising
    rates: tuple[float, ...]  # tuned at each of them

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not sizes or len(sizes) != len(self.rates) or any(b <= a for a, b in zip(sizes, sizes[1:], strict=False)):
            raise ValueError(
                f"a table of learning rates needs one for each batch size, in rising order, but has {len(self.rates)} "
                f"for {list(sizes)}"
            )
        if not all(0.0 < rate < math.inf for rate in self.rates):
            raise ValueError(f"learning rates must be positive, but they are {list(self.rates)}")

    def rate(self, batch_size: int) -> float:
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
class BatchPlan:
    """What a run does instead of one batch size."""

    schedule: Schedule
    rates: TunedRates | None = None  # by batch size; None = that of the hyperparameters with its schedule over steps
    # examples that a gradient is computed over at a time; the noise scale is measured between them, and a batch size
    # that follows it is a multiple, at least two of them. None = batches are computed whole, and nothing is measured
    micro_batch: int | None = None

    def decide(self, state: State, most: int | None = None) -> tuple[int, float | None]:
        """The next update's batch size and learning rate; None = what the hyperparameters say.

        The batch size is rounded, at least 1, and at most `most` where given.
        """
        wanted = self.schedule.wanted(state)
        batch_size = max(1, round(wanted))
        if self.micro_batch is not None and isinstance(self.schedule, ByNoise):
            batch_size = self.micro_batch * max(2, round(wanted / self.micro_batch))
        if most is not None:
            batch_size = min(batch_size, most)
        return batch_size, None if self.rates is None else self.rates.rate(batch_size)

    def in_rows(self, rows: Callable[[int], int], items_per_row: float) -> BatchPlan:
        """The same with all that counts what a batch counts (tokens, say) in rows of the training set."""
        return replace(
            self,
            schedule=self.schedule.in_rows(rows, items_per_row),
            rates=None if self.rates is None else self.rates.in_rows(rows),
            micro_batch=None if self.micro_batch is None else rows(self.micro_batch),
        )


LEAST_WINDOW = 10
"""Updates that are averaged at least; chosen, not studied."""

SHARE = 0.25
"""Of the updates so far that are averaged later on; chosen, not studied. A scale that grows like t^a is then behind by
the fixed factor 4 / (4 + a): for sqrt(t), by 11 %."""


class RunningNoise:
    """The noise scale as a run knows it so far: moving averages of tr(Sigma) and |G|^2 with equal weights.

    average_t = average_(t-1) + (x_t - average_(t-1)) / min(t, max(10, t/4)): the plain mean at first, without a trace
    of where it began, and later an exponential average over the last quarter of the run.
    """

    changes = ("_n", "_tr_sigma", "_g_sq")  # see `bcrit.tuner.training.reported`

    def __init__(self) -> None:
        self._n = 0
        self._tr_sigma = self._g_sq = 0.0

    def take(self, tr_sigma: float, g_sq: float) -> None:
        """Take in the pair of one update; one that is not finite is set aside."""
        if not (math.isfinite(tr_sigma) and math.isfinite(g_sq)):
            return
        self._n += 1
        weight = 1.0 / min(self._n, max(LEAST_WINDOW, SHARE * self._n))
        self._tr_sigma += weight * (tr_sigma - self._tr_sigma)
        self._g_sq += weight * (g_sq - self._g_sq)

    @property
    def value(self) -> float | None:
        """b_simple, the ratio of the averages; None where either average is not positive."""
        positive = self._n > 0 and self._g_sq > 0.0 and self._tr_sigma > 0.0
        return self._tr_sigma / self._g_sq if positive else None


@dataclass(frozen=True)
class Progress:
    """How far a run with a plan has come, in what a batch counts."""

    examples: int  # used so far
    batch_size: int | None  # of the last update; None before the first
    noise_scale: float | None  # the running one; None where it is not measured, or not positive yet


class PlannedBatches:
    """The batches of a supervised run that follows a plan; everything inside is in rows of the training set."""

    changes = ("_rows", "_batch_size")  # beside the batches and the noise, which are the run's

    def __init__(
        self, settings: Settings, batches: Batches, noise: RunningNoise | None, items_per_row: float = 1.0
    ) -> None:
        assert settings.batches is not None
        needs_one = [name for name in ("ema_decay", "ema_examples") if name in settings.hyperparameters]
        needs_one += ["probes"] if settings.probes.measure else []
        needs_one += [settings.optimizer] if settings.optimizer in EXTRAPOLATED else []
        if needs_one:
            raise ValueError(f"batch sizes cannot change along a run with {', '.join(needs_one)}; leave it out")
        self._plan, self._batches, self._noise, self._items_per_row = settings.batches, batches, noise, items_per_row
        self._rows = 0
        self._batch_size: int | None = None

    def next(self, step: int) -> tuple[Tensor, float | None]:
        """The next update's examples, as indices, and learning rate; None = what the hyperparameters say."""
        now = State(step, self._rows, self._batch_size, None if self._noise is None else self._noise.value)
        self._batch_size, lr = self._plan.decide(now, self._batches.n_examples)
        self._rows += self._batch_size
        return self._batches.take(self._batch_size), lr

    @property
    def progress(self) -> Progress:
        """How far the run has come."""
        k = self._items_per_row
        scale = None if self._noise is None or self._noise.value is None else self._noise.value * k
        batch_size = None if self._batch_size is None else round(self._batch_size * k)
        return Progress(round(self._rows * k), batch_size, scale)
