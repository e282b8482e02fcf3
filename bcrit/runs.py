"""`bcrit tune` and `bcrit resume`: run an experiment, or what is left of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcrit.ask import AS_JSON
from bcrit.live import served
from bcrit.plan import print_plan, step_times
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import a_file, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.supervise import AT_BOUND, cluster_failures
from bcrit.terminal import Display, Screen, print_json, say, say_notes, show, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run
    from bcrit.tuner.cluster import OneRay
    from bcrit.tuner.pulse import Bounds
    from bcrit.tuner.session import SessionResult, Watch

Address = Annotated[
    str | None,
    typer.Option(help="Address of a running Ray cluster ('auto' on its head node). Default: this machine alone."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Trials at once. Default: as many as there is room for.")]


def _trust(modules: list[str] | None) -> None:
    if modules:
        from bcrit.tuner.workloads.places import trust

        trust(modules)


Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        callback=_trust,
        help="Run a workload from this module, although it is installed and not in this folder; may be repeated.",
    ),
]
Live = Annotated[
    bool, typer.Option("--live", help="Serve the page of the run on this machine while it goes on: see `bcrit watch`.")
]
MaxHours = Annotated[
    float | None, typer.Option(metavar="H", help="Stop gently after so many hours of this command; exit code 5.")
]
MaxCost = Annotated[
    float | None,
    typer.Option(metavar="C", help="Stop gently when the whole run has cost so much, at --price; exit code 5."),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Stop gently at this time, as in 18:30 or 2027-01-31T06:00; code 5.")
]
Price = Annotated[
    float | None, typer.Option(metavar="P", help="What a device-hour costs, in your currency; a resumed run knows it.")
]


def tune(
    experiment: Annotated[
        Path,
        typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment: a YAML file such as examples/digits.yaml."),
    ],
    out: Annotated[
        str | None, typer.Option(help="Run folder: a path or a URI (s3://...). Default: runs/NAME, or runs/NAME-2 ...")
    ] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out if this experiment was begun there: for jobs that are started again.",
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run and what it costs at most; run nothing.")
    ] = False,
    step_time: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE.csv|RUN",
            help="For --plan: how long a step takes, by a table as `bcrit recommend` takes, an earlier run or a pilot.",
        ),
    ] = None,
    trust: Trust = None,
    address: Address = None,
    workers: Workers = None,
    max_hours: MaxHours = None,
    max_cost: MaxCost = None,
    until: Until = None,
    price: Price = None,
    live: Live = False,
    as_json: AS_JSON = False,
) -> None:
    """Search, confirm, fit and recommend: one experiment from beginning to end.

    For every batch size: search the space, widen it where the optimum lies on its edge, re-run the best points on fresh
    seeds. Then fit the curve of steps against batch size and recommend. Ctrl-C stops gently, and so does a bound such
    as --max-hours; `bcrit resume` goes on. `bcrit status` tells from anywhere how far it is.

    What is trained may be a script of yours as it is, a function `def train(config, report)` with a loop of yours, a
    class of yours, or built in (`bcrit workloads`). `bcrit init` writes an experiment to begin with.
    """
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.tuner.pulse import bounds_of

    if go_on and out is None:
        raise InputError("--resume", ["it goes on with the run in --out, which was not given; give --out RUN"])
    begun = _answering(out) if go_on and out is not None else None
    if begun is not None and not begun.has(EXPERIMENT):
        begun = None
    bounds = bounds_of(max_hours, max_cost, until, price, None if begun is None else _told_price(begun))
    if begun is not None:
        from bcrit.tuner.code import use_code

        use_code(begun, None)
    checked, notes = checked_experiment(read_yaml(read_experiment_file(experiment), str(experiment)), str(experiment))
    if begun is not None:
        checked = _the_same(begun.read_experiment(), checked, experiment, begun)
        _run(begun, checked, [], False, address, workers, as_json, bounds, live)
        return
    if step_time is not None and not plan:
        raise InputError("--step-time", ["it says what a plan costs; add --plan, or leave it out"])
    if plan:
        times = None if step_time is None else step_times(step_time)
        print_plan(checked, notes, as_json, times, price, workers)
        return
    folder = RunFolder.at(out) if out is not None else free_folder(checked.name)
    _run(folder, checked, notes, True, address, workers, as_json, bounds, live)


def _the_same(frozen: Experiment, told: Experiment, file: Path, run: RunFolder) -> Experiment:
    """The experiment of a run that another job began, where it is that of the file; else an InputError."""
    there, here = frozen.to_dict(), told.to_dict()
    if here["search"]["parallel_per_study"] == "auto":  # settled when the run began
        here["search"]["parallel_per_study"] = there["search"]["parallel_per_study"]
    if differs := [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]:
        problem = f"the run there is of another experiment than {file}: its {', '.join(differs)} differ"
        raise InputError(str(run), [f"{problem}; give another --out, or go on with it as it is: `bcrit resume {run}`"])
    return frozen


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder of an experiment that was stopped or killed.")],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run again what failed or ran out of memory.")
    ] = False,
    retry: Annotated[
        list[int] | None, typer.Option(metavar="BATCH_SIZE", help="Run a whole study again; may be given repeatedly.")
    ] = None,
    new_code: Annotated[
        Path | None,
        typer.Option(
            "--code", metavar="FOLDER", help="Go on with the code in this folder, in the place of the run's own copy."
        ),
    ] = None,
    trust: Trust = None,
    address: Address = None,
    workers: Workers = None,
    max_hours: MaxHours = None,
    max_cost: MaxCost = None,
    until: Until = None,
    price: Price = None,
    live: Live = False,
    as_json: AS_JSON = False,
) -> None:
    """Go on with a run that was stopped or killed; finished trials are not repeated unless that is asked for.

    It may be resumed from any folder of any machine that reaches the run folder: code of yours was copied into it when
    the run began. What is run again is set aside in RUN/repaired first.
    """
    from bcrit.tuner.code import use_code
    from bcrit.tuner.pulse import bounds_of
    from bcrit.tuner.session import replace_code

    folder = _answering(run)
    bounds = bounds_of(max_hours, max_cost, until, price, _told_price(folder))
    own = use_code(folder, new_code)
    experiment, _ = checked_experiment(folder.read_experiment().to_dict(), run)  # the notes were given when it began
    if new_code is not None and own is not None:
        replace_code(folder, own)
    if retry_failed or retry:
        _set_aside(folder, experiment, retry_failed, retry or [])
    _run(folder, experiment, [], False, address, workers, as_json, bounds, live)


def _told_price(folder: RunFolder) -> float | None:
    """The price that a run was begun with."""
    from bcrit.analysis.studies.driver import Driver

    told = Driver.of(folder)
    return None if told is None else told.price


def _answering(location: str) -> RunFolder:
    """The folder of a run to go on with, whose store may be away for as long as a run bears it."""
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.analysis.records.storage import patiently
    from bcrit.tuner.uploader import DELIVERY_PATIENCE

    folder, told = RunFolder.at(location, DELIVERY_PATIENCE), False

    def wait(seconds: float) -> None:
        nonlocal told
        if not told:
            said = f"{location} does not answer; trying again for {DELIVERY_PATIENCE / 60:.0f} minutes"
            say(Screen(stderr=True), said)
        told = True
        time.sleep(seconds)

    patiently(lambda: folder.impatient().has(EXPERIMENT), 0 if folder.is_local else DELIVERY_PATIENCE, wait)
    return folder


def _set_aside(folder: RunFolder, experiment: Experiment, failed: bool, batch_sizes: Sequence[int]) -> None:
    """Let trials that have ended be run again."""
    from bcrit.analysis.records.repair import set_trials_aside
    from bcrit.tuner.lease import held
    from bcrit.tuner.ledger import Ledger

    if unknown := sorted(set(batch_sizes) - set(experiment.batch_sizes)):
        there = ", ".join(map(str, experiment.batch_sizes))
        raise InputError("--retry", [f"the run has no study at batch size {unknown[0]}; it has {there}"])
    with held(folder) as lease:
        Ledger.open(folder, experiment, lease).close()
        number = set_trials_aside(folder, failed, batch_sizes)
    say(Screen(stderr=True), f"{number} trials are run again")


def checked_experiment(data: Any, where: str) -> tuple[Experiment, list[str]]:
    """The experiment, and what should be known of it before it runs; what a user's module prints goes to stderr."""
    from bcrit.tuner.check import check_experiment

    notes: list[str] = []
    with redirect_stdout(sys.stderr):
        return check_experiment(data, where, notes.append), notes


