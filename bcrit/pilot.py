"""`bcrit pilot`: one short run that proposes the batch sizes, the learning rates and the budget of a study."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bcrit.runs import AsJson, checked_experiment, read_experiment_file
from bcrit.search_spaces.load import dump_data, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import print_json, say, show, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.questions.pilot.answer import Proposal


def pilot(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment, as `bcrit tune` takes it.")
    ],
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Where to run. Default: the middle of the experiment's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with the noise scale; one has no interval.")] = 5,
    write: Annotated[
        Path | None, typer.Option(metavar="NEW.yaml", help="Write the proposed experiment to this new file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Propose the batch sizes to study, the box of the learning rate, the budget, and what the study will cost.

    At one batch size learning rates of the experiment's box run against each other to the target, by successive
    halving; all else stands at one value (momentum 0.9, constant schedule, the middle of a box). The best one runs on
    fresh seeds with its gradient noise scale measured along the way, whose mean hints at b_crit. Some updates are timed
    at each batch size. All of it happens in this process, without Ray, and takes a few per cent of the study.

    Nothing is written without --write. What is proposed is a place to begin; `bcrit tune` measures.
    """
    from bcrit.analysis.questions.pilot.answer import answer as answer_of
    from bcrit.tuner.pilot.pilot import pilot as run_pilot

    errors, console = Console(stderr=True), wide_console(stderr=as_json)
    if write is not None:
        _check_free(write)
    where = str(experiment)
    data = read_yaml(read_experiment_file(experiment), where)
    checked, notes = checked_experiment(data, where)
    if batch_size is not None:
        checked_experiment({**data, "batch_sizes": [batch_size]}, "--batch-size")
    for note in notes:
        say(errors, f"note: {note}")
    with redirect_stdout(sys.stderr):  # what a user's code prints
        found = run_pilot(checked, data, where, batch_size, seeds, lambda line: say(errors, line))
    answer = answer_of(found)
    if as_json:
        print_json(answer.facts)
    else:
        show(answer)
    if found.proposal is None:
        raise typer.Exit(1)
    if write is not None:
        _write(write, found.proposal, where, found.measured.batch_size)
        say(console, f"\nwrote {write}; go on with:  bcrit tune {write}")


def _check_free(path: Path) -> None:
    """Refuse a place that cannot be written to before any time is spent.

    Raises:
        InputError: there is something, or no folder.
    """
    if path.exists():
        raise InputError("--write", [f"'{path}' exists and is not overwritten; choose another name"])
    if not path.parent.is_dir():
        raise InputError("--write", [f"'{path}' cannot be written: there is no folder '{path.parent}'; make it"])
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        why = f"'{path}' cannot be written: {error.strerror}; choose a place that you may write to"
        raise InputError("--write", [why]) from error


def _write(path: Path, proposal: Proposal, where: str, batch_size: int) -> None:
    comments = (
        f"# Proposed by `bcrit pilot {where}`, run at batch size {batch_size}: batch_sizes, the box of lr,\n"
        "# centre and budget are the pilot's, the rest is the experiment's.\n"
    )
    try:
        with path.open("x", encoding="utf-8") as sink:
            sink.write(comments + dump_data(proposal.data))
    except OSError as error:
        raise InputError("--write", [f"'{path}' cannot be written: {error.strerror}"]) from error
