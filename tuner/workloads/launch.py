"""A trial of a training function or program: in one process, or in ranks as `torchrun` starts them.

Reports come in from its processes, verdicts go out, and they always end.
"""

from __future__ import annotations

import atexit
import json
import math
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bcrit.search_spaces.options import COMMAND
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.resources import Resources
from bcrit.tuner.training.reported import Died, Ended, Report, Reported, Returned, RunState
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits
from bcrit.tuner.workloads import child
from bcrit.tuner.workloads.child import GRACE_SECONDS, RUNS_PROGRAMS, Call, Started
from bcrit.tuner.workloads.function import TrainingFunction, read_report, settings_of
from bcrit.tuner.workloads.processes import Scratch
from bcrit.tuner.workloads.ranks import FILES, FOLLOW_SECONDS, LAST_WORDS, MEMORY, Spread, put_back

_LOOK_SECONDS: Final = 0.2  # between two looks at the ranks that do not report
_HEARSAY: Final = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe")  # of one that lost another


def start(
    function: TrainingFunction,
    folder: str,
    settings: Settings,
    metric: str,
    limits: Limits,
    resources: Resources,
    budget_steps: int,
    spread: Spread | None = None,
) -> Reported:
    """Start a trial of a function, whose module is found in the folder, in processes of its own.

    `budget_steps` are optimizer updates of the study's budget, the same for search and re-runs. The trial is on this
    machine alone unless it is `spread`.
    """
    facts = settings_of(settings, limits.max_steps, budget_steps, function.options)
    process = _begun(function.name, folder, facts, limits.resolution, resources, metric, spread)
    return Reported(process, metric, limits.max_steps, limits.at_horizon)


def why_no_start(name: str, folder: str, resources: Resources) -> str | None:
    """Why no trial of a function can begin here: its process dies, or cannot import the module; None where it can."""
    try:
        with closing(_begun(name, folder, {}, 1.0, resources)) as process:
            while not process.loaded:
                process.next(1.0)
    except (Ended, Died) as error:
        return str(error)
    return None


def _begun(
    name: str,
    folder: str,
    settings: dict[str, Any],
    resolution: float,
    resources: Resources,
    metric: str = "",
    spread: Spread | None = None,
) -> FunctionProcess | FunctionRanks:
    ranks = resources.processes or 1
    threads, gpus = max(1, int(resources.cpus / ranks)), resources.gpus
    program = name == COMMAND  # which uses a GPU in a process of its own
    # CUDA does not survive a fork, and what a module read of its rank as it was imported would be the same for all.
    alone = ranks == 1 and spread is None
    called, forked = (RUNS_PROGRAMS, True) if program else (name, alone and not gpus)
    call = Call(called, folder, settings, resolution, threads, gpus, forked, metric)
    if alone:
        return FunctionProcess(call, resources.silence_seconds)
    return FunctionRanks(call, resources.silence_seconds, ranks, spread)


