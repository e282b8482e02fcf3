"""`bcrit import` and `bcrit export`: runs from elsewhere as run folders, and run folders for elsewhere.

Every format is a command of its own with its own options: `bcrit import batch_science SOURCE`. A format gives
`ImportedRun`s; `land` writes them and prints what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from bcrit.runs import AsJson
from bcrit.search_spaces.load import read_target
from bcrit.search_spaces.target import Target
from bcrit.terminal import say, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.exchange.imported_run import ImportedRun
    from bcrit.analysis.exchange.write_run import Census
    from bcrit.analysis.records.run_folder import RunFolder

imports = typer.Typer(
    name="import", no_args_is_help=True, help="Bring a run from elsewhere into a run folder, to analyze it here."
)
exports = typer.Typer(name="export", no_args_is_help=True, help="Write a run folder in a format for elsewhere.")

Out = Annotated[
    str | None, typer.Option(help="Run folder to write: a path or a URI. Default: runs/NAME. Several runs: OUT/NAME.")
]
Exported = Annotated[str, typer.Argument(metavar="SOURCE", help="Folder that the export wrote.")]
TargetSentence = Annotated[
    str | None, typer.Option("--target", help="What 'reached' means: 'METRIC < NUMBER' or 'METRIC > NUMBER'.")
]


@imports.command("batch_science")
def import_batch_science(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Root of the tree, or a folder in it.")],
    target: TargetSentence = None,
    workload: Annotated[
        str | None, typer.Option(help="Only workloads that fit this pattern of dataset/model/optimizer: 'mnist/*/sgd'.")
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="Only the first N complete trials of each study (the paper: 100 or 50).")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Import a tree of the layout of Shallue et al. 2018: dataset/model/optimizer/batch_size/trial.

    Every dataset/model/optimizer becomes a run folder. Without --target the goals of the paper are taken.
    """
    from bcrit.analysis.exchange.batch_science import read as batch_science

    land(batch_science.import_batch_science(source, _target(target), workload, first), out, as_json)


@imports.command("table")
def import_table(
    trials: Annotated[Path, typer.Option(help="CSV or Parquet file, one row a trial.")],
    target: Annotated[str, typer.Option(help="What 'reached' means: 'METRIC < NUMBER' or 'METRIC > NUMBER'.")],
    measurements: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file, one row an evaluation: trial_id, step, metrics.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="'batch_size=bs,lr=learning_rate,...', or a YAML file. Default: by usual names.")
    ] = None,
    unit: Annotated[str, typer.Option(help="What a batch counts.")] = "examples",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Import your own tables: trials with their steps to target, or trials and their measurements.

    Needed: batch_size, and steps_to_target (empty = not reached) or the second table. Further columns: trial_id, seed,
    outcome, max_steps, seconds. Any other NAME=COLUMN is a hyperparameter.
    """
    from bcrit.analysis.exchange.tables import read as table_import
    from bcrit.analysis.exchange.tables.mapping import read_mapping

    curves = None if measurements is None else str(measurements)
    run = table_import.import_table(str(trials), curves, read_target(target, "--target"), read_mapping(columns), unit)
    land({run.experiment.name: run}, out, as_json)


@imports.command("csv")
def import_csv(source: Exported, out: Out = None, as_json: AsJson = False) -> None:
    """Import what `bcrit export csv` wrote: the same run again."""
    from bcrit.analysis.exchange.tables.run_tables import import_tables

    run = import_tables(source, "csv")
    land({run.experiment.name: run}, out, as_json)


@imports.command("parquet")
def import_parquet(source: Exported, out: Out = None, as_json: AsJson = False) -> None:
    """Import what `bcrit export parquet` wrote: the same run again."""
    from bcrit.analysis.exchange.tables.run_tables import import_tables

    run = import_tables(source, "parquet")
    land({run.experiment.name: run}, out, as_json)


def land(runs: Mapping[str, ImportedRun], out: str | None, as_json: bool) -> None:
    """Write imported runs and print their census.

    Args:
        runs: by the name of their folder.
        out: a run folder for one run, the folder of the run folders for several; None = `runs`.
        as_json: print one JSON object instead of sentences.
    """
    from bcrit.analysis.exchange.write_run import refuse_occupied, write_runs

    folders = {name: _place(name, out, single=len(runs) == 1) for name in runs}
    for folder in folders.values():
        refuse_occupied(folder)
    written = write_runs([(run, folders[name]) for name, run in runs.items()])
    if as_json:
        print(json.dumps({"runs": [census.to_json() for census in written]}, indent=2, allow_nan=False))
        return
    for census in written:
        _print_census(census)


def _target(sentence: str | None) -> Target | None:
    return None if sentence is None else read_target(sentence, "--target")


def _place(name: str, out: str | None, single: bool) -> RunFolder:
    from bcrit.analysis.records.run_folder import RunFolder

    if out is not None and single:
        return RunFolder.at(out)
    if out is not None:
        return RunFolder.at(RunFolder.at(out).address(name))
    folder, number = RunFolder.at(f"runs/{name}"), 1
    while folder.occupied():
        number += 1
        folder = RunFolder.at(f"runs/{name}-{number}")
    return folder


def _print_census(census: Census) -> None:
    console = wide_console()
    table = Table(title=escape(f"{census.source}: {census.target}"), box=box.SIMPLE_HEAD)
    for heading in ("studies", "trials", "measurements", *census.outcomes):
        table.add_column(heading.replace("_", " "), justify="right")
    counts = (len(census.batch_sizes), census.trials, census.measurements, *census.outcomes.values())
    table.add_row(*(f"{count:,}" if count else "-" for count in counts))
    console.print(table)
    unreached = [str(batch_size) for batch_size, n in census.reached_by_study.items() if not n]
    if unreached:
        say(console, f"No trial reached the target at batch size {', '.join(unreached)}.")
    for note in census.notes:
        say(console, f"  note: {note}.")
    say(console, f"written to {census.run}; next:  bcrit report {census.run}\n")


Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]
Place = Annotated[str, typer.Argument(metavar="OUT", help="Local folder to write; nothing may lie there.")]


@exports.command("csv")
def export_csv(run: Run, out: Place) -> None:
    """Write trials.csv and measurements.csv; `bcrit import csv` gives the same run back."""
    from bcrit.analysis.exchange.tables.run_tables import export_tables
    from bcrit.analysis.records.run_folder import RunFolder

    _print_export(run, out, "csv", export_tables(RunFolder.at(run), out, "csv"))


@exports.command("parquet")
def export_parquet(run: Run, out: Place) -> None:
    """Write trials.parquet and measurements.parquet; `bcrit import parquet` gives the same run back."""
    from bcrit.analysis.exchange.tables.run_tables import export_tables
    from bcrit.analysis.records.run_folder import RunFolder

    _print_export(run, out, "parquet", export_tables(RunFolder.at(run), out, "parquet"))


@exports.command("batch_science")
def export_batch_science(run: Run, out: Place) -> None:
    """Write the layout of Shallue et al. 2018; `bcrit import batch_science` gives the same run back."""
    from bcrit.analysis.exchange.batch_science import export as batch_science_export
    from bcrit.analysis.records.run_folder import RunFolder

    written = batch_science_export.export_batch_science(RunFolder.at(run), out)
    _print_export(run, out, "batch_science", written)


def _print_export(run: str, out: str, kind: str, rows: Mapping[str, int]) -> None:
    counts = " and ".join(f"{count:,} {name}" for name, count in rows.items())
    say(wide_console(), f"{run}: {counts} written to {out}; back:  bcrit import {kind} {out}")
