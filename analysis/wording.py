"""Numbers as the sentences of notes and recommendations write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def readable(number: float) -> str:
    """Three digits, or all digits before the point with thousands marked: 0.0123, 46.2, 4,500.

    A number just below 1 keeps the digits that tell it from 1: a momentum of 0.9999 is possible, one of 1 is not.
    Nearer than 1e-9 is rounding.
    """
    if 0 < number < 1 - 1e-9:
        return next(text for digits in range(3, 18) if (text := f"{number:.{digits}g}") != "1")
    return f"{number:,.0f}" if 100 <= abs(number) < 1e15 else f"{number:.3g}"


def duration(hours: float) -> str:
    """Hours in the unit that a person would use: 47 µs, 8.1 ms, 0.31 s, 4.2 min, 36 h."""
    unit, an_hour = unit_of_duration(hours)
    return f"{readable(hours * an_hour)} {unit}"


def unit_of_duration(hours: float) -> tuple[str, float]:
    """The unit in which `duration` shows so many hours, and how many of it are an hour."""
    for unit, an_hour, least in (("h", 1.0, 1.0), ("min", 60.0, 1.0), ("s", 3600.0, 0.01), ("ms", 3.6e6, 0.1)):
        if hours * an_hour >= least:
            return unit, an_hour
    return ("µs", 3.6e9) if hours > 0 else ("s", 3600.0)


def enumeration(parts: Sequence[str]) -> str:
    """Parts of a sentence, one or more: a; a and b; a, b and c."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def value_text(value: Any) -> str:
    """A number in three digits, a missing value as a dash, anything else as it is."""
    missing = value is None or type(value).__name__ == "NAType"  # pandas' own, which is not imported for it
    if missing or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return readable(value) if math.isfinite(value) else "∞" if value > 0 else "-∞"
    return str(value)


def interval_text(value: Any, low: Any, high: Any) -> str:
    """A number with its interval: `89.5 (70.2 to 114)`; open ends in words."""
    open_low, open_high = low is None or not low > 0, high is None or not 0 < high < math.inf
    if open_low and open_high:
        between = "no interval"
    elif open_low:
        between = f"below {readable(high)}"
    else:
        between = f"above {readable(low)}" if open_high else f"{readable(low)} to {readable(high)}"
    return between if value is None else f"{value_text(value)} ({between})"
