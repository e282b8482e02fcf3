"""The section on budgets: the best result of every batch size under limits of steps, examples and time."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bcrit.analysis.analyze import RunAnalysis
from bcrit.analysis.budgets.resources import Resource
from bcrit.analysis.budgets.tables import BudgetTables, Status, amount
from bcrit.analysis.report.axes import log_axis, value_axis
from bcrit.analysis.report.figure import Figure, Trace, figure
from bcrit.analysis.report.labels import hover, label, value_text
from bcrit.analysis.report.palette import viridis
from bcrit.analysis.report.section import Plot, Rows, Section
from bcrit.analysis.report.table import Table, table_of

_SYMBOLS = {Status.COVERED.value: "circle", Status.CUT.value: "circle-open", Status.STOPPED.value: "star-open"}
_WORDS = {Resource.STEPS: "the number of steps", Resource.HOURS: "time"}

MARKS = {Status.COVERED.value: "", Status.CUT.value: " *", Status.STOPPED.value: " +"}
"""What stands behind a value in a table."""

KEY = "*: some trials were stopped before the budget ended. +: trials reached the target before it and stopped."
"""What the marks mean."""


def budgets_section(analysis: RunAnalysis) -> Section | None:
    """The section.

    Args:
        analysis: of the run.

    Returns:
        None where the run says nothing about budgets.
    """
    budgets = analysis.budgets
    if budgets is None or not budgets.verdicts:
        return None
    parts: list[Plot | Rows] = []
    unit = analysis.experiment.unit
    for resource in Resource:
        cells = budgets.cells[(budgets.cells["resource"] == resource) & (budgets.cells["status"] != Status.MISSING)]
        if cells.empty:
            continue
        words = f"the number of {unit}" if resource is Resource.EXAMPLES else _WORDS[resource]
        caption = (
            f"The best {budgets.metric} of every batch size when {words} is limited, one colour a budget. Filled: "
            "every trial could use the budget. Open: some were stopped before. Stars: trials reached the target before "
            "and stopped there."
        )
        parts.append(Plot(f"budgets-{resource.value}", _plot(budgets, resource, cells, unit), caption))
        parts.append(
            Rows(f"Best {budgets.metric} when {words} is limited", _table(budgets, resource, cells, unit), True)
        )
    return (
        Section("budgets", "Fixed budgets", (*budgets.sentences, *budgets.notes, f"In the tables {KEY}"), tuple(parts))
        if parts
        else None
    )


def _plot(budgets: BudgetTables, resource: Resource, cells: pd.DataFrame, unit: str) -> Figure:
    data: list[Trace] = []
    limits = sorted(set(cells["budget"]))
    for place, budget in enumerate(limits):
        rows = cells[cells["budget"] == budget]
        color = viridis(place / max(1, len(limits) - 1))
        texts = [
            hover(
                {
                    "budget": amount(resource, budget, unit),
                    "batch size": row["batch_size"],
                    budgets.metric: row["value"],
                    "trial": row["best_trial"],
                    "what it is": Status(row["status"]).sentence,
                }
            )
            for row in rows.to_dict("records")
        ]
        symbols = [_SYMBOLS[status] for status in rows["status"]]
        data.append(
            {
                "name": label(amount(resource, budget, unit)),
                "mode": "lines+markers",
                "x": list(rows["batch_size"]),
                "y": list(rows["value"]),
                "hovertext": texts,
                "line": {"color": color, "width": 1.2},
                "marker": {"color": color, "size": 9, "symbol": symbols},
            }
        )
    sizes = sorted(set(cells["batch_size"]))
    x = log_axis(f"batch size ({label(unit)})", sizes, ticks=sizes, pad=1.5)
    return figure(data, x, value_axis(label(f"best {budgets.metric}"), cells["value"]), height=380)


def _table(budgets: BudgetTables, resource: Resource, cells: pd.DataFrame, unit: str) -> Table:
    rows = []
    sizes = sorted(set(cells["batch_size"]))
    for verdict in (verdict for verdict in budgets.verdicts if verdict.resource is resource):
        mine = {row["batch_size"]: row for row in cells[cells["budget"] == verdict.budget].to_dict("records")}
        share = f" ({verdict.share:.0%})" if verdict.share is not None else ""
        rows.append(
            {
                "budget": amount(resource, verdict.budget, unit),
                **{f"B = {size:,}": value_cell(mine.get(size)) for size in sizes},
                "clear winner": "–" if verdict.winner is None else f"{verdict.winner:,}{share}",
            }
        )
    return table_of(rows)


def value_cell(row: dict[Any, Any] | None) -> str:
    """A value as tables write it: `0.14`, `0.14 *` (cut), `0.14 +` (stopped), a dash where the study is not shown."""
    if row is None or row["status"] == Status.MISSING or pd.isna(row["value"]):
        return "–"
    return value_text(float(row["value"])) + MARKS[row["status"]]


__all__ = ["KEY", "budgets_section", "value_cell"]
