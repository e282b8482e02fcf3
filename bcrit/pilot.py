"""`bcrit pilot`: a small experiment that proposes the batch sizes, the learning rates and the budget of a study."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcrit.ask import AS_JSON
from bcrit.runs import (
    Address,
    Trust,
    Workers,
    checked_experiment,
    free_folder,
    read_experiment_file,
    watched,
)
from bcrit.search_spaces.load import dump_data, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import Screen, print_json, say, say_notes, show, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.questions.pilot.answer import Proposal
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run
    from bcrit.search_spaces.experiment import Experiment
    from bcrit.tuner.session import SessionResult

_SEEDS = 5  # as many as knew the mean of B_simple to a factor 1.3 to 1.6 on digits (95 %); three, to 1.3 to 3.6


def pilot(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment, as `bcrit tune` takes it.")
    ],
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Where to run. Default: the middle of the experiment's.")
    ] = None,
    sizes: Annotated[
        int | None,
        typer.Option(
            min=1, max=3, help="Batch sizes to run at: 1, or 3. Default: 3 where gradient noise cannot be measured."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with the noise scale; one has no interval.")] = _SEEDS,
    write: Annotated[
        Path | None, typer.Option(metavar="NEW.yaml", help="Write the proposed experiment to this new file.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Run folder of the pilot; one that was stopped is gone on with. Default: runs/NAME-pilot ..."
        ),
    ] = None,
    trust: Trust = None,
    address: Address = None,
    workers: Workers = None,
    as_json: AS_JSON = False,
) -> None:
    """Propose the batch sizes to study, the box of the learning rate, the budget, and what the study will cost.

    At one batch size the learning rate is searched in the experiment's box; all else stands at one value (momentum 0.9,
    constant schedule, the middle of a box). The best one runs on fresh seeds with its gradient noise scale measured
    along the way, whose mean hints at b_crit. Where gradient noise cannot be measured, as in a function or program of
    yours, the same is done at three batch sizes, and the curve through their steps is the hint. Some updates are timed
    at each batch size. It takes a few per cent of the study, with three batch sizes up to a third.

    A pilot is a run like any other, in a folder of its own. One that was stopped or killed goes on when the same
    command is given with --out and its folder; one that is complete is answered from there.

    Nothing else is written without --write. What is proposed is a place to begin; `bcrit tune` measures.
    """
    from bcrit.analysis.questions.pilot.answer import answer as answer_of
    from bcrit.analysis.records.run_folder import REPORT, TIMING, RunFolder
    from bcrit.tuner.cluster import OneRay
    from bcrit.tuner.stages.pilot import plan, proposed, read, timing

    errors, console = Screen(stderr=True), wide_console(stderr=as_json)
    if write is not None:
        _check_free(write)
    where = str(experiment)
    data = read_yaml(read_experiment_file(experiment), where)
    checked, notes = checked_experiment(data, where)
    if batch_size is not None:
        checked_experiment({**data, "batch_sizes": [batch_size]}, "--batch-size")
    say_notes(errors, notes)
    with redirect_stdout(sys.stderr):  # what a user's code prints
        planned = plan(checked, data, where, batch_size, seeds, None if sizes is None else sizes > 1)
    folder = RunFolder.at(out) if out is not None else free_folder(planned.search.name)
    options = {"batch-size": batch_size, "sizes": sizes, "seeds": seeds, "write": write, "out": folder}
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    again = shlex.join(map(str, ("bcrit", "pilot", where, *given)))

    with OneRay() as ray:

        def ran(at: RunFolder, what: Experiment) -> tuple[SessionResult, Run]:
            return watched(at, what, _is_new(at, what), address, workers, again, folder, ray=ray)

        result, run = ran(folder, planned.search)
        found = read(planned, run)
        if found.measured.steps is not None:
            say(errors, f"timing updates at {len(found.grid.batch_sizes)} batch sizes")
            _, timed = ran(RunFolder.at(folder.address(TIMING)), timing(planned, found))
            found = proposed(planned, found, timed, result.workers or None)
    answer = answer_of(found)
    if as_json:
        print_json(answer.facts)
    else:
        show(answer)
    say(console, f"\nrun: {folder}\nreport: {folder.address(REPORT)}")
    if found.proposal is None:
        raise typer.Exit(1)
    if write is not None:
        _write(write, found.proposal, where, found.measured.batch_size)
        say(console, f"\nwrote {write}; go on with:  bcrit tune {write}")


def _is_new(folder: RunFolder, experiment: Experiment) -> bool:
    """Whether the folder is free, and not that of the same experiment.

    Raises:
        InputError: it is neither.
    """
    from bcrit.analysis.records.run_folder import EXPERIMENT

    if not folder.occupied():
        return True
    if folder.has(EXPERIMENT) and folder.read_experiment() == experiment:
        return False
    what = "there is something else than this pilot (another experiment, another --batch-size, other --seeds)"
    raise InputError(str(folder), [f"{what}; choose another place with --out"])


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
