"""How many steps would other targets have taken, and how does b_crit change with the target?"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd

from bcrit.analysis import report as draw
from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.numbers import interval_text, readable, value_text
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run
from bcrit.analysis.targets import measured, refuse_unmeasured
from bcrit.analysis.targets.cells import Status
from bcrit.analysis.targets.crossings import read_targets
from bcrit.analysis.targets.grid import TargetCurve, TargetGrid, target_grid

_SYMBOLS = {"valid": "circle", "upper": "triangle-down-open", "lower": "triangle-up-open"}  # by `Status`


def ask(
    run: Run,
    target: Annotated[
        Sequence[str], "A target, such as 'val_loss < 0.3', or a threshold. Repeatable. Default: a grid."
    ] = (),
) -> Answer | str:
    """Read steps to other targets from the curves of a run, and how b_crit changes with the target.

    A plain number is known: nothing that might have been faster was stopped before. '55*': trials were stopped earlier,
    all of them behind. '<= 55': one that was stopped was ahead, so 55 is an upper bound. '> 300': not reached.
    """
    grid = at(run, target) if target else run.targets
    if grid is None:
        return run.unmeasured or "too little of the run has finished to read other targets from it"
    caption = (
        "Steps against batch size, one colour a target, with the fitted curve. Open triangles pointing down: a trial "
        "that was stopped earlier might have been faster. Pointing up: not reached, more steps than this."
    )
    parts: list[Plot | Rows] = [Plot("targets-steps", _steps_plot(grid), caption)]
    if (drawn := _b_crit_plot(grid)) is not None:
        law = "The line is the power law." if grid.power_law else "No power law is drawn: it is not identified."
        caption = f"The critical batch size at every target where it is identified, with its 95 % interval. {law}"
        if grid.own_by_search is not None:
            caption += " The open mark is the run's own target with best search trials instead of fresh seeds."
        parts.append(Plot("targets-b-crit", drawn, caption))
    parts.append(Rows("b_crit at every target", _curves_table(grid)))
    first = grid.targets[0]
    parts.append(
        Rows(f"Steps to {first.metric} {first.direction.symbol} ...", _cells_table(grid), folded=True, brief=True)
    )
    more = len(grid.curves) > 1
    return Answer("targets", "Other targets", grid.sentences, tuple(parts), grid.to_json(), grid.notes, on_page=more)


def at(run: Run, given: Sequence[str]) -> TargetGrid:
    """The steps to targets of the user's choice, as typed."""
    targets = read_targets(given, run.declared.target)
    crossings, _ = measured(run.folder, run.recorded, targets[-1], targets, budgets={})
    refuse_unmeasured(run.folder, crossings)
    return target_grid(run.folder, run.recorded, run.declared, crossings, at_edge=run.at_edge)


def _steps_plot(grid: TargetGrid) -> draw.Figure:
    data: list[draw.Trace] = []
    shown = grid.cells[grid.cells["status"] != Status.MISSING]
    colors = draw.in_turn(range(len(grid.curves)))
    for place, curve in enumerate(grid.curves):
        rows = shown[shown["threshold"] == curve.target.threshold].to_dict("records")
        if not rows:
            continue
        hovers = [
            {
                "target": curve.target,
                "batch size": row["batch_size"],
                "steps": row["steps"],
                "source": row["source"],
                "what it is": Status(row["status"]).sentence,
            }
            for row in rows
        ]
        name = draw.label(curve.target)
        sizes, steps = [row["batch_size"] for row in rows], [row["steps"] for row in rows]
        marks = draw.points(sizes, steps, hovers, color=colors[place], symbol=[_symbol(row) for row in rows])
        data.append({**marks, "name": name, "legendgroup": name})
        if curve.fit is not None:
            x = np.geomspace(shown["batch_size"].min(), shown["batch_size"].max(), 60)
            fitted = draw.line(x.tolist(), curve.fit.curve.steps(x).tolist(), color=colors[place])
            data.append({**fitted, "name": name, "legendgroup": name, "showlegend": False})
    sizes = sorted(set(shown["batch_size"]))
    x_axis = draw.batch_axis(grid.unit, sizes)
    return draw.figure(data, x_axis, draw.log_axis("steps to target", shown["steps"]))


