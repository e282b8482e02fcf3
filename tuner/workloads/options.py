"""How a workload reads its options: a choice is a word or a mapping, and every problem with it is in one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictInt, ValidationError

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.problems import describe
from bcrit.search_spaces.target import Direction

Width = Annotated[StrictInt, Field(ge=1)]
"""How many of something a model has."""

Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
"""How many in each of its layers."""

Dropout = Annotated[float, Field(ge=0, lt=1)]
"""Share of entries left out in training."""

Choice = TypeVar("Choice", bound=Frozen)


def read_choice(kind: type[Choice], given: Any, option: str, word: str) -> Choice:
    """Read an option that is written as one word or as a mapping.

    Example:
        >>> class Size(Frozen):
        ...     name: str
        ...     width: int = 8
        >>> read_choice(Size, "small", "model", "name")
        Size(name='small', width=8)

    Args:
        kind: what it is read as.
        given: as written in the experiment.
        option: the option's name, for messages.
        word: the key that a single word stands for.

    Returns:
        The choice.

    Raises:
        ValueError: it is neither, or a part of it is missing, unknown or of the wrong kind.
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


def whole(name: str, value: Any, least: int = 1) -> int:
    """An option that counts something.

    Args:
        name: the option's, for messages.
        value: as written in the experiment.
        least: the smallest that can be.

    Returns:
        The value.

    Raises:
        ValueError: it is no whole number from `least` on.
    """
    if type(value) is not int or value < least:  # True is an int, and 4.0 none
        raise ValueError(f"'{name}' must be a whole number from {least}, but it is {value!r}")
    return value


def number(name: str, value: Any) -> float:
    """An option that is a number of any kind.

    Args:
        name: the option's, for messages.
        value: as written in the experiment.

    Returns:
        The value.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"'{name}' must be a number, but it is {value!r}")
    return value


def with_train_loss(train_loss_examples: Any, metrics: Mapping[str, Direction]) -> tuple[int, Mapping[str, Direction]]:
    """The option of the same name, and the metrics that it leads to.

    Args:
        train_loss_examples: as written in the experiment.
        metrics: those of the workload.

    Returns:
        How many examples, and the metrics with `train_loss` unless it is 0. No whole number from 0 is a ValueError.
    """
    n = whole("train_loss_examples", train_loss_examples, least=0)
    return n, {**metrics, "train_loss": Direction.MINIMIZE} if n else metrics
