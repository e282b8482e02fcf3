"""The figure of time: how long a training to the target takes at each batch size."""

from __future__ import annotations

from typing import Final

from analysis.recommendation.recommend import Recommendation
from analysis.report.axes import log_axis
from analysis.report.choice_traces import choice_traces
from analysis.report.figure import Figure, Trace, figure
from analysis.report.labels import hover, interval_text, label
from analysis.report.palette import ACCENT, BAND, INK

_HOURS_IN: Final = {"days": 1 / 24, "hours": 1.0, "minutes": 60.0, "seconds": 3600.0, "milliseconds": 3.6e6}


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
    x = [point.batch_size for point in points]
    hours = {end: [getattr(p, f"hours{end}") for p in points] for end in ("", "_low", "_high")}
    scaled = {end: [None if hour is None else hour * factor for hour in found] for end, found in hours.items()}
    texts = [
        hover(
            {
                "batch size": p.batch_size,
                name: interval_text((p.hours or 0.0) * factor, low, high),
                f"cost ({recommendation.cost_unit})": p.cost,
                "steps": p.steps,
                unit: p.examples,
                "step time": p.step_time_source,
            }
        )
        for p, low, high in zip(points, scaled["_low"], scaled["_high"], strict=True)
    ]
    data: list[Trace] = []
    if None not in scaled["_low"] + scaled["_high"]:
        edge = {"mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip"}
        data = [
            {**edge, "y": scaled["_low"], "showlegend": False},
            {**edge, "y": scaled["_high"], "fill": "tonexty", "fillcolor": BAND, "name": "band from the fit of steps"},
        ]
    line = {"color": ACCENT, "width": 2.5}
    data.append({"name": "frontier", "mode": "lines", "x": x, "y": scaled[""], "hovertext": texts, "line": line})
    measured = [number for number, point in enumerate(points) if point.measured]
    data.append(
        {
            "name": "batch size of a study",
            "mode": "markers",
            "x": [x[number] for number in measured],
            "y": [scaled[""][number] for number in measured],
            "hovertext": [texts[number] for number in measured],
            "marker": {"color": INK, "size": 8},
        }
    )
    data += choice_traces(recommendation, "batch_size", "hours", y_factor=factor)
    seen = [time for found in scaled.values() for time in found if time is not None]
    ticks = [x[number] for number in measured]
    return figure(
        data, log_axis(f"batch size ({label(unit)})", x, ticks=ticks), log_axis(f"training time ({name})", seen)
    )


def time_unit(recommendation: Recommendation) -> tuple[str, float]:
    """The largest unit in which all times of the frontier are at least 1, and how many of them an hour has."""
    shortest = min((point.hours for point in recommendation.frontier if point.hours is not None), default=0.0)
    for name, factor in _HOURS_IN.items():
        if shortest * factor >= 1:
            return name, factor
    return "milliseconds", _HOURS_IN["milliseconds"]


__all__ = ["frontier_plot", "time_unit"]
