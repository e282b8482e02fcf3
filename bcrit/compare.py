"""`bcrit compare`: runs and tables side by side, in the terminal, as JSON, as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from bcrit.runs import AsJson
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.comparison import Comparison, StepsTable
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run

_HEAD = 4096  # bytes of a file in which a page of ours says what it is


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Two or more run folders, or tables as `bcrit fit` takes them."),
    ],
    out: Annotated[
        str | None, typer.Option(help="Write the comparison as one HTML page to this file. Default: no file.")
    ] = None,
    across_targets: Annotated[
        bool, typer.Option("--across-targets", help="Divide numbers of runs to different targets too.")
    ] = False,
    unit: Annotated[str, typer.Option(help="What a batch counts in tables; a run says it itself.")] = "examples",
    as_json: AsJson = False,
) -> None:
    """Compare runs: optimizers, models, targets side by side, and which differences are real.

    The first run is the one that the others are compared with. Exit code 1 when no two of them can be compared.
    """
    from bcrit.analysis.comparison import compare as compare_runs

    if out is not None:
        _check_free(out)
    comparison = compare_runs(_sources(runs, unit), across_targets)
    if out is not None:  # before anything is printed: a reader that closes the pipe must not cost the page
        from bcrit.analysis.report.comparison import build_comparison

        folder, name = _place(out)
        folder.write_bytes(name, build_comparison(comparison).encode())
    if as_json:
        print(json.dumps(comparison.to_json(), indent=2, allow_nan=False))
    else:
        _print(comparison)
    if out is not None:
        say(wide_console(stderr=as_json), f"\ncomparison: {out}")
    if not comparison.anything:
        raise typer.Exit(1)


def _sources(places: list[str], unit: str) -> list[Run | StepsTable]:
    """Read every run and table; the problems of all come in one message.

    Raises:
        InputError: one is neither a run folder nor a table.
    """
    from bcrit.analysis import read_table
    from bcrit.analysis.comparison import StepsTable
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.analysis.run import Run

    found: list[Run | StepsTable] = []
    problems = []
    for place in places:
        folder = RunFolder.at(place)
        try:
            if folder.has(EXPERIMENT) or "://" in place or Path(place).is_dir():
                run = Run(folder)
                _ = run.studies  # what cannot be read is told here
                found.append(run)
            else:
                found.append(StepsTable(place, read_table(place), unit))
        except InputError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
    if problems:
        raise InputError("compare", problems)
    return found


def _place(out: str) -> tuple[RunFolder, str]:
    """The folder of a file, local or of any URI, and the file's name in it."""
    from bcrit.analysis.records.run_folder import RunFolder

    folder, slash, name = out.rpartition("/")
    return RunFolder.at(folder + slash if slash else "."), name


def _check_free(out: str) -> None:
    """Let nothing be overwritten but a page of ours.

    Raises:
        InputError: another file or a folder lies there, or the folder around it cannot be written to.
    """
    from bcrit.analysis.report.comparison import GENERATOR

    folder, name = _place(out)
    if not name:
        raise InputError(out, ["'--out' names a file, but this is a folder; add a name such as compare.html"])
    if not folder.creatable():
        raise InputError(out, ["its folder cannot be written to; give another place"])
    if not folder.has(name):
        return
    if folder.is_local and Path(folder.path(name)).is_dir():
        raise InputError(out, ["'--out' names a file, but this is a folder; add a name such as compare.html"])
    with folder.filesystem.open_input_stream(folder.path(name)) as stream:
        head = bytes(stream.read(_HEAD))
    if f'content="{GENERATOR}"'.encode() not in head:
        raise InputError(out, ["a file that is no comparison lies there and is kept; give another name or remove it"])


def _print(comparison: Comparison) -> None:
    from bcrit.analysis.report.comparison.tables import run_row

    console = wide_console()
    rows = [run_row(run) for run in comparison.runs]
    table = Table(box=box.SIMPLE_HEAD)
    # Columns that are the same in every row are said once below.
    shared = {name for name in ("target", "unit") if len({row[name] for row in rows}) == 1}
    wanted = ("run", "target", "unit", "s_min", "e_min", "b_crit", "batch sizes", "lack of fit", "trials")
    for name in (name for name in wanted if name not in shared):
        table.add_column(escape(name), justify="left" if name == "run" else "right")
    for row in rows:
        # An interval stands below its number, so that a row fits into a terminal.
        table.add_row(*(escape(row[name].replace(" (", "\n(")) for name in wanted if name not in shared))
    console.print(table)
    for name in sorted(shared):
        say(console, f"  {name}: {rows[0][name]}")
    console.print()
    for sentence in comparison.sentences:
        say(console, sentence, style="bold")
    for caution in comparison.cautions:
        say(console, f"  note: {caution}")


__all__ = ["compare"]
