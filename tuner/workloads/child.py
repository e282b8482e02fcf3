"""The process of a trial: how it is started and ended, and what it does where a function of the user's trains.

A function sends its reports and waits for each one's verdict. Only bytes of JSON pass between its process and the one
that asked for it. It is the leader of its own process group, so that whatever it starts (loaders of data) ends with it,
and it ends when the process that asked for it is gone.
"""

import importlib
import json
import math
import multiprocessing
import os
import queue
import random
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bcrit.tuner.training.data import most_memory, prepare_gpu
from bcrit.tuner.training.reported import Died, Ended
from bcrit.tuner.training.trial import blame
from bcrit.tuner.workloads.function import Config, StopTraining
from bcrit.tuner.workloads.places import reach
from bcrit.tuner.workloads.processes import below, end_below, end_with_parent

VARIABLE: Final = "BCRIT_FUNCTION"
"""The environment variable that names the function to the server of forks: a JSON list of name and folder."""

GRACE_SECONDS = 5.0
"""How long a function that was told to stop may clean up before it is killed. Chosen, not studied."""
_ROOT: Final = str(Path(__file__).parents[3])  # the folder with this package
_PRELOAD: Final = "bcrit.tuner.workloads.preload"
RUNS_PROGRAMS: Final = "bcrit.tuner.workloads.command:train"
"""The function that runs the program of a trial."""
IS_A_RANK: Final = "bcrit.tuner.workloads.ranks:train"
"""The function that does what rank 0 of our own loop asks for."""
_HOST: Final = torch.device("cpu")
LOADED: Final = b'{"loaded": true}'
GO: Final = b"go"  # and where a trial goes on: what its `Reporter` must know of before, as a list of JSON
STOP: Final = b"stop"
USERS_PATH: Final = "BCRIT_PYTHONPATH"
"""The environment variable that keeps the user's own PYTHONPATH, for programs that a trial starts."""


@dataclass(frozen=True)
class Call:
    """What a trial's process is to run, as plain data."""

    name: str  # `module:function`
    folder: str  # where the module is found; "" = there is none of the user's
    settings: dict[str, Any]  # the facts of a `Config`
    resolution: float  # of the evaluation grid
    threads: int  # of PyTorch
    gpus: float  # devices, or a share of one
    forked: bool  # whether the process was forked from one that has imported the module
    metric: str = ""  # the target's
    checkpoint: str = ""  # the trial's own folder, which need not be there
    rank: int = 0  # its place among the processes of its trial, of which the first one reports
    places: dict[str, str] = field(default_factory=dict)  # what the environment says of that


@contextmanager
def environment(call: Call) -> Iterator[None]:
    """What a child inherits: one order of sets for all, and neither threads of libraries nor GPUs that are not its own.

    Threads would not survive a fork.
    """
    changed = {
        "OMP_NUM_THREADS": "1",  # the child sets PyTorch's own number
        "PYTHONHASHSEED": "0",
        # The server of forks is not told. It adds the user's folder itself, where a copy of this package may lie.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path and path not in {call.folder} - {_ROOT}),
        USERS_PATH: os.environ.get("PYTHONPATH", ""),
        "PYTHONSAFEPATH": "1",  # it would find a user's `random.py` in the working folder before Python's own
        VARIABLE: json.dumps([call.name, call.folder]),
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


class Started:
    """A process of a trial that does what a call says, and the line to it; it always ends, with all that it starts."""

    def __init__(self, call: Call) -> None:
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
        return sum(most_memory(_HOST, pid) or 0 for pid in (*own, *below(self._process.pid)))

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
        end_below(self._process.pid)
        for kill in (os.killpg, os.kill):  # it may not have come so far as to lead a group
            with suppress(OSError):
                kill(self._process.pid, signal.SIGKILL)
        self.finish()

    def finish(self) -> None:
        """Wait for the end of a process that is ending."""
        self._process.join()
        self._process.close()
        self.line.close()


def load(name: str, folder: str) -> Callable[[Config, Any], Any]:
    """The function behind `module:function`; whatever its import raises is raised here."""
    if folder:
        reach(folder)
    module, _, function = name.partition(":")
    found: Callable[[Config, Any], Any] = getattr(importlib.import_module(module), function)
    return found


def main(connection: Connection, call: Call) -> None:
    """Run the function from beginning to end, and end the process: what is to be cleaned up, the function cleans up."""
    os.setsid()
    end_with_parent()
    os.environ.pop("PYTHONSAFEPATH", None)  # for this start alone: a program that the function starts is the user's
    os.environ.update(call.places)
    _run(connection, call)
    sys.stdout.flush()
    sys.stderr.flush()
    end_below(os.getpid())
    os._exit(0)  # without waiting for threads and processes that the function left behind


def _run(connection: Connection, call: Call) -> None:
    verdicts: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, verdicts), daemon=True).start()
    if call.forked:
        from bcrit.tuner.workloads import preload  # there already, in a fork

        # The module may have left threads or CUDA behind when it was imported, which do not survive a fork.
        cuda_was_used: Callable[[], bool] = getattr(torch.cuda, "_is_in_bad_fork", lambda: False)
        if not preload.fork_is_safe or cuda_was_used():
            connection.send_bytes(b'{"unsafe": true}')
            return
    os.environ["OMP_NUM_THREADS"] = str(call.threads)
    torch.set_num_threads(call.threads)
    if call.gpus and not call.forked:
        prepare_gpu(call.gpus)
    file = ""
    try:
        function = load(call.name, call.folder)
        connection.send_bytes(LOADED)
        if (begin := verdicts.get()) == STOP:
            return
        if call.name != IS_A_RANK:
            file = getattr(getattr(function, "__code__", None), "co_filename", "")
        # A function that seeds nothing repeats itself all the same.
        random.seed(call.settings["seed"])
        np.random.seed(call.settings["seed"])
        torch.manual_seed(call.settings["seed"])
        config = Config(call.settings, call.resolution, call.checkpoint)
        function(config, Reporter(connection, verdicts, call, *json.loads(begin.removeprefix(GO) or b"[]")))
        end: dict[str, Any] = {"returned": True}
    except StopTraining:
        return
    except Ended as ended:
        end = {"outcome": ended.outcome.value, "message": ended.message}
    except BaseException as error:  # a user's code may raise anything, and it is an outcome
        traceback.print_exc()
        outcome, message = blame(error)
        end = {"outcome": outcome.value, "message": message.removesuffix(": ") + _place(error, file)}
    with suppress(OSError):  # the trial may be over, and nobody listens
        connection.send_bytes(json.dumps(end).encode())


