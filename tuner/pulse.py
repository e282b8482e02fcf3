"""The pulse of a session: says beside the run what only its driver knows, counts what is spent, and ends it at a bound.

The file (`bcrit.analysis.studies.driver`) is written by a thread of its own, so that the search never waits for it;
where the store is away, a beat is left out.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bcrit.analysis.numbers import readable
from bcrit.analysis.records.run_folder import STATUS
from bcrit.analysis.studies.driver import BEAT, Driver, processes
from bcrit.search_spaces.options import Resources
from bcrit.tuner.lease import LeaseLost

if TYPE_CHECKING:
    from bcrit.tuner.scheduler import WorkerScheduler


@dataclass(frozen=True)
class Bounds:
    """Where a session ends, though trials are left; None = no such bound."""

    until: float | None = None  # a time, in seconds since 1970
    cost: float | None = None  # of the whole run, sessions before this one included
    price: float | None = None  # of a device-hour, in the same currency; without a bound it is only told
    said: str = ""  # the time as the user gave it: `--max-hours 8`


UNBOUNDED = Bounds()


class Pulse:
    """Tells how the session of a scheduler stands, as a context around it."""

    def __init__(self, scheduler: WorkerScheduler, resources: Resources, bounds: Bounds) -> None:
        """Nothing is written before `with`."""
        self._scheduler, self._bounds = scheduler, bounds
        before, devices = Driver.of(scheduler.ledger.folder), resources.devices
        self._driver = Driver(
            platform.node(),
            os.getpid(),
            since=time.time(),
            told=time.time(),
            devices=devices,
            held_seconds=0.0 if before is None else before.held_seconds * before.devices / devices,
            price=before.price if bounds.price is None and before is not None else bounds.price,
            among=processes(),
        )
        self._counted = time.monotonic()
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="bcrit-pulse", daemon=True)
        self.reached: str | None = None  # the bound that ended the session, as a user would say it

    def __enter__(self) -> Self:
        """Begin to tell."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tell how it ended."""
        self._end.set()
        self._thread.join()
        how, why = f"at its bound, {self.reached}" if self.reached else "as it was told to", None
        if isinstance(error, Exception):
            how, why = "by an error", f"{type(error).__name__}: {error}"
        self._tell(replace(self._now(), ended=how, error=why, running=()))

    def turn_to(self, scheduler: WorkerScheduler, resources: Resources) -> None:
        """Go on with another scheduler, whose workers have other resources."""
        self._now()
        with self._lock:
            held = self._driver.held_seconds * self._driver.devices / resources.devices
            self._driver = replace(self._driver, devices=resources.devices, held_seconds=held, workers=0)
            self._scheduler = scheduler

    def due(self) -> bool:
        """Whether a bound is reached."""
        bounds = self._bounds
        if self.reached is None and bounds.until is not None and time.time() >= bounds.until:
            self.reached = bounds.said
        if self.reached is None and bounds.cost is not None and self._driver.price is not None:
            if (spent := self._now().device_hours * self._driver.price) >= bounds.cost:
                self.reached = f"--max-cost {bounds.cost:g} ({readable(spent)} was spent)"
        return self.reached is not None

    def _now(self) -> Driver:
        """How things stand, with what the workers cost since it was added last."""
        with self._lock:  # asked by the main thread for its bound, and by the thread of the beats
            scheduler, now = self._scheduler, time.monotonic()
            self._driver = replace(
                self._driver,
                held_seconds=self._driver.held_seconds + (now - self._counted) * self._driver.workers,
                workers=scheduler.n_workers,
                retried=scheduler.retried,
                running=scheduler.at_work,
                set_aside=scheduler.not_used,
            )
            self._counted = now
            return self._driver

    def _beat(self) -> None:
        while True:
            self._tell(self._now())
            if self._end.wait(BEAT):
                return

    def _tell(self, driver: Driver) -> None:
        ledger = self._scheduler.ledger
        # A driver that has lost its run, or whose store is away, has nothing to say there for now.
        with suppress(OSError, LeaseLost):
            if ledger.fence is not None:
                ledger.fence.check()
            ledger.folder.write_result(STATUS, replace(driver, told=time.time()), patience=0)
