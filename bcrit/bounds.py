"""How long a run may take and what it may cost: options that bound it, and step times that a plan is made with."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from datetime import time as datetime_time
from typing import TYPE_CHECKING, Annotated

import typer

from bcrit.search_spaces.problems import InputError

if TYPE_CHECKING:
    from bcrit.analysis.recommendation.hardware import StepTimes
    from bcrit.tuner.pulse import Bounds

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


def bounds_of(
    max_hours: float | None, max_cost: float | None, until: str | None, price: float | None, known: float | None = None
) -> Bounds:
    """Where the session ends, from the options; `known` is the price that an earlier session was told."""
    from bcrit.tuner.pulse import Bounds

    now, found = time.time(), list[tuple[float, str]]()
    for name, value in (("--max-hours", max_hours), ("--max-cost", max_cost), ("--price", price)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(name, [f"a positive number is needed, but it is {value:g}; give {name} 2.5, say"])
    if max_hours is not None:
        found.append((now + 3600 * max_hours, f"--max-hours {max_hours:g}"))
    if until is not None:
        found.append((_time_of(until, now), f"--until {until}"))
    price = known if price is None else price
    if max_cost is not None and price is None:
        raise InputError("--max-cost", ["a cost needs the price of a device-hour; add --price 2.5, say"])
    first, said = min(found, default=(None, ""))
    return Bounds(first, max_cost, price, said)


def _time_of(text: str, now: float) -> float:
    """A time of the clock, the next such one, or a date and time, of this machine's zone where none is given."""
    try:
        if len(text) <= len("18:30:00"):
            at = datetime.combine(datetime.fromtimestamp(now).date(), datetime_time.fromisoformat(text))
            found = (at if at.timestamp() > now else at + timedelta(days=1)).timestamp()
        else:
            found = datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InputError("--until", [f"a time is written 18:30 or 2027-01-31T06:00, but it is {text!r}"]) from error
    if found <= now:
        raise InputError("--until", [f"a time to come is needed, but {text} has passed; give a later one"])
    return found


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
