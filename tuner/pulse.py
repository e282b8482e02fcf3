"""A session beside its tables: what it runs in, how it stands, what it has spent, and the bound that ends it.

As it begins it adds an entry to `environment.json`. Its pulse (`bcrit.analysis.studies.driver`) is written by a thread
of its own, so that the search never waits for it; where the store is away, a beat is left out.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from datetime import time as datetime_time
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bcrit.analysis.numbers import readable
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, STATUS, RunFolder, fingerprint
from bcrit.analysis.studies.driver import BEAT, Driver, processes
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.resources import Resources
from bcrit.tuner.code import Code
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


def bounds_of(
    max_hours: float | None, max_cost: float | None, until: str | None, price: float | None, known: float | None = None
) -> Bounds:
    """Where the session ends, from the options; `known` is the price that an earlier session was told."""
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
                set_aside=scheduler.nodes.not_used,
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


# What a run's numbers may depend on.
_PACKAGES = ("bcrit", "ray", "torch", "optuna", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn")


def note_environment(folder: RunFolder, experiment: Experiment, own: Code | None) -> None:
    """Add what this session runs in to `environment.json`, which has one entry for every session of the run."""
    sessions = folder.read_environment()
    frozen = fingerprint(folder.read_text(EXPERIMENT))
    session = {**described(experiment.seed), "experiment_sha256": frozen}
    session["code_sha256"] = None if own is None else own.sha256
    folder.write_json(ENVIRONMENT, {"sessions": [*sessions, session]})


def described(seed: int) -> dict[str, Any]:
    """The facts for `environment.json` as plain data; entries that do not apply are null."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": seed,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "devices": devices,
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the working directory, if it is in a git repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
