"""`bcrit pilot`: one short run that proposes the batch sizes, the learning rates and the budget of a study."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcrit.runs import AsJson, checked_experiment, read_experiment_file
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.pilot.cost import Amount
    from bcrit.analysis.pilot.result import Pilot, Proposal


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
    from bcrit.analysis.pilot.sentences import sentences
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
    said = sentences(found)
    if as_json:
        print(json.dumps({**found.to_json(), "sentences": list(said)}, indent=2, allow_nan=False))
    else:
        if found.proposal is not None:
            console.print(_table(found, found.proposal))
        for sentence in said:
            say(console, sentence)
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
    from bcrit.analysis.pilot.proposed import as_text

    comments = (
        f"Proposed by `bcrit pilot {where}`, run at batch size {batch_size}: batch_sizes, the box of lr,",
        "centre and budget are the pilot's, the rest is the experiment's.",
    )
    try:
        with path.open("x", encoding="utf-8") as sink:
            sink.write(as_text(proposal.data, comments))
    except OSError as error:
        raise InputError("--write", [f"'{path}' cannot be written: {error.strerror}"]) from error


def _table(found: Pilot, proposal: Proposal) -> Table:
    """One row a batch size."""
    from bcrit.analysis.pilot.lr_box import lr_at
    from bcrit.analysis.wording import duration, readable

    measured, law = found.measured, proposal.box
    table = Table(title=escape(f"a study to {measured.target}, as proposed"), box=box.SIMPLE_HEAD)
    for heading in ("batch size", "steps", "budget", "lr about", "box of lr", "a step", "all trials' steps", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    timings = {timing.batch_size: timing.step_seconds for timing in proposal.timings}
    for study in proposal.cost.studies:
        b, seconds = study.batch_size, timings[study.batch_size]
        rates: tuple[Any, ...] = ("-", "-")
        if law is not None:
            centre = lr_at(b, measured.lr, measured.batch_size, law.scale, law.alpha)
            rates = readable(centre), " to ".join(f"{end:.2g}" for end in law.at(b))
        table.add_row(
            f"{b:,}",
            _range(study.steps),
            f"{study.budget_steps:,}",
            *rates,
            "-" if seconds is None else _short(seconds),
            f"{float(f'{study.trial_steps.value:.2g}'):,.0f}",
            "-" if study.trial_seconds is None else duration(study.trial_seconds.value / 3600),
        )
    return table


def _range(amount: Amount) -> str:
    value, low, high = (f"{float(f'{number:.2g}'):,.0f}" for number in (amount.value, amount.low, amount.high))
    return f"{value} ({low} to {high})"


def _short(seconds: float) -> str:
    """A step's time: 0.35 ms, 1.2 s."""
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
