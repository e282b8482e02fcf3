"""How a workload's option `model` is read: a name, or a name with sizes of its own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.options import read_choice

Model = TypeVar("Model", bound=Frozen)


def read_model(
    given: Any, families: Mapping[str, type[Model]], presets: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> Model:
    """Find a model and its sizes.

    Args:
        given: a name, or a mapping of `name` and sizes.
        families: by name, what a model's sizes are.
        presets: by name, a family and the sizes that differ from its defaults.

    Returns:
        The sizes; those that are given count, then the preset's, then the family's.

    Raises:
        ValueError: there is no such model, or it has no such size.
    """
    facts = {"name": given} if isinstance(given, str) else given
    if not isinstance(facts, Mapping) or not isinstance(facts.get("name"), str):
        raise ValueError(f"'model' must be a name or a mapping with 'name', but it is {given!r}")
    name, own = facts["name"], {key: value for key, value in facts.items() if key != "name"}
    family, sizes = presets.get(name, (name, {}))
    if family not in families:
        names = [*presets, *(name for name in families if name not in presets)]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"there is no model '{name}'; {hint}the models are {', '.join(names)}")
    return read_choice(families[family], {**sizes, **own}, "model", "name")
