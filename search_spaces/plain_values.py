"""Which values a workload's options may have: those that the frozen experiment gives back as they were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


def unplain_values(options: Mapping[Any, Any]) -> list[str]:
    """What in the options, at any depth, would come back from the run folder or arrive at a worker as something else.

    Both are written as JSON, where infinity and NaN become null, a date becomes a word, and so does the number of a
    key. YAML reads `.inf`, `2024-01-31` and the keys `1` and `on` as such without being asked.

    Example:
        >>> unplain_values({"clip": [1.0, float("inf")]})
        ["'clip[1]' must be a finite number, but it is inf; leave it out, or give a number or a word"]

    Args:
        options: of a workload, as read from YAML.

    Returns:
        One sentence a problem.
    """
    return list(_problems(options, ""))


def _problems(value: Any, address: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = f"{address}.{key}" if address else str(key)
            if not isinstance(key, str):
                yield f"'{name}': a key must be a word, but it is {_said(key)}; write it in quotes"
            yield from _problems(inner, name)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _problems(inner, f"{address}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"'{address}' must be a finite number, but it is {value:g}; leave it out, or give a number or a word"
    elif value is not None and not isinstance(value, bool | int | float | str):
        yield f"'{address}' must be a number, a word, true or false, but it is {_said(value)}; write it in quotes"


def _said(value: Any) -> str:
    words = {"datetime": "date and time"}
    name = type(value).__name__
    return f"the {words.get(name, name)} {str(value)[:60]}"
