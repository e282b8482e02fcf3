"""What a workload is: the small protocol that built-in workloads and a user's own class follow."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Run, Settings


@runtime_checkable
class Workload(Protocol):
    """Data set + model + loss + metrics: what is trained."""

    @property
    def unit(self) -> str:
        """What a batch is made of: `examples`, `tokens`, `frames`."""
        ...

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The metrics that `evaluate` returns, and which way each improves."""
        ...

    @property
    def n_examples(self) -> int | None:
        """Size of the training set, the largest possible batch; None = unlimited."""
        ...

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names of its own, beside the optimizer's and the schedule's, that a search space may hold."""
        ...

    def begin(self, settings: Settings) -> Run:
        """Start a run; the same settings give the same curve, bit for bit."""
        ...
