"""Numbers as the sentences of notes and recommendations write them."""

from __future__ import annotations

from collections.abc import Sequence


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
