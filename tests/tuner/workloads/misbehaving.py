"""Training functions that misbehave, with how each one's trial must end: the batch size selects which."""

import ctypes
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bcrit.search_spaces.outcome import Outcome

Report = Callable[..., None]
Train = Callable[[Any, Report], None]

BEHAVIOURS: dict[str, tuple[Train, Outcome, str | None]] = {}
"""By name: the function, and the outcome and message that its trial must have; `PLACE` is the function's last line."""


def ends(outcome: Outcome, message: str | None = None) -> Callable[[Train], Train]:
    def known(function: Train) -> Train:
        BEHAVIOURS[function.__name__] = function, outcome, message
        return function

    return known


@ends(Outcome.REACHED)
def falls(config: Any, report: Report) -> None:
    """Loss 10 - lr x step: below 1 at the first whole step after 9 / lr."""
    for step in range(config.max_steps + 1):
        report(step=step, loss=10 - config.lr * step)


@ends(Outcome.FAILED, "ValueError: the data are broken (PLACE), after the report at step 0")
def raises(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    raise ValueError("the data are broken")


@ends(
    Outcome.FAILED,
    "no report for 6 s after the report at step 0, so it was taken to hang; if it needs "
    "longer, raise resources.silence_seconds",
)
def hangs(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    time.sleep(10_000)


@ends(Outcome.FAILED, "the function's process was killed by signal 11 (SIGSEGV), after the report at step 1")
def segfaults(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    report(step=1, loss=9.9)
    ctypes.string_at(0)


@ends(
    Outcome.FAILED,
    "the function's process ended with exit code 3 before the first report, also when the trial was tried again",
)
def leaves(config: Any, report: Report) -> None:
    os._exit(3)


@ends(Outcome.FAILED, "SystemExit: enough (PLACE), before the first report")
def exits(config: Any, report: Report) -> None:
    sys.exit("enough")


@ends(Outcome.DIVERGED, "loss became nan by step 5")
def turns_nan(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    report(step=5, loss=torch.tensor(math.nan))


@ends(
    Outcome.FAILED,
    "steps must rise, but step 3 was reported after step 7; report each step once, counted in optimizer updates",
)
def goes_back(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    report(step=7, loss=9)
    report(step=3, loss=8)


@ends(
    Outcome.FAILED,
    "steps must rise, but step 7 was reported after step 7; report each step once, counted in optimizer updates",
)
def repeats(config: Any, report: Report) -> None:
    report(step=7, loss=9)
    report(step=7, loss=8)


@ends(Outcome.FAILED, "it returned without a single report")
def never_reports(config: Any, report: Report) -> None:
    pass


@ends(
    Outcome.FAILED,
    "it returned after its report at step 39 of 100; it must train and report until it is stopped, or up to max_steps",
)
def returns_early(config: Any, report: Report) -> None:
    for step in range(40):
        report(step=step, loss=10)


@ends(Outcome.EXHAUSTED, "it returned after its report at step 90 of 100")
def reports_every_thirtieth(config: Any, report: Report) -> None:
    for step in range(0, config.max_steps, 30):
        report(step=step, loss=10)


@ends(Outcome.FAILED, "the report at step 1 lacks the target's metric 'loss': it has accuracy, error")
def another_metric(config: Any, report: Report) -> None:
    report(step=1, accuracy=0.5, error=0.5)


@ends(Outcome.FAILED, "report(...): 'loss' must be a number, but it is 'low' at step 1")
def words(config: Any, report: Report) -> None:
    report(step=1, loss="low")


@ends(Outcome.FAILED, "report(...): 'step' must be a whole number of optimizer updates, at least 0, but it is -1")
def negative(config: Any, report: Report) -> None:
    report(step=-1, loss=10)


@ends(Outcome.FAILED, "report(...): 'step' must be a whole number of optimizer updates, at least 0, but it is 2.5")
def half_a_step(config: Any, report: Report) -> None:
    report(step=2.5, loss=10)


@ends(Outcome.EXHAUSTED, "the report at step 101 came after max_steps = 100 and does not count")
def too_late(config: Any, report: Report) -> None:
    report(step=90, loss=10)
    report(step=config.max_steps + 1, loss=0)


@ends(Outcome.OUT_OF_MEMORY, "MemoryError (PLACE), before the first report")
def out_of_memory(config: Any, report: Report) -> None:
    raise MemoryError


@ends(Outcome.REACHED)
def will_not_stop(config: Any, report: Report) -> None:
    threading.Thread(target=time.sleep, args=(10_000,)).start()
    step = 0
    while True:
        try:
            step += 1
            report(step=step, loss=10 - step)
        except BaseException:
            time.sleep(10_000)


@ends(Outcome.REACHED)
def survives_errors(config: Any, report: Report) -> None:
    step = 0
    while True:
        try:
            step += 1
            report(step=step, loss=10 - step)
        except Exception:
            continue


@ends(Outcome.REACHED)
def changes_the_process(config: Any, report: Report) -> None:
    """What one trial does to its process another must not see; what it draws without seeding is its own seed's."""
    assert "BCRIT_TOUCHED" not in os.environ and not hasattr(torch, "touched")
    os.environ["BCRIT_TOUCHED"] = "1"
    torch.touched = True  # type: ignore[attr-defined]
    drawn = torch.rand(()) + np.random.rand() + random.random()
    for step in range(config.max_steps + 1):
        report(step=step, loss=10 - config.lr * step, drawn=drawn, threads=torch.get_num_threads())
    torch.manual_seed(0)


def train(config: Any, report: Report) -> None:
    list(BEHAVIOURS.values())[config.batch_size - 1][0](config, report)
