"""Which batch size gives the best result within a fixed budget of steps, examples or time?"""

from collections.abc import Sequence
from typing import Annotated, Any

import pandas as pd

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import duration, readable, value_text
from bcrit.analysis.report import Answer, Plot, Rows, Table
from bcrit.analysis.run import Run
from bcrit.analysis.targets import measured, refuse_unmeasured
from bcrit.analysis.targets.budgets import Budgets, BudgetTables, Resource, Status, amount, budget_tables, read_budgets

_SYMBOLS = {Status.COVERED.value: "circle", Status.CUT.value: "circle-open", Status.STOPPED.value: "star-open"}
_MARKS = {Status.COVERED.value: "", Status.CUT.value: " *", Status.STOPPED.value: " +"}  # behind a value in a table
_KEY = "*: some trials were stopped before the budget ended. +: trials reached the target before it and stopped."


def ask(
    run: Run,
    steps: Annotated[Sequence[float], "A budget of optimizer updates. Repeatable."] = (),
    examples: Annotated[Sequence[float], "A budget of training examples. Repeatable."] = (),
    hours: Annotated[Sequence[float], "A budget of training time in hours. Repeatable."] = (),
) -> Answer | str:
    """Show the best result of every batch size under fixed budgets, and which one wins.

    Without options the budgets are chosen from the run. '*': some trials were stopped before the budget ended.
    '+': trials reached the run's target before it ended and stopped there.
    """
    asked = read_budgets({Resource.STEPS: steps, Resource.EXAMPLES: examples, Resource.HOURS: hours})
    budgets = within(run, asked) if asked else run.budgets
    if budgets is None:
        return run.unmeasured or "the run has no learning curves"
    parts: list[Plot | Rows] = []
    unit = run.experiment.unit
    for resource in Resource:
        cells = budgets.cells[(budgets.cells["resource"] == resource) & (budgets.cells["status"] != Status.MISSING)]
        if cells.empty:
            continue
        words = {Resource.STEPS: "the number of steps", Resource.HOURS: "time"}.get(resource, f"the number of {unit}")
        caption = (
            f"The best {budgets.metric} of every batch size when {words} is limited, one colour a budget. Filled: "
            "every trial could use the budget. Open: some were stopped before. Stars: trials reached the target before "
            "and stopped there."
        )
        parts.append(Plot(f"budgets-{resource.value}", _plot(budgets, resource, cells, unit), caption))
        within_what = {Resource.STEPS: "... steps", Resource.HOURS: "a time of ..."}.get(resource, f"... {unit}")
        heading = f"Best {budgets.metric} within {within_what}"
        parts.append(Rows(heading, _table(budgets, resource, cells, unit), folded=True, brief=True))
    sentences = (*budgets.sentences, f"In the tables {_KEY}")
    facts, some = budgets.to_json(), bool(parts)
    return Answer("budgets", "Fixed budgets", sentences, tuple(parts), facts, budgets.notes, on_page=some)


def within(run: Run, asked: Budgets) -> BudgetTables:
    """The tables for budgets of the user's choice."""
    crossings, best = measured(run.folder, run.recorded, run.declared.target, [], asked)
    refuse_unmeasured(run.folder, crossings)
    return budget_tables(run.recorded, run.declared, best, run.declared.target)


def _plot(budgets: BudgetTables, resource: Resource, cells: pd.DataFrame, unit: str) -> draw.Figure:
    data: list[draw.Trace] = []
    for budget, color in draw.in_turn(sorted(set(cells["budget"]))).items():
        rows = cells[cells["budget"] == budget]
        within_it = amount(resource, budget, unit)
        hovers = [
            {
                "budget": within_it,
                "batch size": row["batch_size"],
                budgets.metric: row["value"],
                "trial": row["best_trial"],
                "what it is": Status(row["status"]).sentence,
            }
            for row in rows.to_dict("records")
        ]
        symbols = [_SYMBOLS[status] for status in rows["status"]]
        marks = draw.points(rows["batch_size"], rows["value"], hovers, color=color, symbol=symbols)
        line = {"mode": "lines+markers", "line": {"color": color, "width": 1.2}}
        data.append({**marks, **line, "name": draw.label(within_it)})
    sizes = sorted(set(cells["batch_size"]))
    x = draw.batch_axis(unit, sizes)
    return draw.figure(data, x, draw.value_axis(draw.label(f"best {budgets.metric}"), cells["value"]), height=380)


def _table(budgets: BudgetTables, resource: Resource, cells: pd.DataFrame, unit: str) -> Table:
    """Batch sizes downwards, of which there may be many."""
    verdicts = [verdict for verdict in budgets.verdicts if verdict.resource is resource]
    columns = [
        {row["batch_size"]: row for row in cells[cells["budget"] == verdict.budget].to_dict("records")}
        for verdict in verdicts
    ]
    rows = [
        (f"{size:,}", *(_cell(column.get(size)) for column in columns)) for size in sorted(set(cells["batch_size"]))
    ]
    winners = (
        "none" if v.winner is None else f"{v.winner:,}" + ("" if v.share is None else f" ({v.share:.0%})")
        for v in verdicts
    )
    budget = [verdict.budget for verdict in verdicts]
    hours = resource is Resource.HOURS
    head = (f"B ({unit})", *(duration(each, beside=budget) if hours else readable(each) for each in budget))
    return Table(head, (*rows, ("clear winner", *winners)))


def _cell(row: dict[Any, Any] | None) -> str:
    """`0.14`, `0.14 *` (cut), `0.14 +` (stopped), a dash where the study is not shown."""
    if row is None or row["status"] == Status.MISSING or pd.isna(row["value"]):
        return "–"
    return value_text(float(row["value"])) + _MARKS[row["status"]]
