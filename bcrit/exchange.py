"""`bcrit import` and `bcrit export`: runs from elsewhere as run folders, and run folders for elsewhere.

Every source is a command of its own with its own options: `bcrit import batch_science SOURCE`. A source gives
`ImportedRun`s; `land` writes them and prints what was found.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcrit.analysis.exchange import SOURCES, Reading, source
from bcrit.ask import AS_JSON, RUN, listed, option
from bcrit.runs import free_folder
from bcrit.search_spaces.load import read_target
from bcrit.terminal import paragraphs, print_json, say, show, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.exchange.run import ImportedRun
    from bcrit.analysis.exchange.write import Census
    from bcrit.analysis.records.run_folder import RunFolder

exports = typer.Typer(name="export", no_args_is_help=True, help="Write a run folder in a format for elsewhere.")

Out = Annotated[
    str | None, typer.Option(help="Run folder to write: a path or a URI. Default: runs/NAME. Several runs: OUT/NAME.")
]


def imports(asked: Collection[str]) -> typer.Typer:
    """`bcrit import`; only the sources that are asked for are loaded."""
    app = typer.Typer(
        name="import", no_args_is_help=True, help="Bring a run from elsewhere into a run folder, to analyze it here."
    )
    for name, line in SOURCES.items():
        command = command_of(source(name)) if name in asked else listed(name, line.says)
        app.command(name, help=paragraphs(command))(command)
    return app


def command_of(reader: Callable[..., ImportedRun | list[ImportedRun]]) -> Callable[..., None]:
    """The command of a source: what its parameters ask, then where to write and how to tell."""
    own = inspect.signature(reader, eval_str=True).parameters.values()
    shared = inspect.signature(Reading).parameters.values()
    # A `Reading` is asked for by its fields.
    asked = [field for parameter in own for field in (shared if parameter.annotation is Reading else [parameter])]

    def command(out: str | None, as_json: bool, **given: Any) -> None:
        if isinstance(sentence := given.get("target"), str):
            given["target"] = read_target(sentence, "--target")
        for parameter in own:
            if parameter.annotation is Reading:
                given[parameter.name] = Reading(**{field.name: given.pop(field.name) for field in shared})
        found = reader(**given)
        land(found if isinstance(found, list) else [found], out, as_json)

    last = [inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Out)]
    last += [inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AS_JSON)]
    command.__signature__ = inspect.Signature([*map(option, asked), *last])  # type: ignore[attr-defined]
    command.__annotations__ = {}
    command.__doc__ = reader.__doc__
    return command


def land(runs: list[ImportedRun], out: str | None, as_json: bool) -> None:
    """Write imported runs and print their census.

    `out` is a run folder for one run, the folder of the run folders for several; None = `runs`.
    """
    from bcrit.analysis.exchange.write import refuse_occupied, write_runs

    folders = [_place(run.experiment.name, out, single=len(runs) == 1) for run in runs]
    for folder in folders:
        refuse_occupied(folder)
    written = write_runs(zip(runs, folders, strict=True))
    if as_json:
        print_json({"runs": [census.to_json() for census in written]})
        return
    for census in written:
        _print_census(census)


def _place(name: str, out: str | None, single: bool) -> RunFolder:
    from bcrit.analysis.records.run_folder import RunFolder

    if out is not None:
        return RunFolder.at(out) if single else RunFolder.at(RunFolder.at(out).address(name))
    return free_folder(name)


def _print_census(census: Census) -> None:
    from bcrit.analysis.report import Answer, Rows, table_of

    counts = {"studies": len(census.batch_sizes), "trials": census.trials, "measurements": census.measurements}
    occurring = {outcome: n for outcome, n in census.outcomes.items() if n}
    cells = {name.replace("_", " "): f"{n:,}" if n else "-" for name, n in {**counts, **occurring}.items()}
    unreached = ", ".join(str(batch_size) for batch_size, n in census.reached_by_study.items() if not n)
    said = (f"No trial reached the target at batch size {unreached}.",) if unreached else ()
    table = Rows(f"{census.source}: {census.target}", table_of([cells]), brief=True)
    show(Answer("import", "What was found", said, (table,), notes=tuple(f"{note}." for note in census.notes)))
    say(wide_console(), f"written to {census.run}; next:  bcrit report {census.run}\n")


Place = Annotated[str, typer.Argument(metavar="OUT", help="Local folder to write; nothing may lie there.")]


SafeCells = Annotated[
    bool, typer.Option("--safe-cells", help="For spreadsheets: an apostrophe before texts that begin as a formula.")
]


def _export(kind: str, told: str) -> None:
    def export(run: RUN, out: Place, **options: bool) -> None:
        from bcrit.analysis.exchange.exports import EXPORTS
        from bcrit.analysis.records.run_folder import RunFolder

        rows = EXPORTS[kind](RunFolder.at(run), out, **options)
        counts = " and ".join(f"{count:,} {name}" for name, count in rows.items())
        say(wide_console(), f"{run}: {counts} written to {out}; back:  bcrit import {kind} {out}")

    def command(run: RUN, out: Place) -> None:
        export(run, out)

    def csv(run: RUN, out: Place, safe_cells: SafeCells = False) -> None:
        export(run, out, safe_cells=safe_cells)

    exports.command(kind, help=f"{told}; `bcrit import {kind}` gives the same run back.")(
        csv if kind == "csv" else command
    )


_export("csv", "Write trials.csv and measurements.csv")
_export("parquet", "Write trials.parquet and measurements.parquet")
_export("batch_science", "Write the layout of Shallue et al. 2018")
