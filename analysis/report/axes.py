"""Axes of the report's figures; logarithmic ones have their ticks at batch sizes or at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bcrit.analysis.report.palette import GREY, PALE

Axis = dict[str, Any]

# Mantissas of ticks on a log axis, from sparse to dense; the first that gives enough ticks is taken.
_MANTISSAS: Final = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)
_ENOUGH: Final = 4
_LOG_FROM: Final = 3  # span of a metric from which its axis is logarithmic; chosen, not studied


def linear_axis(title: str, **more: Any) -> Axis:
    """An axis in equal distances."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": PALE,
        "zerolinecolor": PALE,
        "linecolor": GREY,
        "showline": True,
        "ticks": "outside",
        "tickcolor": GREY,
        "automargin": True,
        **more,
    }


def log_axis(
    title: str, values: Iterable[float], ticks: Sequence[float] = (), pad: float = 1.25, most: int = 11
) -> Axis:
    """A logarithmic axis around the positive values.

    Args:
        title: with its unit.
        values: what must be seen; others than positive finite ones are passed over.
        ticks: where the ticks stand (batch sizes); else at round numbers.
        pad: room on either side, as a factor.
        most: so many ticks are readable.
    """
    seen = [value for value in values if value is not None and 0 < value < math.inf] or [1.0]
    low, high = min(seen) / pad, max(seen) * pad
    places = thinned(ticks or round_numbers(low, high), most)
    return linear_axis(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=list(places),
        ticktext=[tick_text(place) for place in places],
    )


def value_axis(title: str, values: Iterable[float], pad: float = 1.1) -> Axis:
    """An axis of a metric: logarithmic where it spans more than a factor 3 of positive numbers, as losses do.

    Args:
        title: with its unit.
        values: what must be seen; others than finite ones are passed over.
        pad: room on either side of a logarithmic axis, as a factor.
    """
    seen = [value for value in values if math.isfinite(value)]
    if seen and min(seen) > 0 and max(seen) > _LOG_FROM * min(seen):
        return log_axis(title, seen, pad=pad)
    return linear_axis(title)


def thinned(ticks: Sequence[float], most: int) -> list[float]:
    """Every tick, or every second, third ... where there are too many to read; the largest stays."""
    every = -(-len(ticks) // most)
    return sorted(ticks)[::-1][::every][::-1]


def round_numbers(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, at least four where the range is not tiny."""
    places: list[float] = []
    for mantissas in _MANTISSAS:
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        places = [float(f"{m}e{decade}") for decade in decades for m in mantissas]
        places = [place for place in places if low <= place <= high]
        if len(places) >= _ENOUGH:
            break
    return places


def tick_text(value: float) -> str:
    """The value of a tick: 0.01, 16, 1,024, 5M."""
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if value >= size and float(f"{value / size:.3g}") * size == value:
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
