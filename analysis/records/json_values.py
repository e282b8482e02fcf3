"""Results as JSON and back: plain values, and never NaN or infinity, which JSON does not have."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Turn a result into what `json.dumps(..., allow_nan=False)` takes.

    Dataclasses become objects, numpy's scalars Python's, tuples lists; numbers that are not finite become null.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def loaded(text: str | bytes) -> Any:
    """What JSON says; text that is none, or nested too deeply to be read, is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def restored(kind: type[T], facts: Mapping[str, Any]) -> T:
    """A dataclass from what `plain` made of it; a part that is missing, too much or of another kind is a TypeError."""
    kinds = get_type_hints(kind)
    return kind(**{name: _value(kinds.get(name), value) for name, value in facts.items()})


_NUMBERS = {number | none for number in (int, float, bool) for none in (number, None)}
_TEXTS = {str, str | None}


def _value(kind: Any, value: Any) -> Any:
    """A list as the field's tuple, an object as its dataclass; text for a number, or the other way, is a TypeError."""
    kinds = (kind, *get_args(kind))  # of a union its members
    if isinstance(value, list):
        inside = next((get_args(one)[0] for one in kinds if get_origin(one) is tuple), None)
        return tuple(_value(inside, each) for each in value)
    if (isinstance(value, str) and kind in _NUMBERS) or (isinstance(value, int | float) and kind in _TEXTS):
        raise TypeError(f"{value!r:.60} is no {'number' if kind in _NUMBERS else 'text'}")
    inner = next((one for one in kinds if isinstance(one, type) and is_dataclass(one)), None)
    return restored(inner, value) if inner is not None and isinstance(value, dict) else value
