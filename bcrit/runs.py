"""`bcrit tune` and `bcrit resume`: run an experiment, or what is left of it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say, show, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.tuner.code import Code

Address = Annotated[
    str | None,
    typer.Option(help="Address of a running Ray cluster ('auto' on its head node). Default: this machine alone."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Trials at once. Default: as many as there is room for.")]
# What `--plan` says of search trials, by stopping rule.
_STOPPING = {
    "asha": "Early stopping ('asha') usually leaves a small part of that.",
    "cap": "Early stopping ('cap') usually leaves a part of that.",
    "none": "Only the target ends a trial earlier.",
    "full": "Search trials use all of it, also beyond the target.",
}
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


def tune(
    experiment: Annotated[
        Path,
        typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment: a YAML file such as examples/digits.yaml."),
    ],
    out: Annotated[
        str | None, typer.Option(help="Run folder: a path or a URI (s3://...). Default: runs/NAME, or runs/NAME-2 ...")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run and what it costs at most; run nothing.")
    ] = False,
    address: Address = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Search, confirm, fit and recommend: one experiment from beginning to end.

    For every batch size: search the space, widen it where the optimum lies on its edge, re-run the best points on fresh
    seeds. Then fit the curve of steps against batch size and recommend. Ctrl-C stops gently; `bcrit resume` goes on.

    What is trained may be built in (`bcrit workloads`), a class of yours, or a function `def train(config, report)`
    with a loop of yours: examples/my_workload.yaml and examples/my_function.yaml show them.
    """
    from bcrit.analysis.records.run_folder import RunFolder

    checked, notes = checked_experiment(read_yaml(read_experiment_file(experiment), str(experiment)), str(experiment))
    if plan:
        _print_plan(checked, notes, as_json)
        return
    folder = RunFolder.at(out) if out is not None else _free_folder(checked.name)
    _run(folder, checked, notes, True, address, workers, as_json)


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
    address: Address = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was stopped or killed; finished trials are not repeated unless that is asked for.

    It may be resumed from any folder of any machine that reaches the run folder: code of yours was copied into it when
    the run began. What is run again is set aside in RUN/repaired first.
    """
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.tuner.session import replace_code, use_code

    folder = RunFolder.at(run)
    own = use_code(folder, new_code)
    experiment, _ = checked_experiment(folder.read_experiment().to_dict(), run)  # the notes were given when it began
    if new_code is not None and own is not None:
        replace_code(folder, own)
    if retry_failed or retry:
        _set_aside(folder, experiment, retry_failed, retry or [])
    _run(folder, experiment, [], False, address, workers, as_json)


def _set_aside(folder: RunFolder, experiment: Experiment, failed: bool, batch_sizes: Sequence[int]) -> None:
    """Let trials that have ended be run again.

    Raises:
        InputError: there is no such study.
    """
    from bcrit.analysis.records.repair import set_trials_aside
    from bcrit.tuner.lease import held
    from bcrit.tuner.ledger import Ledger

    if unknown := sorted(set(batch_sizes) - set(experiment.batch_sizes)):
        there = ", ".join(map(str, experiment.batch_sizes))
        raise InputError("--retry", [f"the run has no study at batch size {unknown[0]}; it has {there}"])
    with held(folder) as lease:
        Ledger.open(folder, experiment, lease).close()
        number = set_trials_aside(folder, failed, batch_sizes)
    say(Console(stderr=True), f"{number} trials are run again")


def checked_experiment(data: Any, where: str) -> tuple[Experiment, list[str]]:
    """The experiment, and what should be known of it before it runs; what a user's module prints goes to stderr."""
    from bcrit.tuner.check import check_experiment

    notes: list[str] = []
    with redirect_stdout(sys.stderr):
        return check_experiment(data, where, notes.append), notes


