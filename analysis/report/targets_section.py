"""The section on other targets: S(B) at each of them, and b_crit against the target with its power law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.analyze import RunAnalysis
from bcrit.analysis.report.axes import Axis, linear_axis, log_axis
from bcrit.analysis.report.figure import Figure, Trace, figure
from bcrit.analysis.report.labels import hover, interval_text, label, value_text
from bcrit.analysis.report.palette import ACCENT, GREY, INK, viridis
from bcrit.analysis.report.section import Plot, Rows, Section
from bcrit.analysis.report.table import Table, table_of
from bcrit.analysis.targets.grid import TargetCurve, TargetGrid
from bcrit.analysis.targets.validity import Status

_SYMBOLS = {
    Status.VALID.value: "circle",
    Status.UPPER.value: "triangle-down-open",
    Status.LOWER.value: "triangle-up-open",
}


def targets_section(analysis: RunAnalysis) -> Section | None:
    """The section.

    Args:
        analysis: of the run.

    Returns:
        None where the run says nothing about more than one target.
    """
    grid = analysis.targets
    if grid is None or len(grid.curves) < 2:
        return None
    parts: list[Plot | Rows] = [
        Plot(
            "targets-steps",
            _steps_plot(grid),
            "Steps against batch size, one colour a target, with the fitted curve. Open triangles pointing down: a "
            "trial that was stopped earlier might have been faster. Pointing up: not reached, more steps than this.",
        )
    ]
    drawn = _b_crit_plot(grid)
    if drawn is not None:
        law = "The line is the power law." if grid.power_law else "No power law is drawn: it is not identified."
        caption = f"The critical batch size at every target where it is identified, with its 95 % interval. {law}"
        if grid.own_by_search is not None:
            caption += " The open mark is the run's own target with best search trials instead of fresh seeds."
        parts.append(Plot("targets-b-crit", drawn, caption))
    parts += [Rows("b_crit at every target", _curves_table(grid)), Rows("Steps", _cells_table(grid), folded=True)]
    return Section("targets", "Other targets", (*grid.sentences, *grid.notes), tuple(parts))


def _steps_plot(grid: TargetGrid) -> Figure:
    data: list[Trace] = []
    shown = grid.cells[grid.cells["status"] != Status.MISSING]
    for place, curve in enumerate(grid.curves):
        color = viridis(place / max(1, len(grid.curves) - 1))
        rows = shown[shown["threshold"] == curve.target.threshold]
        if rows.empty:
            continue
        texts = [_cell_text(curve, row) for row in rows.to_dict("records")]
        marker = {"color": color, "size": 9, "symbol": [_symbol(row) for row in rows.to_dict("records")]}
        points = {"x": list(rows["batch_size"]), "y": list(rows["steps"]), "hovertext": texts, "marker": marker}
        name = label(curve.target)
        data.append({"name": name, "legendgroup": name, "mode": "markers", **points})
        if curve.fit is not None:
            x = np.geomspace(shown["batch_size"].min(), shown["batch_size"].max(), 60)
            line = {"color": color, "width": 1.5}
            y = list(curve.fit.curve.steps(x))
            extra = {"legendgroup": name, "showlegend": False, "hoverinfo": "skip"}
            data.append({"name": name, "mode": "lines", "x": list(x), "y": y, "line": line, **extra})
    sizes = sorted(set(shown["batch_size"]))
    x_axis = log_axis(f"batch size ({label(grid.unit)})", sizes, ticks=sizes, pad=1.5)
    return figure(data, x_axis, log_axis("steps to target", shown["steps"]))


def _symbol(row: dict[Any, Any]) -> str:
    # An upper bound all of whose rivals were behind enters the fit like any other point.
    return _SYMBOLS[Status.VALID if row["fits"] and row["status"] == Status.UPPER else row["status"]]


def _cell_text(curve: TargetCurve, row: dict[Any, Any]) -> str:
    status = Status(row["status"]).sentence
    said = {"target": curve.target, "batch size": row["batch_size"], "steps": row["steps"], "source": row["source"]}
    return hover({**said, "what it is": status})


def _b_crit_plot(grid: TargetGrid) -> Figure | None:
    known = [(line.target.threshold, line.fit) for line in grid.curves if line.fit and line.fit.identified["b_crit"]]
    if not known:
        return None
    data: list[Trace] = [_points("b_crit", known, {"color": ACCENT, "size": 10})]
    searched = grid.own_by_search
    if searched is not None and searched.fit is not None and searched.fit.identified["b_crit"]:
        again = [(searched.target.threshold, searched.fit)]
        data.append(
            _points("own target, best search trials", again, {"color": GREY, "size": 10, "symbol": "circle-open"})
        )
    thresholds = [threshold for threshold, _ in known]
    if grid.power_law is not None:
        x = np.geomspace(grid.power_law.strictest, grid.power_law.loosest, 50)
        y = [grid.power_law.b_crit(threshold) for threshold in x]
        line = {"color": INK, "width": 1.5, "dash": "dash"}
        data.append({"name": "power law", "mode": "lines", "x": list(x), "y": y, "line": line, "hoverinfo": "skip"})
    ends = [end for _, fit in known for end in (fit.b_crit_low, fit.b_crit_high)]
    y_axis = log_axis(f"b_crit ({label(grid.unit)})", ends)
    return figure(data, _threshold_axis(label(grid.targets[0].metric), thresholds), y_axis, height=380)


def _points(name: str, known: list[tuple[float, Any]], marker: dict[str, Any]) -> Trace:
    y = [fit.b_crit for _, fit in known]
    up, down = ([end - at for end, at in zip(ends, y, strict=True)] for ends in _ends(known))
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": [-d for d in down], "thickness": 1.2}
    texts = [
        hover({"target": threshold, "b_crit": interval_text(fit.b_crit, fit.b_crit_low, fit.b_crit_high)})
        for threshold, fit in known
    ]
    found = {"name": name, "mode": "markers", "x": [threshold for threshold, _ in known], "y": y, "hovertext": texts}
    return {**found, "marker": marker, "error_y": {**bars, "color": marker["color"]}}


def _ends(known: list[tuple[float, Any]]) -> tuple[list[float], list[float]]:
    return [fit.b_crit_high for _, fit in known], [fit.b_crit_low for _, fit in known]


def _threshold_axis(title: str, thresholds: list[float]) -> Axis:
    return log_axis(title, thresholds) if min(thresholds) > 0 else linear_axis(title)


def _curves_table(grid: TargetGrid) -> Table:
    rows = []
    for curve in grid.curves:
        fit = curve.fit
        known = fit is not None and fit.identified["b_crit"]
        rows.append(
            {
                "target": str(curve.target) + (" (the run's own)" if curve.target == grid.own else ""),
                f"b_crit ({grid.unit})": "–"
                if fit is None
                else interval_text(fit.b_crit, fit.b_crit_low, fit.b_crit_high),
                "identified": "yes" if known else "no",
                "valid": curve.n_valid,
                "stopped trials behind": curve.n_behind,
                "not reached": curve.n_lower,
                "left out": curve.n_aside,
            }
        )
    return table_of(rows)


def _cells_table(grid: TargetGrid) -> Table:
    rows = []
    for curve in grid.curves:
        mine = grid.cells[grid.cells["threshold"] == curve.target.threshold]
        rows.append(
            {
                "target": str(curve.target),
                **{f"B = {row['batch_size']:,}": cell_text(row) for row in mine.to_dict("records")},
            }
        )
    return table_of(rows)


def cell_text(row: dict[Any, Any]) -> str:
    """The steps of a cell as tables write them: `55`, `≤ 55` (an upper bound that enters no fit), `> 300`, a dash.

    `55*`: trials were stopped before 55 steps, all of them behind the fastest one then.
    """
    if row["status"] == Status.MISSING or pd.isna(row["steps"]):
        return "–"
    mark = "> " if row["status"] == Status.LOWER else "≤ " if row["status"] == Status.UPPER and not row["fits"] else ""
    behind = "*" if row["status"] == Status.UPPER and row["fits"] else ""
    return mark + value_text(float(row["steps"])) + behind


__all__ = ["cell_text", "targets_section"]
