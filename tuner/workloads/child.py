"""The process of one trial: it runs the user's function, sends its reports, and waits for each one's verdict.

Only bytes of JSON pass between it and the process that asked for it. It is the leader of its own process group, so that
whatever it starts (loaders of data) ends with it, and it ends when the process that asked for it is gone.
"""

import importlib
import json
import math
import os
import queue
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bcrit.tuner.training.data import prepare_gpu
from bcrit.tuner.training.reported import Ended
from bcrit.tuner.training.settings import Settings, learning_rate, next_evaluation
from bcrit.tuner.training.trial import blame
from bcrit.tuner.workloads.places import reach
from bcrit.tuner.workloads.processes import adopt_orphans, die_with_parent

VARIABLE: Final = "BCRIT_FUNCTION"
"""The environment variable that names the function to the server of forks: a JSON list of name and folder."""

LOADED: Final = b'{"loaded": true}'
GO: Final = b"go"  # and where a trial goes on: what its `Reporter` must know of before, as a list of JSON
STOP: Final = b"stop"
USERS_PATH: Final = "BCRIT_PYTHONPATH"
"""The environment variable that keeps the user's own PYTHONPATH, for programs that a trial starts."""


class Config(Mapping[str, Any]):
    """A trial's settings by name: `config["lr"]`, `config.lr`, `config.get("momentum", 0.9)`, `dict(config)`.

    It has every hyperparameter of the search space (and `decay_steps`, `warmup_steps` where the space has shares of the
    budget), the workload's options, `optimizer` as the experiment names it, and

    - `batch_size`: training items an optimizer update must use,
    - `seed`: of initialisation and data order,
    - `budget_steps`: optimizer updates of the experiment's `budget` at this batch size, the same in search and re-runs
      of one point: what a schedule of the function's own may take for the length of training. Re-runs may be longer,
      unless the function's attribute `ends_at_budget` is True,
    - `max_steps`: optimizer updates after which the trial is over; a report at this very step counts. It differs
      between search and re-runs of one point, so no schedule may depend on it: use `lr_at`, or `budget_steps`.

    A name that a mapping's method has is found with brackets only.
    """

    def __init__(self, facts: Mapping[str, Any], resolution: float = 0.02, checkpoint: str = "") -> None:
        """Hold settings by name, and the evaluation grid's resolution; to try a function out, `max_steps` is enough."""
        self.__dict__.update(_facts=dict(facts), _resolution=resolution, _checkpoint=checkpoint)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._facts[name]
        except KeyError:
            raise KeyError(f"{name}; the settings are {', '.join(self._facts)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("_facts", ()):
            raise AttributeError(f"there is no setting '{name}'; the settings are {', '.join(self.__dict__['_facts'])}")
        return self._facts[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the settings of a trial cannot be changed, but '{name}' was set to {value!r}")

    def __repr__(self) -> str:
        return f"Config({self._facts!r}, resolution={self._resolution})"

    @property
    def checkpoint(self) -> Path:
        """The trial's own folder, for all that it would go on from: empty at its beginning, and after a loss as it was.

        It is copied to the run after a report, every `checkpoint_seconds`; each time all of it, so leave the last state
        alone there. A function that finds something in it goes on from there, to the bit, and reports what follows;
        what it reports a second time is passed over. Where a function is only tried out the folder is a new one.
        """
        if not self._checkpoint:
            self.__dict__["_checkpoint"] = tempfile.mkdtemp(prefix="bcrit-")
        folder = Path(self._checkpoint)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def lr_at(self, step: int) -> float:
        """The learning rate of the update after `step` updates; the first update has step 0.

        `lr` times the factor of the space's `schedule` and warm-up (`bcrit.tuner.training.settings.learning_rate`), and
        `lr` itself where there is neither; a space without `lr` is a ValueError.
        """
        if "lr" not in self._facts:
            raise ValueError("there is no learning rate without 'lr'; add it to 'space', searched or fixed")
        return learning_rate(self._facts, step)

    def next_evaluation(self, step: int) -> int:
        """The step of the next evaluation on the grid of all trials, after `step` updates; at most `max_steps`.

        Evaluating there gives every trial and batch size the same relative resolution of steps-to-target. Other steps
        are allowed: a crossing is then known to the interval between two reports.
        """
        return min(next_evaluation(step, self._resolution), int(self._facts["max_steps"]))


def settings_of(settings: Settings, max_steps: int, budget_steps: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a trial by name; a hyperparameter hides an option of its name, and the trial's own facts both."""
    own = {"batch_size": settings.batch_size, "seed": settings.seed}
    own |= {"budget_steps": budget_steps, "max_steps": max_steps}
    return {"optimizer": settings.optimizer, **options, **settings.hyperparameters, **own}


class StopTraining(BaseException):
    """Raised by `report` once the trial is over. Let it pass: clean up in `finally`, catch nothing.

    It is no `Exception`, so that a loop that survives errors does not survive its own end.
    """


@dataclass(frozen=True)
class Call:
    """What a trial's process is to run, as plain data."""

    name: str  # `module:function`
    folder: str  # where the module is found
    settings: dict[str, Any]  # the facts of a `Config`
    resolution: float  # of the evaluation grid
    threads: int  # of PyTorch
    gpus: float  # devices, or a share of one
    forked: bool  # whether the process was forked from one that has imported the module
    metric: str = ""  # the target's
    checkpoint: str = ""  # the trial's own folder, which need not be there
    rank: int = 0  # its place among the processes of its trial, of which the first one reports
    places: dict[str, str] = field(default_factory=dict)  # what the environment says of that


def load(name: str, folder: str) -> Callable[[Config, Any], Any]:
    """The function behind `module:function`; whatever its import raises is raised here."""
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


def below(pid: int) -> list[int]:
    """The processes that a process started and those that they did, whatever groups they have made."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, children.read_text().split())
    return [*found, *(deeper for each in found for deeper in below(each))]


def end_below(pid: int) -> None:
    """Kill all that a process has started."""
    for each in below(pid):
        with suppress(OSError):
            os.kill(each, signal.SIGKILL)


def end_with_parent() -> None:
    """Have Linux kill this process with its parent: the listener cannot where C code holds the interpreter for good.

    The parent of a fork is multiprocessing's server, which ends when nobody holds its pipe any more; so this process,
    to which it was handed too, lets go of it. What is left behind by those that it starts becomes its own.
    """
    die_with_parent(signal.SIGKILL)
    adopt_orphans()
    held = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if held is not None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, held)
        os.close(nothing)
