"""A trial's process, seen from the process that asked for it: reports come in, verdicts go out, and it always ends."""

import atexit
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.training.trial import Ended, Report, Returned
from bcrit.tuner.workloads.function import child, preload

# How long a function that was told to stop may clean up before it is killed. Chosen, not studied.
GRACE_SECONDS = 5.0

_TOO_MANY: Final = 2**63  # for the tables' 64 bits


class FunctionProcess:
    """The reports of a function that runs in a process of its own.

    The process is forked from a server that has imported the user's module (tens of milliseconds), unless that import
    left behind what does not survive a fork; then it begins afresh (seconds).
    """

    def __init__(self, call: child.Call, silence_seconds: float) -> None:
        """Start the process; `silence_seconds` is the longest time between two reports."""
        self._silence_seconds = silence_seconds
        self._last: Report | None = None
        self._waiting = False  # whether the function waits for a verdict
        self._start(call)
        atexit.register(self.close)  # before multiprocessing's own, which waits for processes

    def _start(self, call: child.Call) -> None:
        self._call = call
        context = multiprocessing.get_context("forkserver" if call.forked else "spawn")
        if call.forked:
            context.set_forkserver_preload([preload.__name__])
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        process = context.Process(target=child.main, args=(theirs, call))  # type: ignore[attr-defined]
        with _environment(call), _no_main_module():
            process.start()
        theirs.close()
        self._process: BaseProcess | None = process
        self._heard = time.monotonic()

    def next(self, seconds: float) -> Report | None:
        """Let the function go on until its next report; None where none came within this time.

        `Returned` is raised where it returned instead; `Ended` where it raised, its process died, it was silent for too
        long, or the report cannot be read.
        """
        assert self._process is not None, "the trial is over"
        if self._waiting:
            self._waiting, self._heard = False, time.monotonic()
            with suppress(OSError):  # it died while it waited, which is seen below
                self._connection.send_bytes(child.GO)
        left = self._heard + self._silence_seconds - time.monotonic()
        ready = wait([self._connection, self._process.sentinel], max(0.0, min(seconds, left)))
        if self._connection in ready:
            with suppress(EOFError, ConnectionError):
                return self._understood(json.loads(self._connection.recv_bytes()))
        if ready:
            raise Ended(Outcome.FAILED, f"the function's process {self._death()} {self._so_far()}")
        if time.monotonic() - self._heard >= self._silence_seconds:
            self._kill()
            raise Ended(
                Outcome.FAILED,
                f"no report for {self._silence_seconds:g} s {self._so_far()}, so the function was taken to hang; "
                "if it needs longer, raise resources.silence_seconds",
            )
        return None

    def _understood(self, message: Mapping[str, Any]) -> Report | None:
        if "unsafe" in message:
            self._finish()
            self._start(replace(self._call, forked=False))
            return None
        if "returned" in message:
            raise Returned
        if "outcome" in message:
            raise Ended(Outcome(message["outcome"]), f"{message['message']}, {self._so_far()}")
        self._last = read_report(message["report"], self._last, self._call.settings["batch_size"])
        self._waiting = True
        return self._last

    def close(self) -> None:
        """End the process: it is told to stop and, where it does not, killed, with all that it started."""
        if self._process is None:
            return
        with suppress(OSError):
            self._connection.send_bytes(child.STOP)
        self._process.join(GRACE_SECONDS)
        self._kill()

    def _kill(self) -> None:
        assert self._process is not None and self._process.pid is not None
        for kill in (os.killpg, os.kill):  # it may not have come so far as to lead a group
            with suppress(OSError):
                kill(self._process.pid, signal.SIGKILL)
        self._finish()
        atexit.unregister(self.close)

    def _finish(self) -> None:
        """Wait for the end of a process that is ending."""
        assert self._process is not None
        self._process.join()
        self._process.close()
        self._process = None
        self._connection.close()

    def _death(self) -> str:
        """How the process ended."""
        assert self._process is not None
        self._process.join(GRACE_SECONDS)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"was killed by signal {-code} ({name}){hint},"

    def _so_far(self) -> str:
        return "before the first report" if self._last is None else f"after the report at step {self._last.step}"


@contextmanager
def _environment(call: child.Call) -> Iterator[None]:
    """What a child inherits: one order of sets for all, and neither threads of libraries nor GPUs that are not its own.

    Threads would not survive a fork.
    """
    changed = {
        "OMP_NUM_THREADS": "1",  # the child sets PyTorch's own number
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # the server of forks is not told
        preload.VARIABLE: json.dumps([call.name, call.folder]),
    }
    if not call.gpus:  # a function that takes a GPU wherever it sees one must not share it with the next trial's
        changed["CUDA_VISIBLE_DEVICES"] = ""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the main module, which multiprocessing runs again in every child: here it is the command or Ray's worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def read_report(said: Mapping[str, Any], before: Report | None, batch_size: int) -> Report:
    """What a function said, as numbers, or one sentence on what cannot be: that ends its trial.

    `said` has `step`, `examples`, `train_seconds` and `metrics` as the function gave them, anything but a number as
    words or None; and `seconds`, the time between reports so far, of which evaluation takes what the function's own
    `train_seconds` leaves. A report without `examples` has used step x batch_size.
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
