"""How far is a run, is anything running, what was spent, and how long will the rest take?"""

import time
from collections import Counter
from typing import Annotated

import pandas as pd

from bcrit.analysis.numbers import duration, enumeration, readable, workers_of
from bcrit.analysis.questions.steps import steps_text
from bcrit.analysis.recommendation.hardware import devices_of
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Rows, Table
from bcrit.analysis.run import Run
from bcrit.analysis.studies.driver import Driver
from bcrit.analysis.studies.state import Progress
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.resources import Resources

Price = Annotated[float | None, "What a device-hour costs, in your currency. Default: what `bcrit tune` was told."]


def ask(run: Run, price: Price = None) -> Answer | str:
    """Say how far a run is: what runs where, what was found and spent so far, how long the rest will take.

    Works from any machine that reaches the run folder, while the run goes on and after its driver died.
    """
    so_far, driver = run.so_far, run.driver
    if so_far is None:
        return "the run was imported, so nothing of it runs here"
    price = price if price is not None or driver is None else driver.price
    state = _state(so_far, driver)
    hours = _spent(run.every_trial, run.experiment.resources, driver)
    left = None if driver is None else driver.seconds_left(so_far, run.every_trial)
    trouble = [f"{node.host} is not used any more: {node.why}." for node in (driver.set_aside if driver else ())]
    error = _last_error(run.every_trial, driver)
    trouble += [] if error is None else [f"What went wrong last: {error.rstrip('.')}."]
    rest = [] if state == "complete" else [*_left(so_far), *_takes(price, left, driver)]
    said = (_headline(run.location, so_far, driver, state), *_spent_text(hours, price), *rest, *trouble)
    tables = tuple(rows for rows in (_studies(run, so_far, driver), _running(driver)) if rows.table.rows)
    facts = {
        "run": run.location,
        "state": state,
        "finished": so_far.finished,
        "expected": so_far.expected,
        "seconds_left": left,
        "ends_at": None if left is None else time.time() + left,
        "device_hours": hours,
        "price_per_device_hour": price,
        "cost": None if price is None else hours * price,
        "device_hours_left": None if left is None or driver is None else left * driver.workers * driver.devices / 3600,
        "studies": [
            {name: value for name, value in plain(study).items() if name != "seconds"} for study in so_far.studies
        ],
        "last_error": error,
        "seconds_since_sign_of_life": None if driver is None else driver.silence,
        "driver": None if driver is None else plain(driver),
    }
    return Answer(
        "status",
        f"State of the run at {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC",
        said,
        tables,
        facts,
        yes=state in ("running", "complete"),
        on_page=driver is not None and state != "complete",
        terminal=(*said, *tables),
    )


def _state(so_far: Progress, driver: Driver | None) -> str:
    """`running`, `complete`, `stopped` (told to, or by an error), or `silent`: killed, or cut off."""
    if driver is not None and driver.alive:
        return "running"
    if so_far.complete:
        return "complete"
    return "silent" if driver is None or driver.ended is None else "stopped"


def _headline(place: str, so_far: Progress, driver: Driver | None, state: str) -> str:
    far = f"{so_far.finished:,} of about {so_far.expected:,} trials have finished"
    on = f"`bcrit resume {place}` goes on"
    if state == "complete":
        return f"Complete: all {so_far.finished:,} trials have finished."
    if driver is None:
        return f"Not running, as far as is known: {far}, and no process has told anything. If nothing is running, {on}."
    if state == "running":
        beside = "; what trains now is beside the study" if so_far.complete and driver.running else ""
        training = f"{len(driver.running)} {'is' if len(driver.running) == 1 else 'are'} training"
        if not driver.workers:
            return f"Running on {driver.host}: {far}, its workers are starting."
        return f"Running on {driver.host}: {far}, {training} on {workers_of(driver.workers)}{beside}."
    if state == "stopped":
        return f"Stopped {duration(driver.silence / 3600)} ago ({driver.ended}): {far}. {on}."
    if driver.gone:
        return f"Killed: process {driver.pid} on {driver.host} is gone. So far {far}. {on}."
    return (
        f"No sign of life for {duration(driver.silence / 3600)} (process {driver.pid} on {driver.host} tells one every "
        f"few seconds): it was killed, or is cut off. So far {far}. If it is dead, {on}."
    )


