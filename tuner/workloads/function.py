"""A training function of the user's, `def train(config, report)`: what is known of it, and the process of each trial.

Reports come in from that process, verdicts go out, and it always ends.
"""

import atexit
import inspect
import json
import math
import multiprocessing
import os
import pickle
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import most_memory
from bcrit.tuner.training.reported import Died, Ended, Report, Returned
from bcrit.tuner.workloads import child
from bcrit.tuner.workloads.processes import Scratch

OF_THE_TRIAL: Final = ("batch_size", "seed", "budget_steps", "max_steps", "checkpoint")
"""What a `Config` has of every trial, whatever the space and the options are."""

# How long a function that was told to stop may clean up before it is killed. Chosen, not studied.
GRACE_SECONDS = 5.0

_ROOT: Final = str(Path(__file__).parents[3])  # the folder with this package
_PRELOAD: Final = "bcrit.tuner.workloads.preload"
MEMORY: Final = b"memory"
"""Asks the machine of a rank what that holds."""
FILES: Final = b"files"
"""Asks it to put back the files of the trial, which follow, pickled."""
RUNS_PROGRAMS: Final = "bcrit.tuner.workloads.command:train"
"""The function that runs the program of a trial."""
_HOST: Final = torch.device("cpu")
_TOO_MANY: Final = 2**63  # for the tables' 64 bits


@dataclass(frozen=True)
class TrainingFunction:
    """A function `train(config, report)` of the user's.

    What it is trained on and what it measures only the function knows. It may say so in attributes, which are then
    checked before anything runs: `train.unit = "tokens"`, `train.n_examples = 50_000`,
    `train.metrics = {"val_loss": "minimize"}`, `train.ends_at_budget = True`.
    """

    name: str  # `module:function`
    options: Mapping[str, Any]  # settings that are the same in all trials
    unit: str = "examples"  # what a batch is made of
    n_examples: int | None = None  # size of the training set, the largest possible batch; None = unlimited or not known
    metrics: Mapping[str, Direction] = field(default_factory=dict)  # which way each improves; empty = not known
    # whether its schedule ends at `budget_steps`: re-runs end there too, instead of giving a slow seed more steps
    ends_at_budget: bool = False
    hyperparameters: tuple[str, ...] = ()  # not known, and so any name in the space is one