class FunctionProcess:
    """The reports of a function that runs in a process of its own, here or on another machine.

    The process is forked from a server that has imported the user's module (tens of milliseconds), unless that import
    left behind what does not survive a fork; then it begins afresh (seconds).
    """

    def __init__(
        self,
        call: Call,
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

    def _start(self, call: Call) -> Connection:
        self._call, self._process = call, Started(call)
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
            assert self._process is not None, "on other machines only programs are forked, which is safe"
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


class FunctionRanks:
    """The reports of a function that runs in several processes, its ranks: the first one's, as long as all are well.

    The ranks of a machine share one folder for checkpoints. Whatever ends one of them before its time ends the trial,
    with what that one said.
    """

    def __init__(self, call: Call, silence_seconds: float, here: int, spread: Spread | None = None) -> None:
        """Start them all, so many on each machine."""
        self._spread = spread or Spread()
        calls = self._spread.calls(call, here)
        self._silence_seconds, self._begun = silence_seconds, time.monotonic()
        self._ranks = {0: FunctionProcess(calls[0], silence_seconds)}
        try:
            for own in calls[1:here]:
                shared = replace(own, checkpoint=self._ranks[0].folder)
                self._ranks[own.rank] = FunctionProcess(shared, math.inf)
            lines = self._spread.reach_out(calls)
            for own, line in zip(calls[here:], lines, strict=True):
                gone = partial(self._spread.lost, own.rank // here)
                self._ranks[own.rank] = FunctionProcess(own, math.inf, line, gone)
        except BaseException:
            self.close()
            raise

    def next(self, seconds: float) -> Report | None:
        """As of one process."""
        until = time.monotonic() + seconds
        while True:
            left, report = max(0.0, min(_LOOK_SECONDS, until - time.monotonic())), None
            late = self._late()
            for rank in late:  # none begins before all can
                self._look(rank, left / len(late))
            if late and not self._late():
                return None
            if late and time.monotonic() - self._begun > self._silence_seconds:
                limit = f"within {self._silence_seconds:g} s; if it needs longer, raise resources.silence_seconds"
                raise self._why(late[0], Ended(Outcome.FAILED, f"its module was not imported {limit}"))
            if not late:
                for rank in [*self._ranks][1:]:
                    self._look(rank, 0)
                report = self._look(0, left)
            if report is not None:
                for other in [*self._ranks.values()][1:]:
                    other.heard(report)
            if report is not None or time.monotonic() >= until:
                return report

    def _look(self, rank: int, seconds: float) -> Report | None:
        """Let a rank go on; one that does not report, and has returned, is done."""
        try:
            return self._ranks[rank].next(seconds)
        except Returned:
            if rank == 0:
                raise
            self._ranks.pop(rank).close()
            return None
        except (Ended, Died) as error:
            raise self._why(rank, error) from error

    def _why(self, rank: int, error: Ended | Died) -> Ended | Died:
        """What began it, with its rank, and the end of all: of one that failed the others only hear that it is gone."""
        said, until = {rank: error}, time.monotonic() + LAST_WORDS
        ranks = dict(self._ranks)
        while all(map(_hearsay, said.values())) and len(said) < len(ranks) and time.monotonic() < until:
            for other in ranks.keys() - said:
                try:
                    ranks[other].next(_LOOK_SECONDS / len(ranks))
                except Returned:
                    if other == 0:  # which is why it is gone
                        raise
                    del ranks[other]
                except (Ended, Died) as another:
                    said[other] = another
        rank, error = next(((n, e) for n, e in sorted(said.items()) if not _hearsay(e)), (rank, error))
        self.close()
        message = f"rank {rank}: {error}"
        return Ended(error.outcome, message) if isinstance(error, Ended) else Died(message)

    @property
    def loaded(self) -> bool:
        """Whether the function's module was imported by all."""
        return not self._late()

    def _late(self) -> list[int]:
        """The ranks that have not imported it yet."""
        return [rank for rank, process in self._ranks.items() if not process.loaded]

    @property
    def memory(self) -> int:
        """Bytes that all held at most."""
        return sum(process.memory for process in self._ranks.values())

    def state(self) -> Mapping[str, Any] | None:
        """The files of their folder."""
        return self._ranks[0].state()

    def load(self, state: RunState, last: Report) -> None:
        """Put them back, on every machine."""
        for process in self._ranks.values():
            process.load(state, last)

    def close(self) -> None:
        """End them; their folder goes with the first, last."""
        first, *others = self._ranks.values()
        for other in others:
            other.stop(0)
        first.stop(GRACE_SECONDS)
        for other in others:
            other.close(FOLLOW_SECONDS)
        first.close(0)
        self._spread.close()


def _hearsay(error: Ended | Died) -> bool:
    """Whether a rank only says that another is gone."""
    if isinstance(error, Died) or error.outcome is not Outcome.FAILED:
        return False
    return any(word in error.message.lower() for word in _HEARSAY)
