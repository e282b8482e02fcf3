"""`bcrit adaptive`: batch sizes that follow the noise scale along training, beside fixed ones."""

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
    from bcrit.analysis.adaptive.result import Adaptive
    from bcrit.tuner.training.batch_schedule import Ramp

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]


def adaptive(
    run: Run,
    exchange_rate: Annotated[
        list[float] | None,
        typer.Option(
            metavar="R",
            help="Examples paid for a step less, B = sqrt(R N); repeatable. Default: 1/16, 1/4, 1, 4, 16 times b_crit.",
        ),
    ] = None,
    ramp: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGES", help="A fixed schedule, 'from step:batch size', as in 0:16,50:64,200:256; repeatable."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every schedule, on seeds that the run has not used.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Train with batch sizes that grow with the noise scale, and say what that gains over fixed ones.

    From the confirmed studies of a run comes the learning rate of every batch size. With it are trained, on the same
    fresh seeds and to the same target: every fixed batch size, and batch sizes that follow the gradient noise scale N
    along training, B = sqrt(R N), for several exchange rates R (McCandlish et al. 2018, appendix D). The answer is how
    many times the steps and examples of their mean batch size held fixed they need, with an interval over seeds, beside
    what theory predicts.

    Every finished run is kept in RUN/adaptive, so that a call after a kill goes on where it stopped; remove that folder
    after a change of your own code.

    Needs three confirmed batch sizes on both sides of b_crit, whose winners have a constant learning rate; a
    SupervisedWorkload without batch normalisation (ghost batches are fine), or noisy_quadratic.
    """
    from bcrit.analysis.adaptive.result import write_adaptive
    from bcrit.analysis.adaptive.sentences import sentences
    from bcrit.analysis.records.run_folder import ADAPTIVE, RunFolder
    from bcrit.measured import finish_and_print
    from bcrit.tuner.adaptive.adaptive import Options
    from bcrit.tuner.adaptive.adaptive import adaptive as train_and_measure

    errors, folder = Console(stderr=True), RunFolder.at(run)
    try:
        options = Options(tuple(exchange_rate or ()), tuple(_stages(text) for text in ramp or ()), seeds)
    except ValueError as error:
        raise InputError("adaptive", [str(error)]) from error
    with redirect_stdout(sys.stderr):  # what a user's code prints
        found = train_and_measure(folder, options, lambda line: say(errors, line))
    write_adaptive(folder, found)
    finish_and_print(folder, ADAPTIVE, found.to_json(), sentences(found), _table(found), as_json)


def _stages(text: str) -> Ramp:
    """A ramp as it is written on the command line.

    Raises:
        ValueError: it is none.
    """
    from bcrit.tuner.training.batch_schedule import Ramp

    try:
        stages = tuple((int(start), int(size)) for start, size in (part.split(":") for part in text.split(",")))
    except ValueError as error:
        raise ValueError(
            f"a ramp is written 'from step:batch size' with commas between, but it is '{text}'; try 0:16,50:64"
        ) from error
    return Ramp(stages)


def _table(found: Adaptive) -> Table:
    from bcrit.analysis.report.adaptive_section import answer_table

    whole = answer_table(found)
    wanted = [place for place, name in enumerate(whole.head) if name in _shown(found)]
    table = Table(title=escape(f"batch sizes that change along training to {found.target}"), box=box.SIMPLE_HEAD)
    for place in wanted:
        table.add_column(escape(whole.head[place].replace(" ", "\n", 1)), justify="right", no_wrap=True)
    for row in whole.rows:
        table.add_row(*(escape(row[place]) for place in wanted))
    return table


def _shown(found: Adaptive) -> tuple[str, ...]:
    """The columns for which a terminal has room; the report has all of them."""
    return ("schedule", "reached", "steps", found.unit, "over fixed", "predicted", "gamma")
