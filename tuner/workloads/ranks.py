"""The other processes of a trial that trains data-parallel, here and on other machines: they do what rank 0 does."""

import atexit
import multiprocessing
import os
import pickle
import secrets
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from multiprocessing.process import BaseProcess
from typing import Any, Final

import torch
from torch import distributed as dist
from torch._C._distributed_c10d import TCPStore

from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.training.data import prepare_gpu
from bcrit.tuner.training.parallel import Parallel
from bcrit.tuner.training.reported import Died
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import blame
from bcrit.tuner.workloads import child, function, places

HOST: Final = "127.0.0.1"
"""Where the ranks of one machine meet."""
LAST_WORDS: Final = 5.0
"""Seconds for which ranks may say why they failed, where another only heard of it. Chosen."""

Address = tuple[str, int]
_LOOK_SECONDS: Final = 1.0  # between two looks at whether a machine is still there while its ranks come up


class Door:
    """Where the ranks of other machines come in. What comes is pickled, so they show a key first."""

    def __init__(self, host: str) -> None:
        """Open it."""
        self._server, self.key = socket.create_server((host, 0)), secrets.token_bytes(32)
        self.address: Address = self._server.getsockname()[:2]

    def let_in(self, ranks: Sequence[int], gone: Callable[[], bool]) -> dict[int, Connection]:
        """The lines of these ranks; `Died` where a machine is gone before all have come. Nobody else is let in."""
        found: dict[int, Connection] = {}
        with closing(self._server) as server:
            server.settimeout(_LOOK_SECONDS)
            while len(found) < len(ranks):
                try:
                    came, _ = server.accept()
                except TimeoutError:
                    if gone():
                        raise Died("a machine of the trial ended before its ranks came up") from None
                    continue
                came.settimeout(None)
                line = Connection(came.detach())
                try:
                    deliver_challenge(line, self.key)
                    answer_challenge(line, self.key)
                    found[int(line.recv_bytes())] = line
                except (AuthenticationError, EOFError, OSError):
                    line.close()
        return found


def knock(address: Address, key: bytes, rank: int) -> Connection:
    """Come in: the line of a rank to the first machine."""
    line = Client(address, authkey=key)
    line.send_bytes(str(rank).encode())
    return line


@dataclass
class Spread:
    """The machines of a trial, by whoever has them, and what was begun there; this one is the first."""

    nodes: int
    host: str  # where the others reach this one
    brought: bool  # whether the user's code lies in the working folder of each, and not at one place
    begin: Callable[..., Any]  # `begin(node, function, *arguments)` calls a module's function there; gives a handle
    gone: Callable[[Any], bool]  # whether that call has ended
    end: Callable[[Any], None]  # ends it
    _handles: list[Any] = field(default_factory=list, init=False)

    def reach_out(self, work: Callable[..., None], given: Sequence[Sequence[Any]], ranks: range) -> list[Connection]:
        """Have each other machine start its ranks by `work`, with what is given for it; the lines of all these ranks.

        Before that, `work` gets where they come in, the key, and whether code was brought.
        """
        door = Door(self.host)
        for node, own in enumerate(given, 1):
            self._handles.append(self.begin(node, work, door.address, door.key, self.brought, *own))
        lines = door.let_in(ranks, self.lost)
        return [lines[rank] for rank in ranks]

    def lost(self, *nodes: int) -> bool:
        """Whether one of these other machines is gone; without a number, any."""
        return any(map(self.gone, [self._handles[node - 1] for node in nodes] or self._handles))

    def close(self) -> None:
        """End what was begun there."""
        while self._handles:
            self.end(self._handles.pop())


_SECONDS: Final = 600.0  # for which ranks wait for each other, PyTorch's own for NCCL


@dataclass(frozen=True)
class Start:
    """What another rank is begun with."""

    name: str  # of the workload
    options: Mapping[str, Any]
    folder: str  # where the user's code is found; "" = there is none
    threads: int  # of PyTorch, in each
    gpus: float  # of a machine's ranks: one each, or none
    nodes: int = 1  # machines


class RankError(RuntimeError):
    """A rank failed, and what it said."""


