"""The commands that answer from what was recorded: analyze, fit, recommend, report, workloads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from analysis.json_values import plain
from analysis.recommendation.frontier import FrontierPoint
from analysis.run_folder import EXPERIMENT, REPORT, RunFolder
from analysis.wording import duration, readable
from bcrit.runs import AsJson
from bcrit.say import say, wide_console
from bcrit.summary import fit_lines, print_summary
from search_spaces.problems import InputError

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]


def analyze(run: Run, as_json: AsJson = False) -> None:
    """Compute steps-to-target, boundary verdicts and the fit of a run again, and print them."""
    from analysis.analyze import analyze as analyze_run
    from analysis.analyze import write_analysis
    from bcrit.finish import recommend_run

    folder = RunFolder.at(run)
    analysis = analyze_run(folder)
    write_analysis(folder, analysis)
    if as_json:
        _print_json(analysis.to_json())
    else:
        print_summary(wide_console(), analysis, recommend_run(analysis))


def fit(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE.csv", help="CSV with columns batch_size, steps; optional seed, max_steps.")
    ],
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    unit: Annotated[str, typer.Option(help="What a batch counts.")] = "examples",
    as_json: AsJson = False,
) -> None:
    """Fit the curve S = s_min (1 + b_crit / B) to a table of steps-to-target from anywhere.

    Empty, nan or inf in 'steps' is a run that did not reach the target within 'max_steps'.
    """
    from analysis import fit_hyperbola, read_table

    result = fit_hyperbola(read_table(table), level=level, unit=unit)
    if as_json:
        _print_json(result.to_json())
        return
    console = wide_console()
    for line in fit_lines(result):
        say(console, line)


def recommend(
    source: Annotated[
        str, typer.Argument(metavar="RUN|TABLE.csv", help="Run folder, or a table as `bcrit fit` takes.")
    ],
    step_time: Annotated[
        Path | None, typer.Option(help="CSV with columns batch_size, step_seconds. Default: measured by the run.")
    ] = None,
    price_per_device_hour: Annotated[float | None, typer.Option(help="Price of one device for one hour.")] = None,
    devices: Annotated[int, typer.Option(help="Devices that one training run occupies.")] = 1,
    max_hours: Annotated[float | None, typer.Option(help="Deadline.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Budget in money (device-hours without a price).")] = None,
    max_steps: Annotated[float | None, typer.Option(help="Budget of optimizer updates.")] = None,
    max_examples: Annotated[float | None, typer.Option(help="Budget of training examples.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits.

    Exit code 1 when no batch size keeps the limits; the answer then says which must give, and by how much.
    """
    from analysis import fit_hyperbola, read_step_times, read_table
    from analysis import recommend as recommend_batch_size
    from analysis.analyze import analyze as analyze_run
    from analysis.report.headline import settings
    from bcrit.finish import recommend_run

    times = None if step_time is None else read_step_times(step_time)
    limits: dict[str, Any] = {
        "price_per_device_hour": price_per_device_hour,
        "devices": devices,
        "max_hours": max_hours,
        "max_cost": max_cost,
        "max_steps": max_steps,
        "max_examples": max_examples,
    }
    if RunFolder.at(source).has(EXPERIMENT):
        analysis = analyze_run(RunFolder.at(source))
        found, unit = recommend_run(analysis, times, **limits), analysis.experiment.unit
        if found is None:
            raise InputError(source, [f"nothing to recommend from: {analysis.no_fit}"])
        advice = found
    else:
        result = fit_hyperbola(read_table(Path(source)))
        advice, unit = recommend_batch_size(result, times, **limits), result.unit
    if as_json:
        _print_json(advice.to_json())
    else:
        console = wide_console()
        console.print(_choices(advice.choices, advice.cost_unit, unit))
        for sentence in (*advice.sentences, *settings(advice), *(f"  note: {caveat}" for caveat in advice.caveats)):
            say(console, sentence)
    if not advice.feasible:
        raise typer.Exit(1)


def report(run: Run) -> None:
    """Write the report of a run again: one HTML page that needs nothing else."""
    from bcrit.finish import finish

    folder = RunFolder.at(run)
    finish(folder)
    print(folder.address(REPORT))


def workloads(as_json: AsJson = False) -> None:
    """List the built-in workloads: data, model, metrics, a target that is reached, the unit of a batch."""
    from tuner.workloads.registry import WORKLOADS

    if as_json:
        _print_json({name: plain(entry) for name, entry in WORKLOADS.items()})
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("workload", "what it is", "data", "model", "metrics", "target", "unit"):
        table.add_column(heading)
    for name, entry in WORKLOADS.items():
        table.add_row(
            name, entry.description, entry.data, entry.model, ", ".join(entry.metrics), entry.target, entry.unit
        )
    wide_console().print(table)
    print("A class of your own is named by its import path, my_module:MyWorkload; the README shows one.")


def _choices(choices: Mapping[str, FrontierPoint], cost_unit: str | None, unit: str) -> Table:
    """One row a batch size; choices that agree share it."""
    names: dict[float, list[str]] = {}
    for name, point in choices.items():
        names.setdefault(point.batch_size, []).append(name)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("choice", "batch size", "steps", unit, "time", f"cost ({cost_unit or 'unknown'})"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for point in {point.batch_size: point for point in choices.values()}.values():
        table.add_row(
            ", ".join(names[point.batch_size]),
            *(readable(value) for value in (point.batch_size, point.steps, point.examples)),
            "-" if point.hours is None else duration(point.hours),
            "-" if point.cost is None else readable(point.cost),
        )
    return table


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))
