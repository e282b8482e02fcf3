"""What a workload is: the small protocol that built-in workloads and a user's own class follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Run, Settings


@runtime_checkable
class Workload(Protocol):
    """Data set + model + loss + metrics: what is trained.

    Attributes:
        unit: what a batch is made of: `examples`, `tokens`, `frames`.
        metrics: the metrics that `evaluate` returns, and which way each improves.
        n_examples: size of the training set, the largest possible batch; None = unlimited.
        hyperparameters: names of its own, beside the optimizer's and the schedule's, that a search space may hold.
    """

    @property
    def unit(self) -> str:
        """What a batch is made of."""
        ...

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The metrics and which way each improves."""
        ...

    @property
    def n_examples(self) -> int | None:
        """Size of the training set."""
        ...

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The workload's own hyperparameters."""
        ...

    def begin(self, settings: Settings) -> Run:
        """Start a run; the same settings give the same curve, bit for bit."""
        ...
