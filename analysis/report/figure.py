"""What all figures share.

A figure is the plain object that plotly.js draws, `{"data": [...], "layout": {...}}`: building it needs no plotly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bcrit.analysis.json_values import plain
from bcrit.analysis.report.axes import Axis
from bcrit.analysis.report.palette import INK

Figure = dict[str, Any]
Trace = dict[str, Any]


def figure(
    data: Sequence[Trace], x: Axis, y: Axis, *, shapes: Sequence[Any] = (), notes: Sequence[Any] = (), height: int = 460
) -> Figure:
    """A figure in the report's look.

    Args:
        data: traces; those with a name and without `showlegend: False` stand in the legend.
        x: see `log_axis` and `linear_axis`.
        y: likewise.
        shapes: lines and areas, in plotly's form.
        notes: annotations, in plotly's form.
        height: in pixels.

    Returns:
        The figure with finite numbers or null only.
    """
    layout = {
        "height": height,
        # Enough for usual labels: plotly draws a figure twice whose margins have to grow.
        "margin": {"l": 80, "r": 16, "t": 30 if notes else 10, "b": 58},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "showlegend": any(trace.get("name") and trace.get("showlegend", True) for trace in data),
        "xaxis": x,
        "yaxis": y,
        "shapes": list(shapes),
        "annotations": list(notes),
    }
    found: Figure = plain(
        {"data": [{"type": "scatter", "hoverinfo": "text", **trace} for trace in data], "layout": layout}
    )
    return found


def horizontal(y: float, **line: Any) -> dict[str, Any]:
    """A horizontal line across the figure."""
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "layer": "below", "line": line}


def vertical(x: float, **line: Any) -> dict[str, Any]:
    """A vertical line across the figure."""
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x, "layer": "below", "line": line}
