"""The figure of the three numbers: a dot with its interval for every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bcrit.analysis.comparison.source import NUMBERS, Estimate, Side
from bcrit.analysis.report.comparison.marks import mark
from bcrit.analysis.report.figure import GREY, PALE, Figure, Trace, figure, hover, label, log_axis
from bcrit.analysis.wording import interval_text

_OPEN = 3.0  # an open end is drawn as an arrow this factor beyond what is known; its length means nothing
_ROW, _FRAME = 30, 70  # pixels of a run, and of an axis with its title


def numbers_plot(runs: Sequence[Side], unit: str) -> Figure | None:
    """Draw s_min, e_min and b_crit of every run, one below the other; hollow where not identified, an arrow where open.

    Args:
        runs: whose batch sizes count the same thing.
        unit: what they count.

    Returns:
        The figure; None where no run has a fit.
    """
    fitted = [(place, run) for place, run in enumerate(runs) if run.estimates]
    if not fitted:
        return None
    data: list[Trace] = []
    axes: dict[str, Any] = {}
    titles = {"s_min": "s_min (steps)", "e_min": f"e_min ({label(unit)})", "b_crit": f"b_crit ({label(unit)})"}
    height = len(NUMBERS) * (_FRAME + _ROW * len(fitted))
    for place, name in enumerate(NUMBERS):
        number = "" if place == 0 else str(place + 1)
        seen: list[float] = []
        for row, (of_run, run) in enumerate(fitted):
            estimate = run.estimates[name]
            seen += [value for value in (estimate.value, estimate.low, estimate.high) if value is not None]
            data += _dot(estimate, run.label, name, -row, of_run, number)
        axis = log_axis(titles[name], seen, pad=1.6, most=7)
        axes[f"xaxis{number}"] = {**axis, "anchor": f"y{number}", "automargin": False}
        top = 1 - place / len(NUMBERS)
        axes[f"yaxis{number}"] = {
            "domain": [top - _ROW * len(fitted) / height, top],
            "anchor": f"x{number}",
            "tickvals": [-row for row in range(len(fitted))],
            "ticktext": [label(run.label) for _, run in fitted],
            "range": [-len(fitted) + 0.4, 0.6],
            "automargin": True,
            "gridcolor": PALE,
            "zeroline": False,
            "linecolor": GREY,
        }
    found = figure(data, axes["xaxis"], axes["yaxis"], height=height)
    found["layout"] |= axes
    found["layout"]["margin"]["b"] = 0
    return found


def _dot(estimate: Estimate, run: str, name: str, y: int, place: int, number: str) -> list[Trace]:
    """The interval as a line, the estimate on it."""
    look = mark(place)
    known = [value for value in (estimate.value, estimate.low, estimate.high) if value is not None]
    if not known:
        return []
    axes = {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": False}
    low = estimate.low if estimate.low is not None else min(known) / _OPEN
    high = estimate.high if estimate.high is not None else max(known) * _OPEN
    words = interval_text(estimate.value, estimate.low, estimate.high)
    text = hover({"run": run, name: words if estimate.identified else f"not identified: {words}"})
    found: list[Trace] = []
    if estimate.low is not None or estimate.high is not None:
        ends = [
            "triangle-left" if estimate.low is None else "line-ns",
            "triangle-right" if estimate.high is None else "line-ns",
        ]
        marker = {"symbol": ends, "size": 9, "color": look.color, "line": {"color": look.color, "width": 2}}
        line = {"color": look.color, "width": 2, "dash": "solid" if estimate.identified else "dot"}
        ends_of = {"mode": "lines+markers", "x": [low, high], "y": [y, y], "marker": marker, "line": line}
        found.append({**axes, **ends_of, "hovertext": [text, text]})
    if estimate.value is not None:
        symbol = look.symbol if estimate.identified else f"{look.symbol}-open"
        marker = {
            "symbol": symbol,
            "size": 11,
            "color": look.color,
            "line": {"width": 2 if not estimate.identified else 0},
        }
        found.append(
            {**axes, "mode": "markers", "x": [estimate.value], "y": [y], "marker": marker, "hovertext": [text]}
        )
    return found


__all__ = ["numbers_plot"]
