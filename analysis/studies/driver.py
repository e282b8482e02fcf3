"""What the process that runs an experiment tells of it, in a small file of the run folder; and what follows from that.

Which trials are running, where, and at which step; which nodes are not used; what was spent: only that process, the
driver, knows. It writes the file again every few seconds, so that the file's age says whether it is alive, from any
machine. All else that `bcrit status` says comes from the tables.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from bcrit.analysis.records.run_folder import STATUS, RunFolder
from bcrit.analysis.studies.state import Progress

BEAT = 5.0
"""Seconds between two signs of life of a driver. Chosen."""
SILENT = 30.0
"""Seconds without one, after which it is taken for dead; clocks of two machines may differ by a few. Chosen."""
_ENOUGH = 0.2
"""Share of a run's trials that have finished before it is said how long the rest takes. In four runs that were replayed
that was up to 20 times off before, and then mostly within a factor 2.5: the first trials are the shortest."""


@dataclass(frozen=True)
class Running:
    """A trial that a worker is at."""

    trial_id: str
    batch_size: int
    stage: str
    host: str  # name of the machine
    step: int  # where it was evaluated last
    max_steps: int  # as far as it may go
    since: float  # when it was handed out, in seconds since 1970


@dataclass(frozen=True)
class SetAside:
    """A node that is not used any more."""

    host: str
    why: str


@dataclass(frozen=True)
class Driver:
    """What a driver told last."""

    host: str  # where it runs
    pid: int
    since: float  # when its workers began, in seconds since 1970
    told: float  # when it wrote this
    ended: str | None = None  # how it ended, in a sentence; None while it runs, and of one that was killed
    workers: int = 0  # that are ready
    devices: float = 1.0  # of a worker: its GPUs, or its processes where it has none
    # Seconds of all workers together since the run began, sessions before this one too: starts, idle time and trials
    # that were lost are paid for as well. As if all had had as many devices as the last ones.
    held_seconds: float = 0.0
    price: float | None = None  # of a device-hour, in the user's currency
    retried: int = 0  # trials that were begun again by no fault of theirs, in this session
    running: tuple[Running, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    error: str | None = None  # what went wrong last
    among: str = ""  # the processes that its number counts, as `processes()`

    @classmethod
    def of(cls, folder: RunFolder) -> Driver | None:
        """The last one of a run; None where none told anything."""
        return folder.read_result(STATUS, cls)

    @property
    def silence(self) -> float:
        """Seconds since its last sign of life."""
        return max(0.0, time.time() - self.told)

    @property
    def gone(self) -> bool:
        """Whether it was on this machine and is not there any more; False where that cannot be seen."""
        if self.ended is None and self.among and (self.host, self.among) == (platform.node(), processes()):
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return True
            except OSError:  # somebody else's
                return False
        return False

    @property
    def alive(self) -> bool:
        """Whether it runs, by its last sign of life."""
        return self.ended is None and self.silence < SILENT and not self.gone

    @property
    def device_hours(self) -> float:
        """What was spent so far."""
        return self.held_seconds * self.devices / 3600

    def seconds_left(self, progress: Progress, trials: pd.DataFrame) -> float | None:
        """Seconds until the rest has run, on as many workers; `trials` are all that have finished."""
        own = trials[trials["ended_at"] > self.since]
        spent = float((own["ended_at"] - own["started_at"]).sum())
        flight = sum(self.told - trial.since for trial in self.running)
        return seconds_left(progress, spent, flight, self.told - self.since, self.workers)


def processes() -> str:
    """The processes that see each other here: a container may have the name of its host, but not its processes."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def seconds_left(progress: Progress, spent: float, flight: float, elapsed: float, workers: int) -> float | None:
    """Seconds until the rest has run, in two digits; None where too little has finished, or nothing in this session.

    The rest takes the workers' time at the rate at which they spent it on trials so far: in `elapsed` seconds `spent`
    on trials that have finished and `flight` on those that run now.
    """
    work = progress.seconds_left()
    if work is None or spent <= 0 or elapsed <= 0 or progress.finished < _ENOUGH * progress.expected:
        return None
    left = max(0.0, work - flight) / min((spent + flight) / elapsed, max(workers, 1))
    return float(f"{left:.2g}")