def carry_out(
    folder: RunFolder,
    experiment: Experiment,
    *,
    new: bool,
    address: str | None,
    workers: int | None,
    watch: Watch,
    bounds: Bounds | None = None,
    ray: OneRay | None = None,
) -> tuple[SessionResult, Run]:
    """Run a checked experiment, or what is left of it; at its end, or at a bound, everything that follows is written.

    At a bound that is the answer so far, where any trial has finished.
    """
    from bcrit.analysis.records.storage import patiently
    from bcrit.analysis.report.build import finish
    from bcrit.analysis.run import Run
    from bcrit.tuner.pulse import UNBOUNDED
    from bcrit.tuner.session import run
    from bcrit.tuner.uploader import DELIVERY_PATIENCE

    limits = UNBOUNDED if bounds is None else bounds
    result = run(folder, experiment, new=new, address=address, workers=workers, watch=watch, bounds=limits, ray=ray)
    found = Run(folder)
    if not result.complete and (result.bound is None or found.finished.empty):
        return result, found
    # The store may be away also now, when nothing but the answer is still to be written.
    return result, patiently(lambda: finish(folder), DELIVERY_PATIENCE)


def watched(
    folder: RunFolder,
    experiment: Experiment,
    new: bool,
    address: str | None,
    workers: int | None,
    again: str,
    whole: RunFolder | None = None,
    bounds: Bounds | None = None,
    live: bool = False,
    ray: OneRay | None = None,
) -> tuple[SessionResult, Run]:
    """The same before the user's eyes; `again` is the command that goes on with it, or with the `whole`.

    That it was stopped is a KeyboardInterrupt.
    """
    with (
        Display(experiment, Screen(stderr=True)) as display,
        served(folder, display, live) as watch,
        cluster_failures(str(whole or folder), again),
    ):
        result, found = carry_out(
            folder, experiment, new=new, address=address, workers=workers, watch=watch, bounds=bounds, ray=ray
        )
    if not result.complete and result.bound is None:
        raise KeyboardInterrupt
    return result, found


