"""The commands that answer from what was recorded: analyze, fit, recommend, report, workloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from analysis.json_values import plain
from analysis.recommendation.frontier import FrontierPoint
from analysis.recommendation.recommend import Recommendation
from analysis.run_folder import EXPERIMENT, REPORT, RunFolder
from analysis.wording import duration, readable
from bcrit.runs import AsJson
from bcrit.say import say, wide_console
from bcrit.summary import fit_lines, print_summary
from search_spaces.problems import InputError

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]


def analyze(
    run: Run,
    target: Annotated[
        str | None, typer.Option(help="Analyze at another target, such as 'val_loss < 0.3'; nothing is written then.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute steps-to-target, boundary verdicts and the fit of a run again, and print them."""
    from analysis.analyze import analyze as analyze_run
    from analysis.analyze import write_analysis
    from analysis.targets.thresholds import read_targets
    from bcrit.finish import recommend_run

    folder = RunFolder.at(run)
    other = None if target is None else read_targets([target], folder.read_experiment().target)[0]
    analysis = analyze_run(folder, other)
    if other is None:
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
    from analysis import fit_hyperbola, read_step_times, read_table
    from analysis.fit.definitions import sentence as definition_sentence
    from analysis.fit.predictions import sentence as prediction_sentence

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


def recommend(
    source: Annotated[
        str, typer.Argument(metavar="RUN|TABLE.csv", help="Run folder, or a table as `bcrit fit` takes.")
    ],
    step_time: Annotated[
        Path | None,
        typer.Option(
            help="CSV with columns batch_size and step_seconds (or examples_per_second); optional device, devices, "
            "price_per_device_hour. Default: measured by the run."
        ),
    ] = None,
    price_per_device_hour: Annotated[float | None, typer.Option(help="Price of one device for one hour.")] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=X", help="Price of one hour of a kind in the column 'device'; once a kind."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Devices that one training run occupies, where the table does not say (default: 1)."),
    ] = None,
    max_hours: Annotated[float | None, typer.Option(help="Deadline, in hours of training.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Budget in money (device-hours without a price).")] = None,
    max_steps: Annotated[float | None, typer.Option(help="Budget of optimizer updates.")] = None,
    max_examples: Annotated[float | None, typer.Option(help="Budget of training examples.")] = None,
    level: Annotated[
        float | None, typer.Option(help="Confidence level of the intervals, for a table (default: 0.95).")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="What a batch counts, for a table (default: examples).")] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits.

    With several kinds or numbers of devices in the table of step times, the answer says on which to train.
    Exit code 1 when no batch size keeps the limits; the answer then says which must give, and by how much.
    """
    from analysis import fit_hyperbola, read_table
    from analysis import recommend as recommend_batch_size
    from analysis.analyze import analyze as analyze_run
    from analysis.recommendation.hardware_table import read_hardware, read_prices
    from bcrit.finish import recommend_run

    options: dict[str, Any] = {
        "max_hours": max_hours,
        "max_cost": max_cost,
        "max_steps": max_steps,
        "max_examples": max_examples,
    }
    prices, hardware = read_prices(price or []), None
    if step_time is not None:
        hardware = read_hardware(step_time, prices=prices, price_per_device_hour=price_per_device_hour, devices=devices)
    elif prices:
        raise InputError("--price", ["it names kinds of device, which only a table given by --step-time has"])
    else:
        options |= {"price_per_device_hour": price_per_device_hour, "devices": devices}
    if RunFolder.at(source).has(EXPERIMENT):
        if level is not None or unit is not None:
            raise InputError(source, ["--level and --unit are for tables; a run has its own; leave them out"])
        found = recommend_run(analyze_run(RunFolder.at(source)), hardware, **options)
        if found is None:
            raise InputError(source, [f"nothing to recommend from: {analyze_run(RunFolder.at(source)).no_fit}"])
        advice = found
    else:
        result = fit_hyperbola(
            read_table(Path(source)), level=0.95 if level is None else level, unit=unit or "examples"
        )
        advice = recommend_batch_size(result, hardware, **options)
    if as_json:
        _print_json(advice.to_json())
    else:
        console = wide_console()
        say(console, advice.paragraph)
        console.print(_choices(advice))
        for sentence in (advice.sentences[-1], *(f"  note: {caveat}" for caveat in advice.caveats)):
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


def _choices(advice: Recommendation) -> Table:
    """One row a batch size and hardware; choices that agree share it."""
    names: dict[FrontierPoint, list[str]] = {}
    for name, point in advice.choices.items():
        names.setdefault(point, []).append(name)
    table = Table(box=box.SIMPLE_HEAD)
    hardware = ["on"] if advice.several else []
    cost = f"cost ({advice.cost_unit or 'unknown'})"
    for heading in ("choice", "batch size", *hardware, "steps", advice.unit, "efficiency", "time", cost):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for point, agreeing in names.items():
        table.add_row(
            ", ".join(agreeing),
            readable(point.batch_size),
            *(escape(point.hardware) for _ in hardware),
            readable(point.steps),
            readable(point.examples),
            "-" if point.efficiency is None else f"{readable(100 * point.efficiency)} %",
            "-" if point.hours is None else duration(point.hours),
            "-" if point.cost is None else readable(point.cost),
        )
    return table


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))
