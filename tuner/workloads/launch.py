"""A trial of a training function or program begins: in one process, or in ranks as `torchrun` starts them."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from torch._C._distributed_c10d import TCPStore

from bcrit.search_spaces.experiment import COMMAND
from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.training.reported import Died, Ended, Report, Reported, Returned, RunState
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits
from bcrit.tuner.workloads import child
from bcrit.tuner.workloads.function import GRACE_SECONDS, RUNS_PROGRAMS, FunctionProcess, TrainingFunction
from bcrit.tuner.workloads.ranks import HOST, LAST_WORDS, Address, Spread, knock

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


def places(rank: int, here: int, nodes: int, address: Address) -> dict[str, str]:
    """What `torchrun` tells a rank by its environment, of so many on each machine; they meet at the address."""
    number = {
        **dict.fromkeys(("RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "ROLE_WORLD_SIZE"), here * nodes),
        **{"LOCAL_RANK": rank % here, "LOCAL_WORLD_SIZE": here},
        **{"GROUP_RANK": rank // here, "GROUP_WORLD_SIZE": nodes, "MASTER_PORT": address[1]},
        **dict.fromkeys(("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"), 0),
    }
    words = {
        "MASTER_ADDR": address[0],
        "ROLE_NAME": "default",
        "TORCHELASTIC_RUN_ID": "bcrit",
        # The store at this address is there already, so no rank opens it, on a port that another may have taken.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
    }
    if nodes == 1:  # they find each other whatever the machine's name resolves to
        words["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return {**{name: str(value) for name, value in number.items()}, **words}


class FunctionRanks:
    """The reports of a function that runs in several processes, its ranks: the first one's, as long as all are well.

    The ranks of a machine share one folder for checkpoints. Whatever ends one of them before its time ends the trial,
    with what that one said.
    """

    def __init__(self, call: child.Call, silence_seconds: float, here: int, spread: Spread | None = None) -> None:
        """Start them all, so many on each machine."""
        host, nodes = (HOST, 1) if spread is None else (spread.host, spread.nodes)
        self._store = TCPStore(host, 0, here * nodes, is_master=True, wait_for_workers=False)
        self._others: dict[int, FunctionProcess | _Afar] = {}
        self._spread, address = spread, (host, self._store.port)
        calls = [replace(call, rank=n, places=places(n, here, nodes, address)) for n in range(here * nodes)]
        self._silence_seconds, self._begun = silence_seconds, time.monotonic()
        self._first = FunctionProcess(calls[0], silence_seconds)
        try:
            for rank in range(1, here):
                self._others[rank] = FunctionProcess(replace(calls[rank], checkpoint=self._first.folder), math.inf)
            if spread is not None:
                given = [(calls[n : n + here],) for n in range(here, len(calls), here)]
                lines = spread.reach_out(there, given, range(here, len(calls)))
                for rank, line in enumerate(lines, here):
                    self._others[rank] = _Afar(line, partial(spread.lost, rank // here))
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
        self._first.load(state, last)
        for other in self._others.values():
            if isinstance(other, _Afar):
                other.load(state, last)

    def close(self) -> None:
        """End them; their folder goes with the first, last."""
        for other in self._others.values():
            other.stop(0)
        self._first.stop(GRACE_SECONDS)
        for other in self._others.values():
            other.close(_FOLLOW_SECONDS)
        self._first.close(0)
        if self._spread is not None:
            self._spread.close()


class _Afar:
    """A rank on another machine, as `FunctionProcess` is one on this."""

    def __init__(self, line: Connection, gone: Callable[[], bool]) -> None:
        self._line, self._gone, self._goes = line, gone, False
        self.loaded, self.memory = False, 0

    def next(self, seconds: float) -> None:
        """Let it go on; raises what ended it."""
        try:
            if self.loaded and not self._goes:
                self._goes = True
                self._line.send_bytes(pickle.dumps(None))
            if not self._line.poll(seconds):
                if self._gone():
                    raise EOFError
                return
            kind, *said = pickle.loads(self._line.recv_bytes())  # noqa: S301  # it showed the key
        except (EOFError, OSError) as error:
            raise Died("its machine is gone, or the process there that started it") from error
        if kind == "loaded":
            self.loaded = True
        elif kind == "memory":
            (self.memory,) = said
        else:
            raise {"returned": Returned, "ended": Ended, "died": Died}[kind](*said)

    def heard(self, report: Report) -> None:
        """Have the machine take note that the trial is so far."""
        with suppress(OSError):
            self._line.send_bytes(pickle.dumps(report))

    def load(self, state: RunState, last: Report) -> None:
        """Put files back there, before it begins."""
        with suppress(OSError):  # it is gone, as is seen when it is asked for
            self._line.send_bytes(pickle.dumps((state, last)))

    def stop(self, seconds: float) -> None:
        """Let go of the line, upon which the machine stops it."""
        self._line.close()

    def close(self, seconds: float = 0.0) -> None:
        """The same; its machine ends it."""
        self._line.close()


def there(address: Address, key: bytes, brought: bool, calls: Sequence[child.Call]) -> None:
    """Be another machine of a trial: start its ranks, tell of them, and end them when the first machine lets go."""
    processes, relays = list[FunctionProcess](), list[threading.Thread]()
    try:
        for call in calls:
            folder = os.getcwd() if brought else call.folder
            kept = processes[0].folder if processes else ""
            processes.append(FunctionProcess(replace(call, folder=folder, checkpoint=kept), math.inf))
        for call, process in zip(calls, processes, strict=True):
            line = knock(address, key, call.rank)
            relays.append(threading.Thread(target=_relay, args=(line, process), daemon=True))
            relays[-1].start()
        for relay in relays:
            relay.join()
    finally:
        for process in processes:
            process.stop(0)
        for process in reversed(processes):  # the folder goes with the first
            process.close(_FOLLOW_SECONDS)


def _relay(line: Connection, process: FunctionProcess) -> None:
    """Pass on to the first machine what becomes of a rank, and what that one says."""
    end: tuple[Any, ...]
    try:
        while not process.loaded:
            process.next(_LOOK_SECONDS)
        line.send_bytes(pickle.dumps(("loaded",)))
        while (said := pickle.loads(line.recv_bytes())) is not None:  # noqa: S301  # of the first machine
            process.heard(said) if isinstance(said, Report) else process.load(*said)
        while True:
            wait([line, *process.signs], _LOOK_SECONDS)
            while line.poll():  # first: how far the trial is, which an end then says
                process.heard(pickle.loads(line.recv_bytes()))  # noqa: S301
                line.send_bytes(pickle.dumps(("memory", process.memory)))
            process.next(0)
    except Returned:
        end = ("returned",)
    except Ended as ended:
        end = ("ended", ended.outcome, ended.message)
    except Died as died:
        end = ("died", str(died))
    except (EOFError, OSError):  # it has let go
        return
    with suppress(OSError):
        line.send_bytes(pickle.dumps(end))


def _hearsay(error: Ended | Died) -> bool:
    """Whether a rank only says that another is gone."""
    if isinstance(error, Died) or error.outcome is not Outcome.FAILED:
        return False
    return any(word in error.message.lower() for word in _HEARSAY)
