"""The figure of time against money: each hardware at its best batch size."""

from __future__ import annotations

from typing import Any

from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.report.choice_traces import choice_traces
from bcrit.analysis.report.figure import (
    ACCENT,
    GREY,
    INK,
    VERMILLION,
    Figure,
    Trace,
    figure,
    horizontal,
    hover,
    label,
    log_axis,
    vertical,
)
from bcrit.analysis.report.frontier_plot import by_hardware, time_unit
from bcrit.analysis.wording import interval_text


def cost_plot(recommendation: Recommendation, unit: str) -> Figure | None:
    """Draw cost against hours, one point a kind and number of devices, at the batch size that is its fastest.

    On one hardware cost is hours times a constant, so that its fastest batch size is its cheapest too, and all others
    lie up and to the right of it.

    Args:
        recommendation: with its frontier and limits.
        unit: what batch sizes count.

    Returns:
        The figure; None where there is nothing to compare.
    """
    if not recommendation.several:
        return None
    name, factor = time_unit(recommendation)
    best = [min(own, key=lambda p: p.hours or 0.0) for own in by_hardware(recommendation.frontier).values()]
    good = sorted((point for point in best if point.efficient), key=lambda point: point.hours or 0.0)
    data: list[Trace] = [
        {
            "name": "no other is both faster and cheaper",
            "mode": "lines",
            "x": _hours(good, factor),
            "y": [point.cost for point in good],
            "line": {"color": ACCENT, "width": 2, "shape": "hv", "dash": "dot"},
            "hoverinfo": "skip",
        }
    ]
    for words, points, color in (
        ("best batch size of a hardware", good, INK),
        ("slower or dearer than another", [point for point in best if not point.efficient], GREY),
    ):
        if points:
            data.append(_marks(recommendation, words, points, color, unit))
    data += choice_traces(recommendation, "hours", "cost", x_factor=factor)
    shapes: list[Any] = []
    limit = {"color": VERMILLION, "width": 1.5, "dash": "dash"}
    hours, cost = (recommendation.limits.get(key) for key in ("max_hours", "max_cost"))
    for words, value in (("deadline", hours), ("budget", cost)):
        if value is not None:
            shapes.append(vertical(value * factor, **limit) if words == "deadline" else horizontal(value, **limit))
            # A trace of no points is how a shape gets into the legend.
            data.append({"name": words, "mode": "lines", "x": [None], "y": [None], "line": limit})
    x = [*_hours(best, factor), *([] if hours is None else [hours * factor])]
    y = [*(point.cost for point in best if point.cost), *([] if cost is None else [cost])]
    return figure(
        data,
        log_axis(f"training time ({name})", x, pad=1.5),
        log_axis(f"cost ({recommendation.cost_unit})", y, pad=1.5),
        shapes=shapes,
    )


def _hours(points: list[FrontierPoint], factor: float) -> list[float]:
    return [(point.hours or 0.0) * factor for point in points]


def _marks(recommendation: Recommendation, words: str, points: list[FrontierPoint], color: str, unit: str) -> Trace:
    name, factor = time_unit(recommendation)
    texts = [
        hover(
            {
                "on": point.hardware,
                "batch size": point.batch_size,
                name: interval_text(
                    (point.hours or 0.0) * factor, *(h and h * factor for h in (point.hours_low, point.hours_high))
                ),
                f"cost ({recommendation.cost_unit})": interval_text(point.cost, point.cost_low, point.cost_high),
                "steps": point.steps,
                unit: point.examples,
            }
        )
        for point in points
    ]
    return {
        "name": words,
        "mode": "markers+text",
        "x": _hours(points, factor),
        "y": [point.cost for point in points],
        "text": [f"  {label(point.hardware)}" for point in points],
        "textposition": "middle right",
        "hovertext": texts,
        "marker": {"color": color, "size": 9},
        "cliponaxis": False,
    }


__all__ = ["cost_plot"]
