"""A trial of a training function or program begins: in one process, or in ranks as `torchrun` starts them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from torch._C._distributed_c10d import TCPStore

from bcrit.search_spaces.experiment import COMMAND
from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.training.reported import Died, Ended, Report, Reported, Returned
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.state import RunState
from bcrit.tuner.training.trial import Limits
from bcrit.tuner.workloads import child
from bcrit.tuner.workloads.function import GRACE_SECONDS, RUNS_PROGRAMS, FunctionProcess, TrainingFunction

HOST: Final = "127.0.0.1"
LAST_WORDS: Final = 5.0  # seconds for which ranks may say why they failed where one only heard of it; chosen
_LOOK_SECONDS: Final = 0.2  # between two looks at the ranks that do not report
# Seconds for which they may clean up once the first has: they may be waiting for it, and NCCL waits for good. Chosen.
_FOLLOW_SECONDS: Final = 1.0
_HEARSAY: Final = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe")  # of one that lost another


def start(
    function: TrainingFunction,
    folder: str,
    settings: Settings,
    metric: str,
    limits: Limits,
    resources: Resources,
    budget_steps: int,
) -> Reported:
    """Start a trial of a function, whose module is found in the folder, in processes of its own.

    `budget_steps` are optimizer updates of the study's budget, the same for search and re-runs.
    """
    facts = child.settings_of(settings, limits.max_steps, budget_steps, function.options)
    process = _begun(function.name, folder, facts, limits.resolution, resources, metric)
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
    name: str, folder: str, settings: dict[str, Any], resolution: float, resources: Resources, metric: str = ""
) -> FunctionProcess | FunctionRanks:
    ranks = resources.processes or 1
    threads, gpus = max(1, int(resources.cpus / ranks)), resources.gpus
    program = name == COMMAND  # which uses a GPU in a process of its own
    # CUDA does not survive a fork, and what a module read of its rank as it was imported would be the same for all.
    called, forked = (RUNS_PROGRAMS, True) if program else (name, ranks == 1 and not gpus)
    call = child.Call(called, folder, settings, resolution, threads, gpus, forked, metric)
    if ranks == 1:
        return FunctionProcess(call, resources.silence_seconds)
    return FunctionRanks(call, resources.silence_seconds, ranks)


def places(rank: int, size: int, port: int) -> dict[str, str]:
    """What `torchrun` tells one of several ranks on one machine by its environment."""
    number = {
        **dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), size),
        **{"GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1, "MASTER_PORT": port},
        **dict.fromkeys(("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"), 0),
    }
    words = {
        "MASTER_ADDR": HOST,
        "ROLE_NAME": "default",
        "TORCHELASTIC_RUN_ID": "bcrit",
        # The store at this address is there already, so no rank opens it, on a port that another may have taken.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        # Ranks on one machine find each other whatever the machine's name resolves to.
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
    }
    return {**{name: str(value) for name, value in number.items()}, **words}


class FunctionRanks:
    """The reports of a function that runs in several processes, its ranks: the first one's, as long as all are well.

    The ranks share one folder for checkpoints. Whatever ends one of them before its time ends the trial, with what that
    one said.
    """

    def __init__(self, call: child.Call, silence_seconds: float, size: int) -> None:
        """Start them all."""
        self._store = TCPStore(HOST, 0, size, is_master=True, wait_for_workers=False)
        self._others: dict[int, FunctionProcess] = {}
        self._first = FunctionProcess(replace(call, places=places(0, size, self._store.port)), silence_seconds)
        try:
            for rank in range(1, size):
                theirs = replace(call, rank=rank, places=places(rank, size, self._store.port))
                self._others[rank] = FunctionProcess(replace(theirs, checkpoint=self._first.folder), math.inf)
        except BaseException:
            self.close()
            raise

    def next(self, seconds: float) -> Report | None:
        """As of one process."""
        until = time.monotonic() + seconds
        while True:
            left, report = max(0.0, min(_LOOK_SECONDS, until - time.monotonic())), None
            if self.loaded:
                for rank in list(self._others):
                    self._look(rank, 0)
                report = self._look(0, left)
            else:  # none begins before all can
                late = [rank for rank, process in [(0, self._first), *self._others.items()] if not process.loaded]
                for rank in late:
                    self._look(rank, left / len(late))
                if self.loaded:
                    return None
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
        return all(process.loaded for process in (self._first, *self._others.values()))

    @property
    def memory(self) -> int:
        """Bytes that all held at most."""
        return sum(process.memory for process in (self._first, *self._others.values()))

    def state(self) -> Mapping[str, Any] | None:
        """The files of their folder."""
        return self._first.state()

    def load(self, state: RunState, last: Report) -> None:
        """Put them back."""
        self._first.load(state, last)

    def close(self) -> None:
        """End them; their folder goes with the first, last."""
        for other in self._others.values():
            other.stop(0)
        self._first.stop(GRACE_SECONDS)
        for other in self._others.values():
            other.close(_FOLLOW_SECONDS)
        self._first.close(0)


def _hearsay(error: Ended | Died) -> bool:
    """Whether a rank only says that another is gone."""
    if isinstance(error, Died) or error.outcome is not Outcome.FAILED:
        return False
    return any(word in error.message.lower() for word in _HEARSAY)
