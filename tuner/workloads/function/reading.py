"""Reading a report: what a function said, as numbers, or one sentence on what cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.training.trial import Ended, Report

_TOO_MANY: Final = 2**63  # for the tables' 64 bits


def read_report(said: Mapping[str, Any], before: Report | None, batch_size: int) -> Report:
    """Check what a function reported.

    Args:
        said: `step`, `examples`, `train_seconds`, `metrics` as the function gave them, anything but a number as words
            or None; and `seconds`, the time between reports so far.
        before: the last report; None = this is the first.
        batch_size: of the trial; a report without `examples` has used step x batch_size.

    Returns:
        The report. Evaluation takes what the function's own `train_seconds` leaves of the time between reports.

    Raises:
        Ended: something cannot be; the message names it, its value and the remedy.
    """
    problem = _problem(said, before, batch_size)
    if problem is not None:
        raise Ended(Outcome.FAILED, f"report(...): {problem}")
    seconds, trained = said["seconds"], said["train_seconds"]
    return Report(
        step=said["step"],
        examples=said["examples"],
        train_seconds=float(seconds if trained is None else trained),
        evaluate_seconds=0.0 if trained is None else max(0.0, seconds - trained),
        metrics={name: float(value) for name, value in said["metrics"].items()},
    )


def _problem(said: Mapping[str, Any], before: Report | None, batch_size: int) -> str | None:
    """The first thing that cannot be; None where all is well."""
    step, examples, trained = said["step"], said["examples"], said["train_seconds"]
    if not isinstance(step, int) or step < 0:
        return f"'step' must be a whole number of optimizer updates, at least 0, but it is {step}"
    if examples is not None and not (isinstance(examples, int) and 0 <= examples < _TOO_MANY):
        rule = "'examples' must be a whole number of training items, at least 0 and below 2^63"
        return f"{rule}, but it is {examples} at step {step}; or leave it out"
    if before is not None and step > before.step:  # where steps fall, that is what is wrong
        used, least = (_used(*report, batch_size) for report in ((step, examples), (before.step, before.examples)))
        if used < least:
            meant = f"{used} (step x batch_size, because it was left out)" if examples is None else f"{used}"
            rule = f"'examples' must be the training items used so far, at least {least} as before"
            return f"{rule}, but it is {meant} at step {step}; count from the start, in every report or in none"
    train_seconds = 0.0 if before is None else before.train_seconds
    if trained is not None and not (isinstance(trained, int | float) and train_seconds <= trained < math.inf):
        rule = f"'train_seconds' must be the seconds of training so far, at least {train_seconds:g} as before"
        return f"{rule}, but it is {trained} at step {step}; or leave it out"
    for name, value in said["metrics"].items():
        if not isinstance(value, int | float):
            return f"'{name}' must be a number, but it is {value} at step {step}"
        if not name.isprintable():
            return f"the name of a metric must be text that can be printed, but it is {name!a}"
        if name in MEASUREMENTS.names:
            return f"'{name}' is a column of the run folder's tables; give the metric another name"
    return None


def _used(step: int, examples: int | None, batch_size: int) -> int:
    return step * batch_size if examples is None else examples
