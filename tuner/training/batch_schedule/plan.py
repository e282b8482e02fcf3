"""A schedule of batch sizes and the learning rates that go with it: what each update of a run is made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bcrit.tuner.training.batch_schedule.rates import Rates
from bcrit.tuner.training.batch_schedule.schedules import ByNoise, Schedule, State


@dataclass(frozen=True)
class Decision:
    """What an update is made with.

    Attributes:
        batch_size: examples.
        lr: learning rate; None = what the hyperparameters say.
    """

    batch_size: int
    lr: float | None


@dataclass(frozen=True)
class BatchPlan:
    """What a run does instead of one batch size.

    Attributes:
        schedule: of the batch size.
        rates: the learning rate by batch size; None = that of the hyperparameters with its schedule over steps.
        micro_batch: examples that a gradient is computed over at a time; the noise scale is measured between them, and
            a batch size that follows it is a multiple, at least two of them. None = batches are computed as a whole,
            and nothing is measured.
    """

    schedule: Schedule
    rates: Rates | None = None
    micro_batch: int | None = None

    def decide(self, state: State, most: int | None = None) -> Decision:
        """What the next update is made with.

        Args:
            state: before it.
            most: examples that there are; None = no end of them.

        Returns:
            The batch size, rounded and at least 1, and its learning rate.
        """
        batch_size = self._rounded(self.schedule.wanted(state), most)
        return Decision(batch_size, None if self.rates is None else self.rates.rate(batch_size, state))

    def _rounded(self, wanted: float, most: int | None) -> int:
        whole = max(1, round(wanted))
        if self.micro_batch is not None and isinstance(self.schedule, ByNoise):
            whole = self.micro_batch * max(2, round(wanted / self.micro_batch))
        return whole if most is None else min(whole, most)

    def in_rows(self, rows: Callable[[int], int], items_per_row: float) -> BatchPlan:
        """The same with all that counts what a batch counts (tokens, say) in rows of the training set.

        Args:
            rows: of a batch size.
            items_per_row: examples, tokens or the like in a row.
        """
        return replace(
            self,
            schedule=self.schedule.in_rows(rows, items_per_row),
            rates=None if self.rates is None else self.rates.in_rows(rows),
            micro_batch=None if self.micro_batch is None else rows(self.micro_batch),
        )
