"""`bcrit optimum` and `bcrit sensitivity`: where the best hyperparameters lie, and how much it matters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from bcrit.analysis.records.json_values import plain
from bcrit.analysis.wording import readable
from bcrit.answers import RunPlace
from bcrit.runs import AsJson
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say, wide_console

Within = Annotated[
    float, typer.Option(help="Near-optimal: at most this share more steps than the best; seed noise may make it more.")
]


def optimum(
    run: RunPlace,
    at: Annotated[list[float] | None, typer.Option(help="Also predict at this batch size; may be repeated.")] = None,
    within: Within = 0.2,
    as_json: AsJson = False,
) -> None:
    """Say how the best learning rate and momentum move with the batch size, and by which law, if any.

    With --at, hyperparameters at batch sizes that were not measured, marked by where they come from. Exit code 1 when
    no study reached the target.
    """
    from bcrit.analysis.recommendation.hyperparameters import HyperparametersAt, hyperparameters_at
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run

    sizes = at or []
    _check(within, sizes)
    analysis = Run(RunFolder.at(run))
    laws = analysis.laws_within(within)
    best = analysis.hyperparameters
    found: list[HyperparametersAt] = [hyperparameters_at(size, best, laws) for size in sizes] if best else []
    if as_json:
        print(json.dumps({"run": run, **laws.to_json(), "at": plain(found)}, indent=2, allow_nan=False))
    else:
        console = wide_console()
        for sentence in laws.sentences:
            say(console, sentence)
        for point in found:
            console.print(_point_table(point))
    if not laws.reached:
        raise typer.Exit(1)


def sensitivity(run: RunPlace, within: Within = 0.2, as_json: AsJson = False) -> None:
    """Say how much of each search space does nearly as well as the best, and which hyperparameters matter.

    Exit code 1 when no study reached the target.
    """
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run
    from bcrit.analysis.sensitivity.sensitivity import sensitivity as measure

    _check(within, [])
    analysis = Run(RunFolder.at(run))
    found = measure(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment, within)
    if as_json:
        print(json.dumps({"run": run, **found.to_json()}, indent=2, allow_nan=False))
    else:
        console = wide_console()
        table = _table("batch size", "near-optimal share", "95 % interval", "near-optimal", "worse", "not known")
        for study in found.reached:
            share = study.share
            cells = ("-" if share.value is None else f"{share.value:.2%}", f"{share.low:.2%} to {share.high:.2%}")
            table.add_row(
                readable(study.batch_size), *cells, *map(str, (share.n_inside, share.n_worse, share.n_unknown))
            )
        if found.reached:
            console.print(table)
        for sentence in found.sentences:
            say(console, sentence)
    if not found.reached:
        raise typer.Exit(1)


def _check(within: float, sizes: list[float]) -> None:
    problems = []
    if not 0 < within < 10:
        problems.append(f"'--within' must lie between 0 and 10, but it is {within:g}; 0.2 stands for 20 % more steps")
    problems += [
        f"'--at' must be a positive batch size, but it is {size:g}; give one such as 4096"
        for size in sizes
        if not 0 < size < 1e15
    ]
    if problems:
        raise InputError("command line", problems)


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(escape(heading), justify="right")
    return table


def _point_table(point: Any) -> Table:
    table = _table(f"at batch size {readable(point.batch_size)}", "value", "interval", "source")
    for name, value in point.values.items():
        low, high = point.low.get(name), point.high.get(name)
        interval = "-" if low is None or high is None else f"{readable(low)} to {readable(high)}"
        shown = readable(value) if isinstance(value, int | float) else str(value)
        table.add_row(*map(escape, (name, shown, interval, _source(point.sources, name, point.source))))
    return table


def _source(sources: Mapping[str, str], name: str, otherwise: str) -> str:
    return sources.get(name, otherwise)
