"""The commands that answer from what was recorded: analyze, report, workloads."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from bcrit.analysis.records.json_values import plain
from bcrit.runs import AsJson
from bcrit.terminal import print_json, show, wide_console

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
    from bcrit.analysis.questions.steps import ask
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run
    from bcrit.analysis.targets.crossings import read_targets

    folder = RunFolder.at(run)
    other = None if target is None else read_targets([target], folder.read_experiment().target)[0]
    asked = Run(folder, other)
    if other is None:
        write_analysis(asked)
    if as_json:
        print_json(asked.to_json())  # the facts of the other questions too
    else:
        show(ask(asked))


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
        print_json({name: plain(entry) for name, entry in WORKLOADS.items()})
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
