"""The two figures of the curves: steps against batch size, and both in units of each run's own knee."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bcrit.analysis.comparison.source import Side
from bcrit.analysis.report.comparison.marks import Mark, mark
from bcrit.analysis.report.figure import GREY, Figure, Trace, figure, hover, label, log_axis, vertical
from bcrit.analysis.wording import interval_text, value_text

MOST_BANDS = 6
"""Bands of more runs than this would hide each other and are left out; chosen, not studied."""

_GRID = 120  # points of a drawn curve


def curves_plot(runs: Sequence[Side], unit: str) -> Figure | None:
    """Draw every run's studies and curve with its band, log-log; curves go as far as the run measured.

    Args:
        runs: whose batch sizes count the same thing; (n,).
        unit: what they count.

    Returns:
        The figure; None where no run has a study.
    """
    data: list[Trace] = []
    seen: list[float] = []
    sizes = sorted({float(size) for run in runs for size in run.studies["batch_size"]})
    if not sizes:
        return None
    for place, run in enumerate(runs):
        look = mark(place)
        if len(runs) <= MOST_BANDS:
            data += _band(run, look)
        data += [*_curve(run, look), *_points(run, look)]
        seen += [*run.studies["steps"], *run.studies["steps_low"], *run.studies["steps_high"]]
        seen += list(run.studies.loc[run.studies["steps"].isna(), "max_steps"])
    x = log_axis(f"batch size ({label(unit)})", sizes, ticks=sizes, pad=1.5)
    return figure(data, x, log_axis("steps to target", seen), height=540)


def collapse_plot(runs: Sequence[Side]) -> Figure | None:
    """Draw S / s_min against B / b_crit: all points lie on 1 + b_crit / B where the hyperbola holds.

    Args:
        runs: with labels.

    Returns:
        The figure; None where no run has its b_crit identified.
    """
    data: list[Trace] = []
    x_seen, y_seen = [0.1, 10.0], [1.0]
    for place, run in enumerate(runs):
        if run.fit is None or not run.fit.identified["b_crit"]:
            continue
        look, reached = mark(place), run.reached
        x, y = reached["batch_size"] / run.fit.b_crit, reached["steps"] / run.fit.s_min
        texts = [
            hover({"run": run.label, "batch size": size, "steps": steps, "B / b_crit": across, "S / s_min": up})
            for size, steps, across, up in zip(reached["batch_size"], reached["steps"], x, y, strict=True)
        ]
        marker = {"color": look.color, "symbol": look.symbol, "size": 9}
        name = label(run.label)
        data.append({"name": name, "mode": "markers", "x": list(x), "y": list(y), "hovertext": texts, "marker": marker})
        x_seen += list(x)
        y_seen += list(y)
    if not data:
        return None
    grid = np.geomspace(min(x_seen) / 1.5, max(x_seen) * 1.5, _GRID)
    line = {"color": GREY, "width": 2}
    curve = {"mode": "lines", "x": list(grid), "y": list(1 + 1 / grid), "line": line, "hoverinfo": "skip"}
    data.insert(0, {**curve, "name": "the hyperbola, 1 + b_crit / B"})
    shapes = [vertical(1.0, color=GREY, width=1, dash="dot")]
    axes = log_axis("batch size / b_crit", x_seen, pad=1.5), log_axis("steps / s_min", y_seen)
    return figure(data, *axes, shapes=shapes)


def _points(run: Side, look: Mark) -> list[Trace]:
    """Measured studies, then those that did not reach as open triangles at how far they were trained."""
    reached, found = run.reached, []
    if len(reached):
        high = reached["steps_high"].fillna(reached["max_steps"].where(reached["steps_low"].notna()))
        bars = {
            "type": "data",
            "symmetric": False,
            "array": list(high - reached["steps"]),
            "arrayminus": list(reached["steps"] - reached["steps_low"]),
            "thickness": 1.2,
            "width": 3,
            "color": look.color,
        }
        marker = {"color": look.color, "symbol": look.symbol, "size": 9}
        found.append({**_scatter(run, reached, "steps"), "marker": marker, "error_y": bars, "name": label(run.label)})
    missed = run.studies[run.studies["steps"].isna()]
    if len(missed):
        marker = {"size": 13, "symbol": "triangle-up-open", "color": look.color, "line": {"width": 2}}
        name = f"{label(run.label)}: not reached, more than this"
        found.append({**_scatter(run, missed, "max_steps"), "marker": marker, "name": name})
    return found


def _scatter(run: Side, rows: Any, column: str) -> Trace:
    texts = []
    for row in rows.to_dict("records"):
        steps = f"more than {value_text(row['max_steps'])}"
        if not math.isnan(row["steps"]):
            steps = interval_text(row["steps"], row["steps_low"], row["steps_high"])
        texts.append(hover({"run": run.label, "batch size": row["batch_size"], "steps": steps}))
    group = {"mode": "markers", "legendgroup": run.location, "hovertext": texts}
    return {**group, "x": [float(size) for size in rows["batch_size"]], "y": list(rows[column])}


def _curve(run: Side, look: Mark) -> list[Trace]:
    if run.fit is None or run.range is None:
        return []
    grid = np.geomspace(*run.range, _GRID)
    steps = run.fit.curve.steps(grid)
    texts = [
        hover({"run": run.label, "batch size": b, "steps on the curve": s}) for b, s in zip(grid, steps, strict=True)
    ]
    line = {"color": look.color, "width": 2.2, "dash": look.dash}
    trace = {"mode": "lines", "legendgroup": run.location, "showlegend": False, "hovertext": texts, "line": line}
    return [{**trace, "x": list(grid), "y": list(steps)}]


def _band(run: Side, look: Mark) -> list[Trace]:
    if run.fit is None or run.range is None:
        return []
    band = run.fit.predict(np.geomspace(*run.range, _GRID))
    if band["steps_low"].isna().any():
        return []
    shared = {"mode": "lines", "legendgroup": run.location, "showlegend": False, "hoverinfo": "skip"}
    edge = {**shared, "x": list(band["batch_size"]), "line": {"width": 0}}
    area = {"fill": "tonexty", "fillcolor": look.pale}
    return [{**edge, "y": list(band["steps_low"])}, {**edge, "y": list(band["steps_high"]), **area}]


__all__ = ["MOST_BANDS", "collapse_plot", "curves_plot"]
