"""Training functions that misbehave: the batch size selects how. What is not said otherwise falls to its target."""

from __future__ import annotations

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

Report = Callable[..., None]


def falls(config: Any, report: Report) -> None:
    """Loss 10 - lr x step: below 1 at the first whole step after 9 / lr."""
    for step in range(config.max_steps + 1):
        report(step=step, loss=10 - config.lr * step)


def raises(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    raise ValueError("the data are broken")


def hangs(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    time.sleep(10_000)


def segfaults(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    report(step=1, loss=9.9)
    ctypes.string_at(0)


def leaves(config: Any, report: Report) -> None:
    os._exit(3)


def exits(config: Any, report: Report) -> None:
    sys.exit("enough")


def turns_nan(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    report(step=5, loss=torch.tensor(math.nan))


def goes_back(config: Any, report: Report) -> None:
    report(step=0, loss=10)
    report(step=7, loss=9)
    report(step=3, loss=8)


def repeats(config: Any, report: Report) -> None:
    report(step=7, loss=9)
    report(step=7, loss=8)


def never_reports(config: Any, report: Report) -> None:
    pass


def returns_early(config: Any, report: Report) -> None:
    for step in range(40):
        report(step=step, loss=10)


def reports_every_thirtieth(config: Any, report: Report) -> None:
    for step in range(0, config.max_steps, 30):
        report(step=step, loss=10)


def another_metric(config: Any, report: Report) -> None:
    report(step=1, accuracy=0.5, error=0.5)


def words(config: Any, report: Report) -> None:
    report(step=1, loss="low")


def negative(config: Any, report: Report) -> None:
    report(step=-1, loss=10)


def half_a_step(config: Any, report: Report) -> None:
    report(step=2.5, loss=10)


def too_late(config: Any, report: Report) -> None:
    report(step=90, loss=10)
    report(step=config.max_steps + 1, loss=0)


def out_of_memory(config: Any, report: Report) -> None:
    raise MemoryError


def will_not_stop(config: Any, report: Report) -> None:
    threading.Thread(target=time.sleep, args=(10_000,)).start()
    step = 0
    while True:
        try:
            step += 1
            report(step=step, loss=10 - step)
        except BaseException:
            time.sleep(10_000)


def survives_errors(config: Any, report: Report) -> None:
    step = 0
    while True:
        try:
            step += 1
            report(step=step, loss=10 - step)
        except Exception:
            continue


def changes_the_process(config: Any, report: Report) -> None:
    """What one trial does to its process another must not see; what it draws without seeding is its own seed's."""
    assert "BCRIT_TOUCHED" not in os.environ and not hasattr(torch, "touched")
    os.environ["BCRIT_TOUCHED"] = "1"
    torch.touched = True  # type: ignore[attr-defined]
    drawn = torch.rand(()) + np.random.rand() + random.random()
    for step in range(config.max_steps + 1):
        report(step=step, loss=10 - config.lr * step, drawn=drawn, threads=torch.get_num_threads())
    torch.manual_seed(0)


BEHAVIOURS = [
    falls,
    raises,
    hangs,
    segfaults,
    leaves,
    exits,
    turns_nan,
    goes_back,
    repeats,
    never_reports,
    returns_early,
    reports_every_thirtieth,
    another_metric,
    words,
    negative,
    half_a_step,
    too_late,
    out_of_memory,
    will_not_stop,
    survives_errors,
    changes_the_process,
]


def train(config: Any, report: Report) -> None:
    BEHAVIOURS[config.batch_size - 1](config, report)
