"""What a workload is, built-in or a class of the user's: a small protocol, what it can say beyond it, its options.

Beyond the protocol a workload may say, in attributes, what else it can; what it does not say, it cannot:

- `optimizers`: the only optimizers that it knows, because it computes their updates itself,
- `domains`: the values that its own hyperparameters can have at all,
- `rows(batch_size)`: how many rows of its data a batch is; a ValueError says why there can be no such batch,
- `averages`: its runs measure averaged weights too,
- `one_gpu`: a trial of it uses at most one GPU,
- `batch_plan`: its runs follow a plan of batch sizes, and say by their `progress` how far they have come (a `Progress`;
  None without a plan),
- `deterministic`: its runs are the same for every seed,
- `gives_model`: it has the parts of an `OpenWorkload`,
- `our_loop`: and its runs read `execution` and `probes`, as those of our own training loop do.

`SupervisedWorkload` has `rows` and what follows but `deterministic`; a class of the user's own may have any of them.
How an option is read stands at the end: a choice is a word or a mapping, and every problem with it is in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeGuard, TypeVar, runtime_checkable

from pydantic import Field, StrictInt, ValidationError

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.problems import describe, did_you_mean
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Run, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

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


def gives_model(workload: object) -> TypeGuard[OpenWorkload]:
    """Whether a workload gives its model, its data and their loss."""
    return says(workload, "gives_model")


def our_loop(workload: object) -> TypeGuard[OpenWorkload]:
    """Whether our own training loop, or one that reads as much, makes the workload's updates."""
    return gives_model(workload) and says(workload, "our_loop")


Width = Annotated[StrictInt, Field(ge=1)]  # how many of something a model has
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=1000)]  # how many in each of its layers
Dropout = Annotated[float, Field(ge=0, lt=1)]  # share of entries left out in training

Choice = TypeVar("Choice", bound=Frozen)


def read_choice(kind: type[Choice], given: Any, option: str, word: str) -> Choice:
    """Read an option that is written as a mapping, or as one word, which is then what stands under the key `word`.

    Example:
        >>> class Size(Frozen):
        ...     name: str
        ...     width: int = 8
        >>> read_choice(Size, "small", "model", "name")
        Size(name='small', width=8)

    Where it is neither, or a part of it is missing, unknown or of the wrong kind, a ValueError names the `option`.
    """
    if isinstance(given, kind):
        return given
    facts = {word: given} if isinstance(given, str) else given
    if not isinstance(facts, Mapping):
        raise ValueError(f"'{option}' must be a word or a mapping with '{word}', but it is {given!r}")
    try:
        return kind.model_validate(dict(facts))
    except ValidationError as error:
        raise ValueError(f"option '{option}': " + "; ".join(describe(error, kind, facts))) from error


def read_model(
    given: Any, families: Mapping[str, type[Choice]], presets: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> Choice:
    """Read the option `model`: a name, or a mapping of `name` and sizes.

    A family is what a model's sizes are, a preset a family with the sizes that differ from its defaults. Sizes that are
    given count, then the preset's, then the family's. No such model, or no such size of it, is a ValueError.
    """
    facts = {"name": given} if isinstance(given, str) else given
    if not isinstance(facts, Mapping) or not isinstance(facts.get("name"), str):
        raise ValueError(f"'model' must be a name or a mapping with 'name', but it is {given!r}")
    name, own = facts["name"], {key: value for key, value in facts.items() if key != "name"}
    family, sizes = presets.get(name, (name, {}))
    if family not in families:
        names = [*presets, *(name for name in families if name not in presets)]
        raise ValueError(f"there is no model '{name}'; {did_you_mean(name, names)}the models are {', '.join(names)}")
    return read_choice(families[family], {**sizes, **own}, "model", "name")


def whole(name: str, value: Any, least: int = 1) -> int:
    """An option that counts something; no whole number from `least` on is a ValueError."""
    if type(value) is not int or value < least:  # True is an int, and 4.0 none
        raise ValueError(f"'{name}' must be a whole number from {least}, but it is {value!r}")
    return value


def number(name: str, value: Any) -> float:
    """An option that is a number of any kind; anything else is a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"'{name}' must be a number, but it is {value!r}")
    return value


def switch(name: str, value: Any) -> None:
    """An option that is on or off; anything else is a ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"'{name}' must be true or false, but it is {value!r}")


def with_train_loss(train_loss_examples: Any, metrics: Mapping[str, Direction]) -> tuple[int, Mapping[str, Direction]]:
    """The option of that name, and the workload's metrics with `train_loss` unless it is 0."""
    n = whole("train_loss_examples", train_loss_examples, least=0)
    return n, {**metrics, "train_loss": Direction.MINIMIZE} if n else metrics