class Reporter:
    """The `report` of a training function: sends what was measured and waits until the trial is judged."""

    def __init__(
        self,
        connection: Connection,
        verdicts: queue.SimpleQueue[bytes],
        call: Call,
        known: float = -math.inf,  # the step of the last report before the trial was cut off
        seconds: float = 0.0,  # by then
    ) -> None:
        self._connection, self._verdicts, self._known = connection, verdicts, known
        self.metric, self.folder = call.metric, call.folder  # the target's metric; where the user's code lies
        self.heard = call.rank == 0  # whether its reports count
        self._one_at_a_time = threading.Lock()
        self._stopped = False
        self._seconds = seconds
        self._since = time.perf_counter()

    def __call__(
        self, *, step: Any, examples: Any = None, train_seconds: Any = None, noise: Any = None, **metrics: Any
    ) -> None:
        """Report an evaluation. Where a trial has several ranks the first one reports; what others do is passed over.

        Args:
            step: optimizer updates made.
            examples: training items used by then; without it step x batch_size.
            train_seconds: time in training by then. Without it the time since the last report, evaluation included; a
                report at step 0 starts the clock.
            noise: what `bcrit.NoiseScale.estimate()` gave: a gradient noise scale, which hints at b_crit.
            metrics: what was measured, among it the target's metric.

        Raises:
            StopTraining: the trial is over.
        """
        with self._one_at_a_time:
            number = _number(step)
            if not self.heard:  # the first rank speaks for all: here a report only ends what is over
                self._stopped = self._stopped or self.over
            elif isinstance(number, int) and number <= self._known:
                self._since = time.perf_counter()
            elif not self._stopped:
                self._seconds += time.perf_counter() - self._since
                if noise is not None:
                    total = noise.total
                    metrics |= {"b_simple": total.value, "b_simple_low": total.low, "b_simple_high": total.high}
                    metrics |= {"tr_sigma": total.numerator, "g_sq": total.denominator}
                    metrics = {name: value for name, value in metrics.items() if value is not None}
                if number == 0:  # until then the function was getting ready
                    self._seconds = 0.0
                report = {
                    "step": number,
                    "examples": _number(examples),
                    "train_seconds": _number(train_seconds),
                    "seconds": self._seconds,
                    "metrics": {name: _number(value) for name, value in metrics.items()},
                }
                self._connection.send_bytes(json.dumps({"report": report}).encode())
                self._stopped = self._verdicts.get() == STOP
                self._since = time.perf_counter()
            if self._stopped:
                raise StopTraining

    def asked(self) -> bytes:
        """What rank 0 asks of another rank of our own loop."""
        return self._verdicts.get()

    def answer(self, content: bytes) -> None:
        """Tell it what came of that."""
        self._connection.send_bytes(content)

    @property
    def goes_on(self) -> bool:
        """Whether the trial was begun before, and has reports of then."""
        return self._known > -math.inf

    @property
    def over(self) -> bool:
        """Whether the trial was ended although nothing waits for a verdict."""
        return not self._verdicts.empty()


def _number(value: Any) -> Any:
    """Anything as what JSON can carry: a number, None, or the words for something else."""
    if value is None:
        return None
    if isinstance(value, str | bytes | bool):
        return f"{value!r}"
    with suppress(TypeError, ValueError, OverflowError, RuntimeError):
        number = float(value)
        return int(value) if math.isfinite(number) and number == int(number) else number
    return f"{type(value).__name__} {value!r}"[:60]


def _place(error: BaseException, file: str) -> str:
    """Where in the function's own file an error came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {lines[-1]} of {os.path.basename(file)})" if lines else ""


def _listen(connection: Connection, verdicts: queue.SimpleQueue[bytes]) -> None:
    """Pass on verdicts until the other end is gone, and then end the whole group."""
    with suppress(OSError, EOFError):
        while True:
            verdicts.put(connection.recv_bytes())
    end_below(os.getpid())
    os.killpg(0, signal.SIGKILL)
