"""`bcrit recommend`: from a run or a table, step times, prices and limits to the batch size to train at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from bcrit.analysis.wording import duration, readable
from bcrit.runs import AsJson
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.recommendation.frontier import FrontierPoint
    from bcrit.analysis.recommendation.hardware import Hardware
    from bcrit.analysis.recommendation.recommend import Recommendation

Source = Annotated[str, typer.Argument(metavar="RUN|TABLE.csv", help="Run folder, or a table as `bcrit fit` takes.")]
StepTime = Annotated[
    Path | None,
    typer.Option(
        help="CSV with columns batch_size and step_seconds (or examples_per_second); optional device, devices, "
        "price_per_device_hour. Default: measured by the run."
    ),
]
PricePerHour = Annotated[float | None, typer.Option(help="Price of one device for one hour.")]
Price = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND=X", help="Price of one hour of a kind in the column 'device'; once a kind."),
]
Devices = Annotated[
    int | None, typer.Option(help="Devices that one training run occupies, where the table does not say (default: 1).")
]
MaxHours = Annotated[float | None, typer.Option(help="Deadline, in hours of training.")]
MaxCost = Annotated[float | None, typer.Option(help="Budget in money (device-hours without a price).")]
MaxSteps = Annotated[float | None, typer.Option(help="Budget of optimizer updates.")]
MaxExamples = Annotated[float | None, typer.Option(help="Budget of training examples.")]
Level = Annotated[float | None, typer.Option(help="Confidence level of the intervals, for a table (default: 0.95).")]
Unit = Annotated[str | None, typer.Option(help="What a batch counts, for a table (default: examples).")]


def recommend(
    source: Source,
    step_time: StepTime = None,
    price_per_device_hour: PricePerHour = None,
    price: Price = None,
    devices: Devices = None,
    max_hours: MaxHours = None,
    max_cost: MaxCost = None,
    max_steps: MaxSteps = None,
    max_examples: MaxExamples = None,
    level: Level = None,
    unit: Unit = None,
    as_json: AsJson = False,
) -> None:
    """Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits.

    With several kinds or numbers of devices in the table of step times, the answer says on which to train.
    Exit code 1 when no batch size keeps the limits; the answer then says which must give, and by how much.
    """
    limits = {"max_hours": max_hours, "max_cost": max_cost, "max_steps": max_steps, "max_examples": max_examples}
    hardware, options = _hardware(step_time, price or [], price_per_device_hour, devices)
    advice = _advice(source, hardware, level, unit, {**limits, **options})
    if as_json:
        print(json.dumps(advice.to_json(), indent=2, allow_nan=False))
    else:
        console = wide_console()
        say(console, advice.paragraph)
        console.print(_choices(advice))
        for sentence in (advice.sentences[-1], *(f"  note: {caveat}" for caveat in advice.caveats)):
            say(console, sentence)
    if not advice.feasible:
        raise typer.Exit(1)


def _hardware(
    step_time: Path | None, price: list[str], price_per_device_hour: float | None, devices: int | None
) -> tuple[Sequence[Hardware] | None, dict[str, Any]]:
    """What a training may run on; without a table of step times, what is to be said of the run's own hardware."""
    from bcrit.analysis.recommendation.hardware_table import read_hardware, read_prices

    prices = read_prices(price)
    if step_time is None:
        if prices:
            raise InputError("--price", ["it names kinds of device, which only a table given by --step-time has"])
        return None, {"price_per_device_hour": price_per_device_hour, "devices": devices}
    found = read_hardware(step_time, prices=prices, price_per_device_hour=price_per_device_hour, devices=devices)
    return found, {}


def _advice(
    source: str,
    hardware: Sequence[Hardware] | None,
    level: float | None,
    unit: str | None,
    options: dict[str, Any],
) -> Recommendation:
    """The recommendation from a run folder or a table.

    Raises:
        InputError: a run is given a level or a unit, or has no curve.
    """
    from bcrit.analysis import fit_hyperbola, read_table
    from bcrit.analysis import recommend as recommend_batch_size
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.analysis.run import Run

    folder = RunFolder.at(source)
    if not folder.has(EXPERIMENT):
        fit = fit_hyperbola(read_table(Path(source)), level=0.95 if level is None else level, unit=unit or "examples")
        return recommend_batch_size(fit, hardware, **options)
    if level is not None or unit is not None:
        raise InputError(source, ["--level and --unit are for tables; a run has its own; leave them out"])
    run = Run(folder)
    if run.fit is None:
        raise InputError(source, [f"nothing to recommend from: {run.no_fit}"])
    return run.recommend(hardware, **options)


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


__all__ = ["recommend"]
