"""Numbers as the sentences of notes and recommendations write them."""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self


def readable(number: float) -> str:
    """Three digits, or all digits before the point with thousands marked: 0.0123, 46.2, 4,500.

    A number just below 1 keeps the digits that tell it from 1: a momentum of 0.9999 is possible, one of 1 is not.
    Nearer than 1e-9 is rounding.
    """
    if 0 < number < 1 - 1e-9:
        return next(text for digits in range(3, 18) if (text := f"{number:.{digits}g}") != "1")
    return f"{number:,.0f}" if 100 <= abs(number) < 1e15 else f"{number:.3g}"


def rounded_up(number: float) -> float:
    """To the digits that `readable` shows, upwards, so that a limit that is printed would be enough."""
    if number <= 0:  # no digits to round to; nothing costs less than nothing
        return number
    unit = 1.0 if number >= 100 else 10.0 ** (math.floor(math.log10(number)) - 2)
    return math.ceil(number / unit - 1e-9) * unit


def duration(hours: float, up: bool = False, beside: Sequence[float] = ()) -> str:
    """Hours in the unit that a person would use: 47 µs, 8.1 ms, 0.31 s, 4.2 min, 36 h; `rounded_up` there if asked.

    Those that stand `beside` it have the same unit, that of the shortest, where they are not too far apart for one.
    """
    least, most = min(hours, *beside, math.inf), max(hours, *beside, 0.0)
    unit, an_hour = _unit(least if most <= _FAR_APART * least else hours)
    if up:
        return duration(rounded_up(hours * an_hour) / an_hour, beside=beside)
    return f"{readable(hours * an_hour)} {unit}"


_FAR_APART = 1000  # ratio of two times that a reader wants in two units; chosen


def _unit(hours: float) -> tuple[str, float]:
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


class Told(StrEnum):
    """A word of a table with the sentence that says it to a newcomer."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Self:
        """A member is (word, sentence)."""
        found = str.__new__(cls, value)
        found._value_, found.sentence = value, sentence
        return found


def pace(seconds: float) -> str:
    """The time of one step, to two digits.

    Example:
        >>> pace(0.00123), pace(2.3)
        ('1.2 ms', '2.3 s')
    """
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
