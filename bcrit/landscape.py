"""`bcrit landscape`: sharpness and curvature of a run's winners, beside what un-tuned training finds."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcrit.runs import AsJson
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say

if TYPE_CHECKING:
    from bcrit.analysis.landscape.result import Landscape

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]


def landscape(
    run: Run,
    seeds: Annotated[int, typer.Option(min=1, help="Confirmation runs of each study, as far as there are.")] = 3,
    eps: Annotated[
        list[float] | None,
        typer.Option(metavar="E", help="Size of the box of sharpness; repeatable. Default: 0.001 and 0.0005."),
    ] = None,
    subspace: Annotated[
        int, typer.Option(min=0, metavar="P", help="Directions of the random subspace; 0 leaves it out.")
    ] = 100,
    examples: Annotated[
        int, typer.Option(min=1, help="Rows of the training set that the loss is taken on, as far as there are.")
    ] = 4096,
    iterations: Annotated[int, typer.Option(min=1, help="Of L-BFGS-B in each search for the highest loss.")] = 10,
    warm_starts: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Also train the largest batch size from N iterates of the smallest."),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure sharpness and curvature around the confirmed winners, and add them to the report.

    For the winner of every study, and for a run at the same batch size that keeps the hyperparameters of the smallest
    one, trained to the same target: sharpness in the full space and a random subspace (Keskar et al. 2016), the top
    eigenvalue and the trace of the Hessian, the distance from the start; and the loss between the smallest and the
    largest batch size. The loss f stands beside every number, because sharpness and curvature fall with it.

    Weights are made by training the confirmation runs again, at most once: they stay in RUN/checkpoints. This takes
    2 x seeds training runs a batch size. Memory of the subspace: 4 x P bytes a weight.

    --warm-starts 6 trains the smallest batch size for its whole search budget, and from 6 of its iterates (from none to
    the last one) the largest batch size for the whole of its own, tuned and with the smallest one's hyperparameters:
    seeds x (1 + 2 x 6) training runs of full length.
    """
    from bcrit.analysis.landscape.result import write_landscape
    from bcrit.analysis.landscape.sentences import sentences
    from bcrit.analysis.records.run_folder import LANDSCAPE, RunFolder
    from bcrit.measured import finish_and_print
    from bcrit.tuner.landscape.landscape import landscape as measure_landscape
    from bcrit.tuner.landscape.measure import Options

    errors, folder = Console(stderr=True), RunFolder.at(run)
    try:
        given = {} if not eps else {"eps": tuple(eps)}
        options = Options(
            seeds=seeds, subspace=subspace, examples=examples, iterations=iterations, warm_starts=warm_starts, **given
        )
    except ValueError as error:
        raise InputError("landscape", [str(error)]) from error
    with redirect_stdout(sys.stderr):  # what a user's code prints
        found = measure_landscape(folder, options, lambda line: say(errors, line))
    write_landscape(folder, found)
    finish_and_print(folder, LANDSCAPE, found.to_json(), sentences(found), _table(found), as_json)


def _table(found: Landscape) -> Table:
    """The medians over seeds, of the largest box in either space."""
    from bcrit.analysis.report.landscape_section import box_name, summary_table

    whole = summary_table(found)
    large = {box[1]: box_name(*box) for box in reversed(found.boxes)}.values()
    left_out = ["reached", "|w|", "trace"] + (["validation loss"] if found.metric else [])
    wanted = [
        place
        for place, name in enumerate(whole.head)
        if not name.startswith(("sharpness", *left_out)) or name in large  # the report has all of them
    ]
    table = Table(title=escape(f"around networks trained to {found.target}"), box=box.SIMPLE_HEAD)
    for place in wanted:
        table.add_column(escape(_in_lines(whole.head[place])), justify="right", no_wrap=True)
    for row in whole.rows:
        table.add_row(*(escape(row[place]) for place in wanted))
    return table


def _in_lines(heading: str) -> str:
    """A heading over short numbers, broken where the page has room for one line."""
    for piece in (", ", " loss", " eigenvalue", " size"):
        heading = heading.replace(piece, f"\n{piece.strip(', ')}")
    return heading.replace("hyperparameters", "hyper-\nparameters")
