"""All that decides one training run, and what a run must be able to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.options import Execution, Probes

if TYPE_CHECKING:
    from torch import Tensor

    from bcrit.tuner.training.batch_schedule import BatchPlan


@dataclass(frozen=True)
class Settings:
    """What one training run is: nothing else may influence its curve."""

    batch_size: int  # training items an optimizer update
    seed: int  # of initialisation and data order; the same seed gives the same ones at every batch size
    optimizer: str  # a name from `bcrit.search_spaces.presets.OPTIMIZERS`
    # `lr`, `momentum` (where the optimizer has it), `schedule`, `end_factor`, `decay_steps` (optimizer updates; the
    # last two only where the schedule has them), and the workload's own
    hyperparameters: Mapping[str, Value]
    execution: Execution = Execution()  # how an update is computed
    # the GPUs that the run was given, or its share of one; 0 keeps it on the CPU whatever the machine has
    gpus: float = 0.0
    probes: Probes = Probes()  # what is measured on the side; it does not influence the curve
    # weights (and buffers, a whole state of the model) to begin at; None = those that the model is initialised with.
    # All else begins as it would there: the optimizer's state, the schedule, the order of the data, the random numbers
    start: Mapping[str, Tensor] | None = field(default=None, repr=False)
    # batch sizes that change along the run, and their learning rates; None = `batch_size` throughout
    batches: BatchPlan | None = None

    def number(self, name: str, default: float = 0.0) -> float:
        """A numeric hyperparameter, or the default where it is not set."""
        return float(self.hyperparameters.get(name, default))


@runtime_checkable
class Run(Protocol):
    """One training run in progress. Everything is derived from its `Settings`; nothing outlives it."""

    def train(self, steps: int) -> None:
        """Make this many optimizer updates, and return when they are done: the time taken is their time."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """The workload's metrics at the current step, without changing what training does next."""
        ...
