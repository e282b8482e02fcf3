"""The updates of a supervised run that follows a plan: which examples each takes, and how far the run has come."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.tuner.training.batch_schedule.plan import BatchPlan
from bcrit.tuner.training.batch_schedule.running_noise import RunningNoise
from bcrit.tuner.training.batch_schedule.schedules import State
from bcrit.tuner.training.data import VaryingBatches
from bcrit.tuner.training.settings import Settings


@dataclass(frozen=True)
class Progress:
    """How far a run with a plan has come, in what a batch counts.

    Attributes:
        examples: used so far.
        batch_size: of the last update; None before the first.
        noise_scale: the running one; None where it is not measured, or not positive yet.
    """

    examples: int
    batch_size: int | None
    noise_scale: float | None


class PlannedUpdates:
    """Decides and counts; everything inside is in rows of the training set."""

    def __init__(
        self, plan: BatchPlan, n_rows: int, seed: int, device: torch.device, items_per_row: float = 1.0
    ) -> None:
        """Stand before the first update.

        Args:
            plan: in rows.
            n_rows: of the training set.
            seed: of the order of the data.
            device: where the indices are used.
            items_per_row: what a batch counts (tokens, say) in a row.
        """
        self._plan, self._n_rows, self._items_per_row = plan, n_rows, items_per_row
        self._batches = VaryingBatches(n_rows, seed, device)
        self._rows = 0
        self._batch_size: int | None = None

    def next(self, step: int, noise: RunningNoise | None) -> tuple[Tensor, float | None]:
        """The next update's examples and learning rate.

        Args:
            step: updates made.
            noise: the running noise scale, in rows; None where it is not measured.

        Returns:
            Indices, shape (batch_size,), and the rate; None = what the hyperparameters say.
        """
        now = State(step, self._rows, self._batch_size, None if noise is None else noise.value)
        decision = self._plan.decide(now, self._n_rows)
        self._batch_size = decision.batch_size
        self._rows += decision.batch_size
        return self._batches.take(decision.batch_size), decision.lr

    def progress(self, noise: RunningNoise | None) -> Progress:
        """How far the run has come."""
        k = self._items_per_row
        scale = None if noise is None or noise.value is None else noise.value * k
        batch_size = None if self._batch_size is None else round(self._batch_size * k)
        return Progress(round(self._rows * k), batch_size, scale)


def planned_updates(
    settings: Settings, n_rows: int, device: torch.device, items_per_row: float
) -> PlannedUpdates | None:
    """The updates of a run whose settings have a plan; None where they have none.

    Args:
        settings: of the run, in rows.
        n_rows: of the training set.
        device: where the indices are used.
        items_per_row: what a batch counts in a row.

    Raises:
        ValueError: the plan stands beside something that needs one batch size.
    """
    if settings.batches is None:
        return None
    needs_one = [name for name in ("ema_decay", "ema_examples") if name in settings.hyperparameters]
    needs_one += ["probes"] if settings.probes.measure else []
    needs_one += [settings.optimizer] if settings.optimizer in EXTRAPOLATED else []
    if needs_one:
        raise ValueError(f"batch sizes cannot change along a run with {', '.join(needs_one)}; leave it out")
    return PlannedUpdates(settings.batches, n_rows, settings.seed, device, items_per_row)
