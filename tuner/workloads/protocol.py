"""What a workload is, built-in or a class of the user's: a small protocol, and what it can declare beyond it.

Beyond the protocol a workload may say, in attributes, what else it can; what it does not say, it cannot:

- `optimizers`: the only optimizers that it knows, because it computes their updates itself,
- `domains`: the values that its own hyperparameters can have at all,
- `rows(batch_size)`: how many rows of its data a batch is; a ValueError says why there can be no such batch,
- `averages`: its runs measure averaged weights too,
- `one_gpu`: a trial of it uses at most one GPU,
- `batch_plan`: its runs follow a plan of batch sizes, as a `PlannedWorkload`,
- `deterministic`: its runs are the same for every seed,
- `gives_model`: it has the parts of an `OpenWorkload`,
- `our_loop`: and its runs read `execution` and `probes`, as those of our own training loop do.

`SupervisedWorkload` has `rows` and what follows but `deterministic`; a class of the user's own may have any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeGuard, runtime_checkable

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Run, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bcrit.tuner.training.batch_schedule import Progress
    from bcrit.tuner.training.data import Examples
    from bcrit.tuner.training.supervised import SupervisedRun


@runtime_checkable
class Workload(Protocol):
    """Data set + model + loss + metrics: what is trained."""

    @property
    def unit(self) -> str:
        """What a batch is made of: `examples`, `tokens`, `frames`."""

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The metrics that `evaluate` returns, and which way each improves."""

    @property
    def n_examples(self) -> int | None:
        """Size of the training set, the largest possible batch; None = unlimited."""

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names of its own, beside the optimizer's and the schedule's, that a search space may hold."""

    def begin(self, settings: Settings) -> Run:
        """Start a run; the same settings give the same curve, bit for bit."""


class PlannedRun(Run, Protocol):
    """A run that follows a plan of batch sizes."""

    @property
    def progress(self) -> Progress | None:
        """How far it has come; None without a plan."""


class PlannedWorkload(Workload, Protocol):
    """A workload whose runs follow a plan of batch sizes."""

    def begin(self, settings: Settings) -> PlannedRun:
        """Start a run."""


class OpenWorkload(Workload, Protocol):
    """A workload that gives its model, its data and their loss, each with the promise of `SupervisedWorkload`."""

    divisible: bool

    def begin(self, settings: Settings) -> SupervisedRun:
        """Start a run, whose weights can be had."""

    def model(self, settings: Settings) -> nn.Module:
        """A freshly initialised model."""

    def rows(self, batch_size: int) -> int:
        """How many rows of the training set a batch of this size is."""

    def sample(self, part: Literal["train", "validation"], size: int, seed: int) -> Examples:
        """Rows of a set, drawn without replacement."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss by which runs are judged, a mean over examples."""

    def training_loss(self, settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss that training minimises."""


def says(workload: object, ability: str) -> bool:
    """Whether a workload declares one of the abilities above."""
    return bool(getattr(workload, ability, False))


def unfit(workload: object, batch_size: int) -> str | None:
    """Why a workload can make no batch of this size: a ghost batch, a sequence or a rollout does not divide it, say."""
    rows = getattr(workload, "rows", None)
    try:
        if callable(rows):
            rows(batch_size)
    except ValueError as error:
        return str(error)
    return None


def follows_plan(workload: object) -> TypeGuard[PlannedWorkload]:
    """Whether the batch size of a workload's runs can change along the way."""
    return says(workload, "batch_plan")


def gives_model(workload: object) -> TypeGuard[OpenWorkload]:
    """Whether a workload gives its model, its data and their loss."""
    return says(workload, "gives_model")


def our_loop(workload: object) -> TypeGuard[OpenWorkload]:
    """Whether our own training loop, or one that reads as much, makes the workload's updates."""
    return gives_model(workload) and says(workload, "our_loop")
