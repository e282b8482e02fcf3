"""How a workload reads its options: a choice is a word or a mapping, and every problem with it is in one message."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictInt, ValidationError

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.problems import describe, did_you_mean
from bcrit.search_spaces.target import Direction

Width = Annotated[StrictInt, Field(ge=1)]  # how many of something a model has
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]  # how many in each of its layers
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
