"""A trial of a training function or program begins: in one process, or in ranks as `torchrun` starts them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

from bcrit.search_spaces.experiment import COMMAND
from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.training.reported import Died, Ended, Report, Reported, Returned, RunState
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits
from bcrit.tuner.workloads import child
from bcrit.tuner.workloads.function import GRACE_SECONDS, RUNS_PROGRAMS, FunctionProcess, TrainingFunction
from bcrit.tuner.workloads.ranks import FOLLOW_SECONDS, LAST_WORDS, Spread

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
    facts = child.settings_of(settings, limits.max_steps, budget_steps, function.options)
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
    call = child.Call(called, folder, settings, resolution, threads, gpus, forked, metric)
    if alone:
        return FunctionProcess(call, resources.silence_seconds)
    return FunctionRanks(call, resources.silence_seconds, ranks, spread)


class FunctionRanks:
    """The reports of a function that runs in several processes, its ranks: the first one's, as long as all are well.

    The ranks of a machine share one folder for checkpoints. Whatever ends one of them before its time ends the trial,
    with what that one said.
    """

    def __init__(self, call: child.Call, silence_seconds: float, here: int, spread: Spread | None = None) -> None:
        """Start them all, so many on each machine."""
        self._others, self._spread = dict[int, FunctionProcess](), spread or Spread()
        calls = self._spread.calls(call, here)
        self._silence_seconds, self._begun = silence_seconds, time.monotonic()
        self._first = FunctionProcess(calls[0], silence_seconds)
        try:
            for own in calls[1:here]:
                shared = replace(own, checkpoint=self._first.folder)
                self._others[own.rank] = FunctionProcess(shared, math.inf)
            lines = self._spread.reach_out(child.main, calls)
            for own, line in zip(calls[here:], lines, strict=True):
                gone = partial(self._spread.lost, own.rank // here)
                self._others[own.rank] = FunctionProcess(own, math.inf, line, gone)
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
                for rank in list(self._others):
                    self._look(rank, 0)
                report = self._look(0, left)
            if report is not None:
                for other in self._others.values():
                    other.heard(report)
            if report is not None or time.monotonic() >= until:
                return report

    def _look(self, rank: int, seconds: float) -> Report | None:
        """Let a rank go on; one that does not report, and has returned, is done."""
        try:
            return (self._others[rank] if rank else self._first).next(seconds)
        except Returned:
            if rank == 0:
                raise
            self._others.pop(rank).close()
            return None
        except (Ended, Died) as error:
            raise self._why(rank, error) from error

    def _why(self, rank: int, error: Ended | Died) -> Ended | Died:
        """What began it, with its rank, and the end of all: of one that failed the others only hear that it is gone."""
        said, until = {rank: error}, time.monotonic() + LAST_WORDS
        ranks = {0: self._first, **self._others}
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
        return [rank for rank, process in [(0, self._first), *self._others.items()] if not process.loaded]

    @property
    def memory(self) -> int:
        """Bytes that all held at most."""
        return sum(process.memory for process in (self._first, *self._others.values()))

    def state(self) -> Mapping[str, Any] | None:
        """The files of their folder."""
        return self._first.state()

    def load(self, state: RunState, last: Report) -> None:
        """Put them back, on every machine."""
        for process in (self._first, *self._others.values()):
            process.load(state, last)

    def close(self) -> None:
        """End them; their folder goes with the first, last."""
        for other in self._others.values():
            other.stop(0)
        self._first.stop(GRACE_SECONDS)
        for other in self._others.values():
            other.close(FOLLOW_SECONDS)
        self._first.close(0)
        self._spread.close()


def _hearsay(error: Ended | Died) -> bool:
    """Whether a rank only says that another is gone."""
    if isinstance(error, Died) or error.outcome is not Outcome.FAILED:
        return False
    return any(word in error.message.lower() for word in _HEARSAY)