def declared(function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> TrainingFunction:
    """Read what a function says of itself.

    That it cannot be called with a configuration and a report, that calling it would train nothing, or that an
    attribute cannot be, is a ValueError.
    """
    if remedy := _not_called_once(function):
        raise ValueError(f"'{name}' is called once and trains until it returns or is stopped, but it {remedy}")
    try:
        inspect.signature(function).bind("config", "report")
    except TypeError as error:
        raise ValueError(
            f"'{name}' is called as train(config, report), but its signature is {inspect.signature(function)}: "
            f"{error}; give it these two arguments"
        ) from error
    unit, n_examples = getattr(function, "unit", "examples"), getattr(function, "n_examples", None)
    ends = getattr(function, "ends_at_budget", False)
    sized = n_examples is None or (isinstance(n_examples, int) and n_examples > 0)
    if not (isinstance(unit, str) and sized and isinstance(ends, bool)):
        raise ValueError(
            f"the attributes of '{name}' are unit (a word), n_examples (a whole number) and ends_at_budget (True or "
            f"False), but they are {unit!r}, {n_examples!r} and {ends!r}"
        )
    try:
        metrics = {str(metric): Direction(way) for metric, way in getattr(function, "metrics", {}).items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"the attribute 'metrics' of '{name}' says for each metric 'minimize' or 'maximize': {error}"
        ) from error
    return TrainingFunction(name, dict(options), unit, n_examples, metrics, ends)


def _not_called_once(function: Callable[..., Any]) -> str | None:
    """Why nothing of the function's body would run when it is called, with the remedy; None where it would."""
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004 (an object's own method)
        if inspect.iscoroutinefunction(called):
            return "is 'async'; make it a plain 'def', which may call asyncio.run(...)"
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            return "is a generator, which only begins when it is iterated; use report(...) in the place of 'yield'"
    return None


class Started:
    """A process of a trial that does what a call says, and the line to it; it always ends, with all that it starts."""

    def __init__(self, main: Callable[[Connection, child.Call], None], call: child.Call) -> None:
        """Start it with the other end of the line; `Died` where it cannot be."""
        self.program = call.name == RUNS_PROGRAMS  # whether it only looks after another
        context = multiprocessing.get_context("forkserver" if call.forked else "spawn")
        if call.forked:
            context.set_forkserver_preload([_PRELOAD])
        self.line: Connection
        self.line, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=main, args=(theirs, call))  # type: ignore[attr-defined]
        try:
            with environment(call), no_main_module():
                self._process.start()
        except (OSError, EOFError) as error:  # the server of forks is gone; the next start begins another
            why = f"{type(error).__name__}: {error}; its module may end whatever imports it"
            raise Died(f"the function's process cannot be started: {why}") from error
        finally:
            theirs.close()
        self.sentinel = self._process.sentinel

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    @property
    def held(self) -> int:
        """Bytes that it and all that it started hold."""
        assert self._process.pid is not None
        own = [] if self.program else [self._process.pid]
        return sum(most_memory(_HOST, pid) or 0 for pid in (*own, *child.below(self._process.pid)))

    def death(self) -> str:
        """How it ended by itself."""
        self.join(GRACE_SECONDS)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"the function's process ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"the function's process was killed by signal {-code} ({name}){hint},"

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end."""
        self._process.join(seconds)

    def kill(self) -> None:
        """End it, with all that it started."""
        assert self._process.pid is not None
        child.end_below(self._process.pid)
        for kill in (os.killpg, os.kill):  # it may not have come so far as to lead a group
            with suppress(OSError):
                kill(self._process.pid, signal.SIGKILL)
        self.finish()

    def finish(self) -> None:
        """Wait for the end of a process that is ending."""
        self._process.join()
        self._process.close()
        self.line.close()


class FunctionProcess:
    """The reports of a function that runs in a process of its own, here or on another machine.

    The process is forked from a server that has imported the user's module (tens of milliseconds), unless that import
    left behind what does not survive a fork; then it begins afresh (seconds).
    """

    def __init__(
        self,
        call: child.Call,
        silence_seconds: float,
        line: Connection | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start the process; `silence_seconds` is the longest time between two reports.

        Without a folder for the trial's checkpoints it gets a new one, which ends with it. A line leads to a process
        that was started on another machine (`ranks.there`), and then `gone` tells whether that is lost.
        """
        self._call, self._silence_seconds, self._gone = call, silence_seconds, gone
        self._last: Report | None = None  # of the trial
        self.memory = 0  # bytes that it and all that it started held at most, as seen at its reports
        self._reported = False  # whether this process has, or the one that speaks for it
        self._go = child.GO  # what its first verdict is
        self._waiting = False  # whether the function waits for a verdict
        self.loaded = False  # whether its module was imported there; it begins when it is asked for its next report
        self._process: Started | None = None  # on this machine, until it is over
        self._scratch = None if call.checkpoint or line is not None else Scratch()
        try:
            if line is None:
                own = call.checkpoint if self._scratch is None else str(self._scratch.path / "checkpoint")
                line = self._start(replace(call, checkpoint=own))
        except BaseException:
            if self._scratch is not None:
                self._scratch.close()
            raise
        self._line, self._heard = line, time.monotonic()
        atexit.register(self.close)  # before multiprocessing's own, which waits for processes

    def _start(self, call: child.Call) -> Connection:
        self._call, self._process = call, Started(child.main, call)
        return self._process.line

    def next(self, seconds: float) -> Report | None:
        """Let the function go on until its next report; None where none came within this time.

        `Returned` is raised where it returned instead; `Ended` where it raised, its process died, it was silent for too
        long, or the report cannot be read; `Died` where its process died before there was any, or its machine is lost.
        """
        assert not self._line.closed, "the trial is over"
        if self._waiting:
            self._waiting, self._heard = False, time.monotonic()
            with suppress(OSError):  # it died while it waited, which is seen below
                self._line.send_bytes(child.GO if self._reported else self._go)
        left = self._heard + self._silence_seconds - time.monotonic()
        signs = [self._line] if self._process is None else [self._line, self._process.sentinel]
        ready = wait(signs, max(0.0, min(seconds, left)))
        if self._line in ready:
            with suppress(EOFError, OSError):
                return self._understood(json.loads(self._line.recv_bytes()))
        if self._process is None and (ready or self._gone()):
            raise Died("its machine is gone, or the process there that started it")
        if self._process is not None and ready:
            return self._understood({"died": self._process.death()})
        if time.monotonic() - self._heard >= self._silence_seconds:
            self._kill()
            raise Ended(
                Outcome.FAILED,
                f"no report for {self._silence_seconds:g} s {self._so_far()}, so it was taken to hang; "
                "if it needs longer, raise resources.silence_seconds",
            )
        return None

    def _understood(self, message: Mapping[str, Any]) -> Report | None:
        if "memory" in message:
            self.memory = max(self.memory, message["memory"])
            return None
        if "unsafe" in message:
            assert self._process is not None, "only a process of this machine is forked"
            self._process.finish()
            self._line, self._heard = self._start(replace(self._call, forked=False)), time.monotonic()
            return None
        if "loaded" in message:
            self.loaded = self._waiting = True
            return None
        if "returned" in message:
            raise Returned
        if "died" in message:
            death = f"{message['died']} {self._so_far()}"
            raise Ended(Outcome.FAILED, death) if self._reported else Died(death)
        if "outcome" in message:
            raise Ended(Outcome(message["outcome"]), f"{message['message']}, {self._so_far()}")
        self.heard(read_report(message["report"], self._last, self._call.settings["batch_size"]))
        self._waiting = True
        return self._last

    def heard(self, report: Report) -> None:
        """Take note that the trial is so far, and of what the process holds."""
        self._reported, self._last = True, report
        if self._process is not None:
            self.memory = max(self.memory, self._process.held)
        else:
            with suppress(OSError):  # it is gone, as is seen when it is asked for
                self._line.send_bytes(MEMORY)

    @property
    def folder(self) -> str:
        """Where the trial keeps what it would go on from."""
        return self._call.checkpoint

    def state(self) -> Mapping[str, Any] | None:
        """The files of its folder, as bytes; None where it left none."""
        folder, found = Path(self._call.checkpoint), dict[str, Any]()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with suppress(FileNotFoundError):  # a program does not wait: it may have moved one
                found[path.relative_to(folder).as_posix()] = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
        return found or None

    def load(self, state: Mapping[str, Any], last: Report) -> None:
        """Put the files back, before the function begins; the clock of its reports goes on from the last one."""
        if self._process is None:
            with suppress(OSError):  # it is gone, as is seen when it is asked for
                self._line.send_bytes(FILES + pickle.dumps(state))
        elif self._scratch is not None:  # else the folder is another's, which puts them there
            put_back(Path(self._call.checkpoint), state)
        self._last = last
        self._go = child.GO + json.dumps([last.step, last.train_seconds + last.evaluate_seconds]).encode()

    def stop(self, seconds: float) -> None:
        """Tell the process to stop, and wait so long for that."""
        with suppress(OSError):
            self._line.send_bytes(child.STOP)
        if self._process is not None:
            self._process.join(seconds)

    def close(self, seconds: float = GRACE_SECONDS) -> None:
        """End the process: it is told to stop and, where it does not, killed, with all that it started."""
        if not self._line.closed:
            self.stop(seconds)
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._line.close()
        if self._scratch is not None:
            self._scratch.close()
        atexit.unregister(self.close)

    def _so_far(self) -> str:
        return "before the first report" if self._last is None else f"after the report at step {self._last.step}"


def put_back(folder: Path, state: Mapping[str, Any]) -> None:
    """Put the files of a trial into its folder."""
    for name, content in state.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content.numpy().tofile(path)


@contextmanager
def environment(call: child.Call) -> Iterator[None]:
    """What a child inherits: one order of sets for all, and neither threads of libraries nor GPUs that are not its own.

    Threads would not survive a fork.
    """
    changed = {
        "OMP_NUM_THREADS": "1",  # the child sets PyTorch's own number
        "PYTHONHASHSEED": "0",
        # The server of forks is not told. It adds the user's folder itself, where a copy of this package may lie.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path and path not in {call.folder} - {_ROOT}),
        child.USERS_PATH: os.environ.get("PYTHONPATH", ""),
        "PYTHONSAFEPATH": "1",  # it would find a user's `random.py` in the working folder before Python's own
        child.VARIABLE: json.dumps([call.name, call.folder]),
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
def no_main_module() -> Iterator[None]:
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

    def used(step: int, examples: int | None) -> int:
        return step * batch_size if examples is None else examples

    step, examples, trained = said["step"], said["examples"], said["train_seconds"]
    if not isinstance(step, int) or step < 0:
        return f"'step' must be a whole number of optimizer updates, at least 0, but it is {step}"
    if examples is not None and not (isinstance(examples, int) and 0 <= examples < _TOO_MANY):
        rule = "'examples' must be a whole number of training items, at least 0 and below 2^63"
        return f"{rule}, but it is {examples} at step {step}; or leave it out"
    if before is not None and step > before.step:  # where steps fall, that is what is wrong
        now, least = used(step, examples), used(before.step, before.examples)
        if now < least:
            meant = f"{now} (step x batch_size, because it was left out)" if examples is None else f"{now}"
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
