"""What a command measured, as JSON in the run folder with the number of its format: written, and read again whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError

T = TypeVar("T")

FORMAT = 1


def write_stored(folder: RunFolder, name: str, found: Any) -> None:
    """Store a result, a dataclass, in the file of this name."""
    folder.write_json(name, {"format": FORMAT, **plain(found)})


def read_stored(folder: RunFolder, name: str, kind: type[T]) -> T | None:
    """A result as it was stored in the file, which has the name of its command; None where nothing was.

    Raises:
        InputError: the file is damaged or its format has another number.
    """
    if not folder.has(name):
        return None
    try:
        facts = json.loads(folder.read_text(name))
        found = facts.pop("format")
        if found == FORMAT:
            return restored(kind, facts)
        why = f"its format is {found}, not {FORMAT}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error)
    remedy = f"remove the file; `bcrit {PurePosixPath(name).stem}` makes it again"
    raise InputError(folder.path(name), [f"what was measured cannot be read: {why}; {remedy}"])


def restored(kind: type[T], facts: Mapping[str, Any]) -> T:
    """A dataclass from what `plain` made of it; a part that is missing or too much is a TypeError."""
    kinds = get_type_hints(kind)
    return kind(**{name: _value(kinds.get(name), value) for name, value in facts.items()})


def _value(kind: Any, value: Any) -> Any:
    """A list as the field's tuple, an object as its dataclass."""
    kinds = (kind, *get_args(kind))  # of a union its members
    if isinstance(value, list):
        inside = next((get_args(one)[0] for one in kinds if get_origin(one) is tuple), None)
        return tuple(_value(inside, each) for each in value)
    inner = next((one for one in kinds if isinstance(one, type) and is_dataclass(one)), None)
    return restored(inner, value) if inner is not None and isinstance(value, dict) else value
