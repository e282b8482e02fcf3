"""What a run would take: `bcrit tune --plan`, as a table, in words or as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Search
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import say_notes, tell, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.recommendation.hardware import StepTimes
    from bcrit.tuner.code import Code


def step_times(place: str) -> StepTimes:
    """How long a step takes at each batch size, by a table, by the trials of a run, or by what a pilot timed."""
    from bcrit.analysis.recommendation.hardware import read_step_times, trial_step_times
    from bcrit.analysis.records.run_folder import EXPERIMENT, TIMING, RunFolder
    from bcrit.analysis.run import Run

    folder = RunFolder.at(place)
    if not folder.has(EXPERIMENT):
        return read_step_times(place)
    timed = RunFolder.at(folder.address(TIMING))
    found = trial_step_times(Run(timed if timed.has(EXPERIMENT) else folder).recorded)
    if found is None:
        raise InputError(place, ["step times at 2 batch sizes or more are needed, but the run has none; give a table"])
    return found


# What `--plan` says of search trials, by protocol and by stopping rule. A joint search took 7 % of the bound on digits
# and 14 % on the noisy quadratic model (`benchmarks.search_cost`).
_SEARCHES = {
    "joint": "One joint search proposes the trials of all batch sizes, tied to horizons where their schedules end. It "
    "usually takes 5 to 15 % of the steps without widening.",
    "tpe": "Every batch size is searched by itself, with TPE.",
    "sobol": "Every batch size is searched by itself, at the points of a Sobol sequence.",
    "random": "Every batch size is searched by itself, at random.",
}
_STOPPING = {
    "asha": "Early stopping ('asha') usually leaves a small part of that.",
    "cap": "Early stopping ('cap') usually leaves a part of that.",
    "none": "Only the target ends a trial earlier.",
    "full": "Search trials use all of it, also beyond the target.",
}


def _searches(search: Search) -> str:
    if search.protocol == "joint":  # whose start alone is stopped early
        return _SEARCHES["joint"]
    alone = _SEARCHES.get(search.protocol, f"Every batch size is searched by itself, with {search.protocol}.")
    return f"{alone} {_STOPPING[search.stopping.rule]}"


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
        f"{math.ceil(code.n_bytes / 1000):,} kB{left_out}."
    )


def print_plan(
    experiment: Experiment,
    notes: Sequence[str],
    as_json: bool,
    times: StepTimes | None,
    price: float | None,
    workers: int | None,
) -> None:
    """Print what an experiment would run, and what that takes at most."""
    from bcrit.analysis.numbers import duration, readable, workers_of
    from bcrit.analysis.report import Answer, Rows, table_of
    from bcrit.tuner.code import is_own, pack
    from bcrit.tuner.protocol.protocol import plan

    plans, code = plan(experiment), None
    if is_own(experiment):
        try:
            code = pack(Path.cwd())
        except InputError as error:  # on this machine alone it would run all the same
            notes = [*notes, f"your code cannot go along to a cluster: {error.problems[0]}"]
    steps, most = sum(p.steps for p in plans), sum(p.most_steps for p in plans)
    examples, most_examples = sum(p.examples for p in plans), sum(p.most_examples for p in plans)
    # Hours of the devices of one trial: evaluation and Ray are not in them.
    step_hours = [0.0 if times is None else float(times.seconds(p.batch_size)) / 3600 for p in plans]
    hours = [p.steps * each for p, each in zip(plans, step_hours, strict=True)]
    devices = [experiment.resources.at(p.batch_size).devices for p in plans]
    device_hours = [n * each for n, each in zip(devices, hours, strict=True)]
    most_device_hours = sum(n * p.most_steps * each for n, p, each in zip(devices, plans, step_hours, strict=True))
    known = list(zip(plans, devices, device_hours, strict=True))
    studies = [
        {**plain(p), "examples": p.examples, "most_examples": p.most_examples, "devices": n}
        | ({} if times is None else {"device_hours": each})
        for p, n, each in known
    ]
    totals: dict[str, Any] = {"steps": steps, "examples": examples}
    totals |= {"most_steps": most, "most_examples": most_examples}
    if times is not None:
        totals |= {"device_hours": sum(device_hours), "most_device_hours": most_device_hours}
        if price is not None:
            totals |= {"cost": price * sum(device_hours), "most_cost": price * most_device_hours}
    facts: dict[str, Any] = {"experiment": experiment.to_dict(), "studies": studies, "totals": totals, "notes": notes}
    if code is not None:
        about = {"files": len(code.names), "bytes": code.n_bytes, "ignored": code.ignored}
        facts["code"] = {"folder": str(Path.cwd()), **about}
    unit, turns = experiment.unit, len(set(devices)) > 1
    rows = [
        {
            "batch size": f"{p.batch_size:,}",
            "trials": f"{p.search_trials:,}",
            "steps each": f"{p.max_steps:,}",
            "re-runs": f"{p.confirm_trials:,}",
            "steps in all": f"{p.steps:,}",
            f"{unit} in all": f"{p.examples:,}",
            **({"devices": f"{n:g}"} if turns else {}),
            **({"time": duration(each)} if times else {}),
        }
        for p, n, each in known
    ]
    table = Rows(f"{experiment.name}: {len(plans)} studies to {experiment.target}", table_of(rows), brief=True)
    takes = []
    if times is not None:
        money = "" if price is None else f", which cost {readable(price * sum(device_hours))}"
        wall = "" if workers is None else f", {duration(sum(hours) / workers)} on {workers_of(workers)}"
        takes = [
            f"Training takes at most {duration(sum(device_hours))} of devices{wall}{money}; "
            f"{duration(most_device_hours)} with all of that. Evaluation comes on top."
        ]
    said = (
        "A re-run may take as long as a slow seed needs: up to "
        f"{experiment.confirm.horizon:g} times its point's steps, counted here with the whole budget.",
        _at_once(experiment),
        f"At most {steps:,} steps and {examples:,} {unit} when nothing diverges and no box is widened;",
        f"{most:,} steps and {most_examples:,} {unit} with every widening and every draw that is allowed.",
        *takes,
        *([] if code is None else [_goes_along(code)]),
        f"{_searches(experiment.search)} Nothing was run.",
    )
    tell(Answer("plan", "What it would take", said, (table,), facts), as_json)
    if not as_json:
        say_notes(wide_console(), notes)