def _run(
    folder: RunFolder,
    experiment: Experiment,
    notes: Sequence[str],
    new: bool,
    address: str | None,
    workers: int | None,
    as_json: bool,
    bounds: Bounds,
    live: bool,
) -> None:
    from bcrit.analysis.numbers import workers_of
    from bcrit.analysis.records.run_folder import REPORT

    say_notes(Screen(stderr=True), notes)
    again = f"bcrit resume {folder}"
    result, found = watched(folder, experiment, new, address, workers, again, bounds=bounds, live=live)
    console = wide_console(stderr=as_json)
    begun = not found.finished.empty
    if begun:
        show(found.ask("steps"), console)
    if not result.n_trials and result.complete:
        say(console, "\nthe run was complete; nothing was run")
    else:
        kept = f", {100 * result.checkpoint_share:.1f} % checkpoints" if result.checkpoint_share else ""
        say(
            console,
            f"\n{result.n_trials} trials in {result.seconds:.0f} s on {workers_of(result.workers)}, of whose time "
            f"from the first trial to the last {100 * result.training_share:.0f} % was training and "
            f"{100 * result.evaluation_share:.0f} % evaluation{kept}",
        )
    if begun:
        say(console, f"report: {folder.address(REPORT)}")
    state = found.ask("status")
    if not result.complete:
        for sentence in ("", *state.sentences):
            say(console, sentence)
    if as_json:
        print_json({**(found.to_json() if begun else {}), **({} if result.complete else {"status": state.facts})})
    if not result.complete:
        raise typer.Exit(AT_BOUND)
    if found.fit is None:
        raise typer.Exit(1)


def read_experiment_file(path: Path) -> str:
    """The text of an experiment's file, or one message why it cannot be read."""
    try:
        return a_file(path, piped=True).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(str(path), [f"the experiment cannot be read: {reason}"]) from error


def free_folder(name: str) -> RunFolder:
    """runs/NAME, or with the first number that is free: a run folder is never overwritten."""
    from bcrit.analysis.records.run_folder import RunFolder

    folder, number = RunFolder.at(f"runs/{name}"), 1
    while folder.occupied():
        number += 1
        folder = RunFolder.at(f"runs/{name}-{number}")
    return folder