class Ranks:
    """The ranks beside this one, rank 0; they last until one of them fails, or `close`."""

    def __init__(self, start: Start, size: int, spread: Spread | None = None) -> None:
        """Start them, as many on each machine; returns when all have joined."""
        host, here = HOST, size
        if spread is None:  # on one machine they find each other whatever the machine's name resolves to
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        else:
            host, here = spread.host, size // spread.nodes
        store = TCPStore(host, 0, size, is_master=True, wait_for_workers=False)
        address = host, store.port
        self._connections, self._processes = list[Connection](), list[BaseProcess]()
        self._spread = spread
        for rank in range(1, here):
            ours, theirs = multiprocessing.get_context("spawn").Pipe()
            self._processes.append(_started(start, main, theirs, start, rank, size, address))
            theirs.close()
            self._connections.append(ours)
        self.place = Parallel(0, size, self.together)
        atexit.register(self.close)
        try:
            if spread is not None:
                given = [(start, range(n, n + here), size, address) for n in range(here, size, here)]
                self._connections += spread.reach_out(there, given, range(here, size))
            _join(store, start, 0, size)
        except Exception:
            self.close()
            raise

    @contextmanager
    def together(self, name: str, given: Any) -> Iterator[list[Any]]:
        """Have the other ranks call a method of their runs meanwhile; gives what they return, when all is done."""
        answers: list[Any] = []
        try:
            for connection in self._connections:
                connection.send_bytes(pickle.dumps((name, given)))
            yield answers
            answers += [self._answer(rank, _SECONDS) for rank in range(1, len(self._connections) + 1)]
        except BaseException as error:
            told = None if isinstance(error, RankError | Died | MemoryError) else self._told(error)
            self.close()
            if told is None:
                raise
            raise told from error

    def _told(self, error: BaseException) -> Exception | None:
        """What another rank said as it failed, of which this one only heard that it is gone; None where none failed."""
        seconds = LAST_WORDS if isinstance(error, RuntimeError | OSError) else 0.0
        for rank, connection in enumerate(self._connections, 1):
            if connection.poll(seconds):
                try:
                    self._answer(rank, 0)
                except Exception as said:
                    return said
        return None

    def _answer(self, rank: int, seconds: float) -> Any:
        connection = self._connections[rank - 1]
        try:
            if not connection.poll(seconds):
                raise RankError(f"rank {rank} does not answer")
            kind, said = pickle.loads(connection.recv_bytes())  # noqa: S301  # of our own process
        except (EOFError, ConnectionError) as error:
            raise Died(f"rank {rank} of the trial died") from error
        if kind is Outcome.OUT_OF_MEMORY:
            raise MemoryError(f"rank {rank}: {said}")
        if kind is not None:
            raise RankError(f"rank {rank}: {said}")
        return said

    def close(self) -> None:
        """End them."""
        atexit.unregister(self.close)
        if dist.is_initialized():
            dist.destroy_process_group()
        for process in self._processes:
            process.kill()
            process.join()
        for connection in self._connections:
            connection.close()
        if self._spread is not None:
            self._spread.close()
        self._connections, self._processes = [], []

    @property
    def alive(self) -> bool:
        """Whether all are there."""
        lost = self._spread is not None and self._spread.lost()
        return bool(self._connections) and all(process.is_alive() for process in self._processes) and not lost


def _started(start: Start, work: Callable[..., None], *given: Any) -> BaseProcess:
    """A process for a rank on this machine."""
    call = child.Call(start.name, start.folder, {}, 1.0, start.threads, start.gpus, forked=False)
    process = multiprocessing.get_context("spawn").Process(target=work, args=given, daemon=True)
    with function.environment(call), function.no_main_module():
        process.start()
    return process


def there(
    address: Address, key: bytes, brought: bool, start: Start, ranks: Sequence[int], size: int, store: Address
) -> None:
    """Be another machine of a trial: start its ranks, until they end."""
    start = replace(start, folder=os.getcwd()) if brought and start.folder else start
    for process in [_started(start, _come, address, key, start, rank, size, store) for rank in ranks]:
        process.join()


def _come(address: Address, key: bytes, start: Start, rank: int, size: int, store: Address) -> None:
    main(knock(address, key, rank), start, rank, size, store)


def _join(store: Any, start: Start, rank: int, size: int) -> None:
    if start.gpus:
        torch.cuda.set_device(rank % (size // start.nodes))
    kind = "nccl" if start.gpus else "gloo"
    dist.init_process_group(kind, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=_SECONDS))


def main(connection: Connection, start: Start, rank: int, size: int, store: Address) -> None:
    """Be a rank: join, and do what is asked for until nobody asks."""
    child.end_with_parent()
    os.environ.pop("PYTHONSAFEPATH", None)
    torch.set_num_threads(start.threads)
    with suppress(EOFError, ConnectionError):  # rank 0 is gone
        try:
            _work(connection, start, rank, size, store)
        except (EOFError, ConnectionError):
            raise
        except BaseException as error:  # what a user's code may raise: rank 0 tells of it
            traceback.print_exc()
            connection.send_bytes(pickle.dumps(blame(error)))


def _work(connection: Connection, start: Start, rank: int, size: int, store: Address) -> None:
    from bcrit.tuner.workloads.registry import load_workload

    places.trust([places.EVERYTHING])
    if start.folder:
        places.reach(start.folder)
    if start.gpus:
        prepare_gpu(1)
    _join(TCPStore(*store, size, is_master=False), start, rank, size)
    workload, run = load_workload(start.name, start.options), None
    while True:
        name, given = pickle.loads(connection.recv_bytes())  # noqa: S301  # of rank 0
        if name == "begin":
            run = None  # its memory first
            run = workload.begin(replace(given, parallel=Parallel(rank, size)))
            answer = None
        else:
            method = getattr(run, name)
            answer = method() if given is None else method(given)
        connection.send_bytes(pickle.dumps((None, answer)))


def begin(ranks: Ranks, workload: Any, settings: Settings) -> Any:
    """A workload's run on all ranks."""
    with ranks.together("begin", settings):
        return workload.begin(replace(settings, parallel=ranks.place))