def _symbol(row: dict[Any, Any]) -> str:
    # An upper bound all of whose rivals were behind enters the fit like any other point.
    return _SYMBOLS[Status.VALID if row["fits"] and row["status"] == Status.UPPER else row["status"]]


def _b_crit_plot(grid: TargetGrid) -> draw.Figure | None:
    known = [curve for curve in grid.curves if curve.known]
    if not known:
        return None
    data = [_b_crit("b_crit", known, color=draw.ACCENT, size=10)]
    searched = grid.own_by_search
    if searched is not None and searched.known:
        name = "own target, best search trials"
        data.append(_b_crit(name, [searched], color=draw.GREY, size=10, symbol="circle-open"))
    if grid.power_law is not None:
        x = np.geomspace(grid.power_law.strictest, grid.power_law.loosest, 50).tolist()
        law = draw.line(x, [grid.power_law.b_crit(threshold) for threshold in x], color=draw.INK, dash="dash")
        data.append({**law, "name": "power law"})
    ends = [end for curve in known if curve.fit for end in curve.fit.interval("b_crit")]
    thresholds = [curve.target.threshold for curve in known]
    y_axis = draw.log_axis(f"b_crit ({draw.label(grid.unit)})", ends)
    metric = draw.label(grid.targets[0].metric)
    x_axis = draw.log_axis(metric, thresholds) if min(thresholds) > 0 else draw.linear_axis(metric)
    return draw.figure(data, x_axis, y_axis, height=380)


def _b_crit(name: str, curves: Sequence[TargetCurve], **look: Any) -> draw.Trace:
    fits = [curve.fit for curve in curves if curve.fit is not None]
    thresholds = [curve.target.threshold for curve in curves]
    hovers = [
        {"target": threshold, "b_crit": _b_crit_text(fit)} for threshold, fit in zip(thresholds, fits, strict=True)
    ]
    low, high = [fit.b_crit_low for fit in fits], [fit.b_crit_high for fit in fits]
    return draw.points(thresholds, [fit.b_crit for fit in fits], hovers, low=low, high=high, **look) | {"name": name}


def _b_crit_text(fit: HyperbolaFit) -> str:
    return interval_text(fit.b_crit, fit.b_crit_low, fit.b_crit_high)


def _curves_table(grid: TargetGrid) -> Table:
    rows = []
    for curve in grid.curves:
        fit = curve.fit
        rows.append(
            {
                "target": str(curve.target) + (" (the run's own)" if curve.target == grid.own else ""),
                f"b_crit ({grid.unit})": "–" if fit is None else _b_crit_text(fit),
                "identified": "yes" if curve.known else "no",
                "valid": curve.n_valid,
                "stopped trials behind": curve.n_behind,
                "not reached": curve.n_lower,
                "left out": curve.n_aside,
            }
        )
    return table_of(rows)


def _cells_table(grid: TargetGrid) -> Table:
    """Batch sizes downwards, of which there may be many; below them b_crit and its interval."""
    columns = {}
    for curve in grid.curves:
        rows = grid.cells[grid.cells["threshold"] == curve.target.threshold].to_dict("records")
        column = {f"{row['batch_size']:,}": _cell(row) for row in rows}
        names = {"b_crit": "b_crit", "  from": "b_crit_low", "  to": "b_crit_high"}
        column |= {
            name: "–" if curve.known is None else readable(getattr(curve.known, of)) for name, of in names.items()
        }
        columns[f"{curve.target.threshold:g}"] = column
    first = next(iter(columns.values()))
    rows_of = tuple((name, *(column[name] for column in columns.values())) for name in first)
    return Table((f"B ({grid.unit})", *columns), rows_of)


def _cell(row: dict[Any, Any]) -> str:
    """The steps of a cell as tables write them: `55`, `≤ 55` (an upper bound that enters no fit), `> 300`, a dash.

    `55*`: trials were stopped before 55 steps, all of them behind the fastest one then.
    """
    if row["status"] == Status.MISSING or pd.isna(row["steps"]):
        return "–"
    mark = "> " if row["status"] == Status.LOWER else "≤ " if row["status"] == Status.UPPER and not row["fits"] else ""
    behind = "*" if row["status"] == Status.UPPER and row["fits"] else ""
    return mark + value_text(float(row["steps"])) + behind