def _spent(trials: pd.DataFrame, resources: Resources, driver: Driver | None) -> float:
    """Device-hours since the run began: of workers as its drivers told, else of the trials that have finished."""
    took = ((trials["ended_at"] - trials["started_at"]) * devices_of(trials, resources)).sum() / 3600
    return float(took) if driver is None else max(driver.device_hours, float(took))


def _amount(hours: float, price: float | None) -> str:
    money = "" if price is None else f", {readable(hours * price)} at {readable(price)} a device-hour"
    return f"{duration(hours)} of devices{money}"


def _spent_text(hours: float, price: float | None) -> list[str]:
    return [f"Spent so far: {_amount(hours, price)}."] if hours else []


def _left(so_far: Progress) -> list[str]:
    """What the trials that are left would add."""
    parts = []
    for stage, what in (
        (Stage.SEARCH, "the search at batch size"),
        (Stage.CONFIRM, "re-runs on fresh seeds at batch size"),
    ):
        sizes = [f"{study.batch_size:,}" for study in so_far.studies if study.left[stage]]
        if len(sizes) == len(so_far.studies) > 1:
            parts.append(what.replace("batch size", "every batch size"))
        elif sizes:
            parts.append(f"{what} {enumeration(sizes)}")
    return [f"About {so_far.expected - so_far.finished:,} trials are left: {enumeration(parts)}."] if parts else []


def _takes(price: float | None, left: float | None, driver: Driver | None) -> list[str]:
    if left is None or driver is None:
        return []
    amount = _amount(left * driver.workers * driver.devices / 3600, price)
    return [
        f"They take about {duration(left / 3600)} on {workers_of(driver.workers)} ({amount}), as trials took so far."
    ]


def _last_error(trials: pd.DataFrame, driver: Driver | None) -> str | None:
    if driver is not None and driver.error is not None:
        return driver.error
    failed = trials[trials["outcome"].isin([outcome for outcome in Outcome if outcome.broken])]
    if failed.empty:
        return None
    last = failed.sort_values("ended_at").iloc[-1]
    return (
        f"{last['trial_id']} ended as '{last['outcome']}'{'' if pd.isna(last['message']) else ': ' + last['message']}"
    )


def _studies(run: Run, so_far: Progress, driver: Driver | None) -> Rows:
    """What was found so far, a row a batch size."""
    now = Counter(trial.batch_size for trial in (driver.running if driver and driver.alive else ()))
    known = {} if run.finished.empty else {row["batch_size"]: row for row in run.studies.to_dict("records")}
    rows = []
    for study in so_far.studies:
        row = known.get(study.batch_size, {})
        sure = row.get("source") == Stage.CONFIRM and row["steps"] == row["steps"]
        confirmed = steps_text(row) if sure else "–"
        cells = (f"{study.searched}/{study.to_search}", f"{study.rerun}/{study.to_rerun}", str(now[study.batch_size]))
        fewest = "–" if study.fewest is None else f"{study.fewest:,}"
        rows.append((f"{study.batch_size:,}", *cells, fewest, confirmed))
    head = ("batch size", "searched", "re-runs", "running", "fewest steps", "steps on fresh seeds")
    return Rows(f"Steps to {run.declared.target} so far", Table(head, tuple(rows)), brief=True)


def _running(driver: Driver | None) -> Rows:
    told, running = (driver.told, driver.running) if driver and driver.alive else (0.0, ())
    rows = tuple(
        (one.trial_id, one.host, f"{one.step:,}", f"{one.max_steps:,}", duration((told - one.since) / 3600))
        for one in running
    )
    return Rows("Running now", Table(("trial", "on", "step", "of at most", "for"), rows), brief=True)
