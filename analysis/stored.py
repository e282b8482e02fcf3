"""What a command measured, as JSON in the run folder with the number of its format."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError

T = TypeVar("T")


def read_stored(
    folder: RunFolder, name: str, version: int, parse: Callable[[dict[str, Any]], T], command: str
) -> T | None:
    """A result of the command as it was stored in the file of this name; None where nothing was.

    Raises:
        InputError: the file is damaged or its format has another number.
    """
    if not folder.has(name):
        return None
    try:
        facts = json.loads(folder.read_text(name))
        found = facts.pop("format")
        if found == version:
            return parse(facts)
        why = f"its format is {found}, not {version}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error)
    rule = f"what was measured cannot be read: {why}"
    raise InputError(folder.path(name), [f"{rule}; remove the file; `{command}` makes it again"])


__all__ = ["read_stored"]
