"""The commands that answer from what was recorded: analyze, fit, report, workloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from bcrit.analysis.records.json_values import plain
from bcrit.runs import AsJson
from bcrit.terminal import say, wide_console

RunPlace = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]


def analyze(
    run: RunPlace,
    target: Annotated[
        str | None, typer.Option(help="Analyze at another target, such as 'val_loss < 0.3'; nothing is written then.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute steps-to-target, boundary verdicts and the fit of a run again, and print them."""
    from bcrit.analysis.finish import write_analysis
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run
    from bcrit.analysis.targets.thresholds import read_targets
    from bcrit.summary import print_summary

    folder = RunFolder.at(run)
    other = None if target is None else read_targets([target], folder.read_experiment().target)[0]
    analysis = Run(folder, other)
    if other is None:
        write_analysis(analysis)
    if as_json:
        _print_json(analysis.to_json())
    else:
        print_summary(wide_console(), analysis)


def fit(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE.csv", help="CSV with columns batch_size, steps; optional seed, max_steps.")
    ],
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    unit: Annotated[str, typer.Option(help="What a batch counts.")] = "examples",
    predict: Annotated[
        list[float] | None, typer.Option(metavar="B", help="Predict a new study at this batch size; repeatable.")
    ] = None,
    linear_from: Annotated[
        float | None,
        typer.Option(metavar="B0", help="Say where training takes 20 % more steps than linear scaling from here."),
    ] = None,
    efficiency: Annotated[
        float | None, typer.Option(help="Say where this share of the examples is not wasted, 0.8 for example.")
    ] = None,
    step_time: Annotated[
        Path | None,
        typer.Option(help="CSV with columns batch_size, step_seconds: what to measure next is then costed in seconds."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit the curve S = s_min (1 + b_crit / B) to a table of steps-to-target from anywhere.

    Empty, nan or inf in 'steps' is a run that did not reach the target within 'max_steps'.
    With --json the answer has more: other definitions, other curves, regimes, what to measure next.
    """
    from bcrit.analysis import fit_hyperbola, read_step_times, read_table
    from bcrit.analysis.fit.definitions import sentence as definition_sentence
    from bcrit.analysis.fit.predictions import sentence as prediction_sentence
    from bcrit.summary import fit_lines

    result = fit_hyperbola(read_table(table), level=level, unit=unit)
    seconds = None if step_time is None else read_step_times(step_time).seconds
    named = {"20_percent_over_linear": ("linear_from", linear_from), "efficiency": ("efficiency", efficiency)}
    options = {option: value for option, value in named.values() if value is not None}
    if as_json:
        _print_json(result.to_json(**options, predict=predict or (), step_seconds=seconds))
        return
    lines = fit_lines(result, step_seconds=seconds)
    asked = [found for found in result.definitions(**options) if named.get(found.name, ("", None))[1] is not None]
    lines += [f"  also: {definition_sentence(found, unit)}" for found in asked]
    lines += [f"  also: {prediction_sentence(found, level, unit)}" for found in result.predict_studies(predict or ())]
    console = wide_console()
    for line in lines:
        say(console, line)


def report(run: RunPlace) -> None:
    """Write the report of a run again: one HTML page that needs nothing else."""
    from bcrit.analysis.finish import finish
    from bcrit.analysis.records.run_folder import REPORT, RunFolder

    folder = RunFolder.at(run)
    finish(folder)
    print(folder.address(REPORT))


def workloads(as_json: AsJson = False) -> None:
    """List the built-in workloads: data, model, metrics, a target that is reached, the unit of a batch."""
    from bcrit.tuner.workloads.registry import WORKLOADS

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
    print(
        "A class or a training function of your own is named by its import path, my_module:name; the README shows both."
    )


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))