def _run(
    folder: RunFolder,
    experiment: Experiment,
    notes: Sequence[str],
    new: bool,
    address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    from bcrit.analysis.records.run_folder import REPORT
    from bcrit.display import Display
    from bcrit.supervise import STOPPED, cluster_failures
    from bcrit.tuner.session import run

    errors, console = Console(stderr=True), wide_console(stderr=as_json)
    _say_notes(errors, notes)
    with Display(experiment, errors) as display, cluster_failures(str(folder)):
        result = run(folder, experiment, new=new, address=address, workers=workers, watch=display)
    if not result.complete:
        say(errors, f"stopped; go on with:  bcrit resume {folder}")
        raise typer.Exit(STOPPED)
    from bcrit.analysis.finish import finish
    from bcrit.analysis.questions.steps import ask
    from bcrit.analysis.records.storage import patiently
    from bcrit.tuner.uploader import DELIVERY_PATIENCE

    # The store may be away also now, when nothing but the answer is still to be written.
    finished = patiently(lambda: finish(folder), DELIVERY_PATIENCE)
    show(ask(finished), console)
    if not result.n_trials:
        say(console, "\nthe run was complete; nothing was run")
    else:
        say(
            console,
            f"\n{result.n_trials} trials in {result.seconds:.0f} s on {result.workers} workers, of whose time "
            f"{result.training_share:.0%} was training and {result.evaluation_share:.0%} evaluation",
        )
    say(console, f"report: {folder.address(REPORT)}")
    if as_json:
        print(json.dumps(finished.to_json(), indent=2, allow_nan=False))
    if finished.fit is None:
        raise typer.Exit(1)


def read_experiment_file(path: Path) -> str:
    """The text of an experiment's file, or one message why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(str(path), [f"the experiment cannot be read: {reason}"]) from error


def _free_folder(name: str) -> RunFolder:
    """runs/NAME, or with the first number that is free: a run folder is never overwritten."""
    from bcrit.analysis.records.run_folder import RunFolder

    folder, number = RunFolder.at(f"runs/{name}"), 1
    while folder.occupied():
        number += 1
        folder = RunFolder.at(f"runs/{name}-{number}")
    return folder


def _say_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        say(console, f"note: {note}")


def _at_once(experiment: Experiment) -> str:
    if experiment.search.parallel_per_study == "auto":
        return "How many trials run at once is settled when the run begins, by its workers."
    return f"At most {experiment.search.at_once * len(experiment.batch_sizes)} trials run at once."


def _goes_along(code: Code) -> str:
    """What `--plan` says of a user's code."""
    most = 8  # names of what was left out: enough to see that a file is missing; --json has all
    more = f" and {len(code.ignored) - most} more" if len(code.ignored) > most else ""
    left_out = f"; left out: {', '.join(code.ignored[:most])}{more}" if code.ignored else ""
    return (
        f"Code of yours goes along to the workers and into the run folder: {len(code.names)} files of {Path.cwd()}, "
        f"{math.ceil(code.n_bytes / 1000):,} kB{left_out}.\n"
    )


def _print_plan(experiment: Experiment, notes: Sequence[str], as_json: bool) -> None:
    from bcrit.tuner.code import is_own, pack
    from bcrit.tuner.plan import plan

    plans, code = plan(experiment), None
    if is_own(experiment):
        try:
            code = pack(Path.cwd())
        except InputError as error:  # on this machine alone it would run all the same
            notes = [*notes, f"your code cannot go along to a cluster: {error.problems[0]}"]
    steps, most = sum(p.steps for p in plans), sum(p.most_steps for p in plans)
    examples, most_examples = sum(p.examples for p in plans), sum(p.most_examples for p in plans)
    if as_json:
        studies = [{**plain(p), "examples": p.examples, "most_examples": p.most_examples} for p in plans]
        totals = {"steps": steps, "examples": examples, "most_steps": most, "most_examples": most_examples}
        content: dict[str, Any] = {"experiment": experiment.to_dict(), "studies": studies, "totals": totals}
        content["notes"] = notes
        if code is not None:
            facts = {"files": len(code.names), "bytes": code.n_bytes, "ignored": code.ignored}
            content["code"] = {"folder": str(Path.cwd()), **facts}
        print(json.dumps(content, indent=2))
        return
    console, unit = wide_console(), experiment.unit
    table = Table(title=escape(f"{experiment.name}: {len(plans)} studies to {experiment.target}"), box=box.SIMPLE_HEAD)
    for heading in ("batch size", "trials", "steps each", "re-runs", "steps in all", f"{unit} in all"):
        table.add_column(escape(heading), justify="right")
    for p in plans:
        cells = (p.batch_size, p.search_trials, p.max_steps, p.confirm_trials, p.steps, p.examples)
        table.add_row(*(f"{cell:,}" for cell in cells))
    console.print(table)
    say(
        console,
        "A re-run may take as long as a slow seed needs: up to "
        f"{experiment.confirm.horizon:g} times its point's steps, counted here with the whole budget.\n"
        f"{_at_once(experiment)}\n"
        f"At most {steps:,} steps and {examples:,} {unit} when nothing diverges and no box is widened;\n"
        f"{most:,} steps and {most_examples:,} {unit} with every widening and every draw that is allowed.\n"
        f"{'' if code is None else _goes_along(code)}"
        f"{_STOPPING[experiment.search.stopping.rule]} Nothing was run.",
    )
    _say_notes(console, notes)
