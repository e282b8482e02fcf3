"""The figure of time: how long a training to the target takes at each batch size, on each hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.report.choice_traces import choice_traces
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    Figure,
    Trace,
    figure,
    hover,
    label,
    log_axis,
)
from bcrit.analysis.wording import interval_text

_HOURS_IN: Final = {"days": 1 / 24, "hours": 1.0, "minutes": 60.0, "seconds": 3600.0, "milliseconds": 3.6e6}
_COLORS: Final = (ACCENT, ORANGE, GREEN, PURPLE, VERMILLION, GREY)
_DASHES: Final = ("solid", "dash", "dot", "dashdot")


def frontier_plot(recommendation: Recommendation, unit: str) -> Figure | None:
    """Draw hours against the batch size. On fixed devices cost is hours times a constant, so one curve shows both.

    Args:
        recommendation: with its frontier.
        unit: what batch sizes count.

    Returns:
        The figure; None without step times, where the figure of examples against steps is the frontier.
    """
    points = [point for point in recommendation.frontier if point.hours is not None]
    if not points:
        return None
    name, factor = time_unit(recommendation)
    several = recommendation.several
    data: list[Trace] = [] if several else _band(points, factor)
    for number, (hardware, own) in enumerate(by_hardware(points).items()):
        line = {"color": _COLORS[number % len(_COLORS)], "width": 2.5}
        line["dash"] = _DASHES[number // len(_COLORS) % len(_DASHES)]
        x, y = [point.batch_size for point in own], [(point.hours or 0.0) * factor for point in own]
        texts = [_text(recommendation, point, unit, name, factor) for point in own]
        curve = {"mode": "lines" if len(own) > 1 else "markers", "x": x, "y": y, "hovertext": texts, "line": line}
        data.append({"name": label(hardware) if several else "frontier", "marker": {"color": line["color"]}, **curve})
        measured = [number for number, point in enumerate(own) if point.measured]
        data.append(
            {
                "name": "batch size of a study",
                "showlegend": number == 0,
                "mode": "markers",
                "x": [x[number] for number in measured],
                "y": [y[number] for number in measured],
                "hovertext": [texts[number] for number in measured],
                "marker": {"color": INK, "size": 5 if several else 8},
            }
        )
    data += choice_traces(recommendation, "batch_size", "hours", y_factor=factor)
    sizes = [point.batch_size for point in points]
    seen = [hours * factor for p in points for hours in (p.hours, p.hours_low, p.hours_high) if hours is not None]
    ticks = sorted({point.batch_size for point in points if point.measured})
    return figure(
        data, log_axis(f"batch size ({label(unit)})", sizes, ticks=ticks), log_axis(f"training time ({name})", seen)
    )


def by_hardware(points: Sequence[FrontierPoint]) -> dict[str, list[FrontierPoint]]:
    """The points of each kind and number of devices, in the order in which they were given."""
    found: dict[str, list[FrontierPoint]] = {}
    for point in points:
        found.setdefault(point.hardware, []).append(point)
    return found


def time_unit(recommendation: Recommendation) -> tuple[str, float]:
    """The largest unit in which all times of the frontier are at least 1, and how many of them an hour has."""
    shortest = min((point.hours for point in recommendation.frontier if point.hours is not None), default=0.0)
    for name, factor in _HOURS_IN.items():
        if shortest * factor >= 1:
            return name, factor
    return "milliseconds", _HOURS_IN["milliseconds"]


def _band(points: Sequence[FrontierPoint], factor: float) -> list[Trace]:
    """The interval of the time, where it has one."""
    low = [point.hours_low * factor for point in points if point.hours_low is not None]
    high = [point.hours_high * factor for point in points if point.hours_high is not None]
    if len(low) < len(points) or len(high) < len(points):
        return []
    edge = {"mode": "lines", "x": [p.batch_size for p in points], "line": {"width": 0}, "hoverinfo": "skip"}
    filled = {"fill": "tonexty", "fillcolor": BAND, "name": "band from the fit of steps"}
    return [{**edge, "y": low, "showlegend": False}, {**edge, "y": high, **filled}]


def _text(recommendation: Recommendation, point: FrontierPoint, unit: str, name: str, factor: float) -> str:
    low, high = ((end and end * factor) for end in (point.hours_low, point.hours_high))
    lines = {"batch size": point.batch_size}
    on = {"on": point.hardware} if recommendation.several else {}
    return hover(
        {
            **lines,
            **on,
            name: interval_text((point.hours or 0.0) * factor, low, high),
            f"cost ({recommendation.cost_unit})": point.cost,
            "steps": point.steps,
            unit: point.examples,
            "step time": point.step_time_source,
        }
    )


__all__ = ["by_hardware", "frontier_plot", "time_unit"]
