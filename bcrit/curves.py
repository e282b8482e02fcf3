"""The commands that answer from the stored learning curves: targets and budgets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcrit.analysis.wording import duration, readable
from bcrit.runs import AsJson
from bcrit.say import say, wide_console
from bcrit.search_spaces.target import Direction

if TYPE_CHECKING:
    from bcrit.analysis.targets.grid import TargetCurve, TargetGrid

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]


def targets(
    run: Run,
    target: Annotated[
        list[str] | None,
        typer.Option(help="A target, such as 'val_loss < 0.3', or a threshold. Repeatable. Default: a grid."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read steps to other targets from the curves of a run, and how b_crit changes with the target.

    A plain number is known: nothing that might have been faster was stopped before. '55*': trials were stopped earlier,
    all of them behind. '<= 55': one that was stopped was ahead, so 55 is an upper bound. '> 300': not reached.
    """
    from bcrit.analysis.curve_answers import targets_of_run
    from bcrit.analysis.run_folder import RunFolder

    grid = targets_of_run(RunFolder.at(run), target)
    if as_json:
        print(json.dumps(grid.to_json(), indent=2, allow_nan=False))
        return
    console = wide_console()
    first = grid.targets[0]
    title = f"steps to {first.metric} {'<' if first.direction is Direction.MINIMIZE else '>'} ..., by batch size"
    columns = {f"{curve.target.threshold:g}": _target_column(grid, curve) for curve in grid.curves}
    console.print(_table(title, f"B ({grid.unit})", columns))
    _say_all(console, grid.sentences, grid.notes)


def budgets(
    run: Run,
    steps: Annotated[list[float] | None, typer.Option(help="A budget of optimizer updates. Repeatable.")] = None,
    examples: Annotated[list[float] | None, typer.Option(help="A budget of training examples. Repeatable.")] = None,
    hours: Annotated[list[float] | None, typer.Option(help="A budget of training time in hours. Repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best result of every batch size under fixed budgets, and which one wins.

    Without options the budgets are chosen from the run. '*': some trials were stopped before the budget ended.
    '+': trials reached the run's target before it ended and stopped there.
    """
    from bcrit.analysis.budgets.resources import Resource
    from bcrit.analysis.curve_answers import budgets_of_run
    from bcrit.analysis.report.budgets_section import KEY, value_cell
    from bcrit.analysis.run_folder import RunFolder

    given = {Resource.STEPS: steps or [], Resource.EXAMPLES: examples or [], Resource.HOURS: hours or []}
    found = budgets_of_run(RunFolder.at(run), given)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
        return
    console = wide_console()
    for resource in Resource:
        columns = {}
        for verdict in (verdict for verdict in found.verdicts if verdict.resource is resource):
            mine = found.cells[(found.cells["resource"] == resource) & (found.cells["budget"] == verdict.budget)]
            column = {f"{row['batch_size']:,}": value_cell(row) for row in mine.to_dict("records")}
            column["winner"] = "none" if verdict.winner is None else f"{verdict.winner:,}"
            limit = duration(verdict.budget) if resource is Resource.HOURS else readable(verdict.budget)
            columns[limit] = column
        if columns:
            what = {Resource.STEPS: " steps", Resource.EXAMPLES: f" {found.unit}", Resource.HOURS: ""}[resource]
            title = f"best {found.metric} within ...{what}, by batch size"
            console.print(_table(title, f"B ({found.unit})", columns))
    _say_all(console, (*found.sentences, KEY), found.notes)


def _say_all(console: Console, sentences: tuple[str, ...], notes: tuple[str, ...]) -> None:
    for sentence in (*sentences, *(f"  note: {note}" for note in notes)):
        say(console, sentence)


def _target_column(grid: TargetGrid, curve: TargetCurve) -> dict[str, str]:
    from bcrit.analysis.report.targets_section import cell_text

    rows = grid.cells[grid.cells["threshold"] == curve.target.threshold].to_dict("records")
    column = {f"{row['batch_size']:,}": cell_text(row) for row in rows}
    fit = curve.fit if curve.fit is not None and curve.fit.identified["b_crit"] else None
    names = {"b_crit": "b_crit", "  from": "b_crit_low", "  to": "b_crit_high"}
    return column | {name: "–" if fit is None else readable(getattr(fit, of)) for name, of in names.items()}


def _table(title: str, corner: str, columns: dict[str, dict[str, str]]) -> Table:
    """Batch sizes downwards, of which there may be many."""
    table = Table(title=escape(title), box=box.SIMPLE_HEAD)
    for heading in (corner, *columns):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for name in next(iter(columns.values())):
        table.add_row(name, *(column[name] for column in columns.values()))
    return table
