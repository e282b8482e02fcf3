"""The ranks of a trial, as `torchrun` starts them, here and on other machines: how they are reached, and let go of.

A rank is a process that does what a call says, and a line to it. On another machine it is started by that machine
(`there`), which passes on what is said on the line, and says how a process died that could not say so itself. Where
the training is our own, rank 0 is this process, and the others do what it does (`Ranks`).
"""

import atexit
import json
import os
import pickle
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge, wait
from pathlib import Path
from typing import Any, Final

import torch
from torch import distributed as dist
from torch._C._distributed_c10d import TCPStore

from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.training.parallel import Parallel
from bcrit.tuner.training.reported import Died
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads import places
from bcrit.tuner.workloads.child import GO, IS_A_RANK, Call, Reporter, Started
from bcrit.tuner.workloads.function import Config
from bcrit.tuner.workloads.processes import Scratch

HOST: Final = "127.0.0.1"
"""Where the ranks of one machine meet."""
MEMORY: Final = b"memory"
"""Asks the machine of a rank what that holds."""
FILES: Final = b"files"
"""Asks it to put back the files of the trial, which follow, pickled."""
LAST_WORDS: Final = 5.0
"""Seconds for which ranks may say why they failed, where another only heard of it. Chosen."""

Address = tuple[str, int]
_LOOK_SECONDS: Final = 1.0  # between two looks at whether a machine is still there while its ranks come up
FOLLOW_SECONDS: Final = 1.0
"""Seconds for which ranks may clean up once the first has: they may wait for it, and NCCL waits for good. Chosen."""
_SECONDS: Final = 600.0  # for which ranks wait for each other, PyTorch's own for NCCL


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
    """The machines of a trial, by whoever has them, and what was begun there; this one is the first, or all."""

    nodes: int = 1
    host: str = HOST  # where the others reach this one
    brought: bool = False  # whether the user's code lies in the working folder of each, and not at one place
    # `begin(node, function, *arguments)` calls a module's function there; gives a handle
    begin: Callable[..., Any] = lambda node, function, *arguments: None
    gone: Callable[[Any], bool] = lambda handle: False  # whether that call has ended
    end: Callable[[Any], None] = lambda handle: None  # ends it
    store: TCPStore = field(init=False)  # where the ranks meet
    _handles: list[Any] = field(default_factory=list, init=False)

    def calls(self, call: Call, here: int) -> list[Call]:
        """What each of the ranks is to run, so many on each machine; they meet at a store of this one."""
        size = here * self.nodes
        self.store = TCPStore(self.host, 0, size, is_master=True, wait_for_workers=False)
        number = {"MASTER_PORT": self.store.port, "WORLD_SIZE": size, "ROLE_WORLD_SIZE": size}
        number |= {"LOCAL_WORLD_SIZE": here, "GROUP_WORLD_SIZE": self.nodes}
        number |= dict.fromkeys(("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"), 0)
        words = {
            "MASTER_ADDR": self.host,
            "ROLE_NAME": "default",
            "TORCHELASTIC_RUN_ID": "bcrit",
            # The store at this address is there already, so no rank opens it, on a port that another may have taken.
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        }
        if self.nodes == 1:  # they find each other whatever the machine's name resolves to
            words["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
        calls = []
        for rank in range(size):
            own = number | {"RANK": rank, "ROLE_RANK": rank, "LOCAL_RANK": rank % here, "GROUP_RANK": rank // here}
            told = {name: str(value) for name, value in own.items()}
            calls.append(replace(call, rank=rank, places=words | told))
        return calls

    def reach_out(self, calls: Sequence[Call]) -> list[Connection]:
        """The lines of the ranks of all calls that are not this machine's, which the others start."""
        afar = [[call for call in calls if call.places["GROUP_RANK"] == str(node)] for node in range(1, self.nodes)]
        if not afar:
            return []
        door = Door(self.host)
        for node, own in enumerate(afar, 1):
            self._handles.append(self.begin(node, there, door.address, door.key, self.brought, own))
        ranks = [call.rank for own in afar for call in own]
        lines = door.let_in(ranks, self.lost)
        return [lines[rank] for rank in ranks]

    def lost(self, *nodes: int) -> bool:
        """Whether one of these other machines is gone; without a number, any."""
        return any(map(self.gone, [self._handles[node - 1] for node in nodes] or self._handles))

    def close(self) -> None:
        """End what was begun there."""
        while self._handles:
            self.end(self._handles.pop())


def there(address: Address, key: bytes, brought: bool, calls: Sequence[Call]) -> None:
    """Be another machine of a trial: start its ranks, pass on what is said, and end them when the first lets go."""
    begun, lines = list[Started](), dict[Connection, Started]()
    with closing(Scratch()) as scratch:
        try:
            for call in calls:
                folder = os.getcwd() if brought and call.folder else call.folder
                begun.append(Started(replace(call, folder=folder, checkpoint=str(scratch.path / "checkpoint"))))
            for call, rank in zip(calls, begun, strict=True):
                lines[knock(address, key, call.rank)] = rank
            while lines:
                wait([sign for line, rank in lines.items() for sign in (line, rank.line, rank.sentinel)])
                for line, rank in [*lines.items()]:
                    if not _passed_on(line, rank, scratch.path / "checkpoint"):
                        lines.pop(line)
                        line.close()
        finally:
            until = time.monotonic() + FOLLOW_SECONDS
            for rank in begun:
                rank.join(max(0.0, until - time.monotonic()))
                rank.kill()


def _passed_on(line: Connection, rank: Started, folder: Path) -> bool:
    """Pass on what a rank and the first machine say to each other; whether both may say more."""
    with suppress(EOFError, OSError):  # the first machine has let go
        while line.poll():  # first: how far the trial is, which an end then says
            said = line.recv_bytes()
            if said == MEMORY:
                line.send_bytes(json.dumps({"memory": rank.held}).encode())
            elif not said.startswith(FILES):
                with suppress(OSError):  # it died, as is seen below
                    rank.line.send_bytes(said)
            elif not folder.exists():  # the folder is that of all ranks here
                put_back(folder, pickle.loads(said.removeprefix(FILES)))  # noqa: S301  # it has shown the key
        ended = bool(wait([rank.sentinel], 0))
        try:
            while rank.line.poll():
                line.send_bytes(rank.line.recv_bytes())
        except (EOFError, ConnectionError):
            ended = True
        if not ended:
            return True
        line.send_bytes(json.dumps({"died": rank.death()}).encode())
    return False


def put_back(folder: Path, state: Mapping[str, Any]) -> None:
    """Put the files of a trial into its folder."""
    for name, content in state.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content.numpy().tofile(path)


class RankError(RuntimeError):
    """A rank failed, and what it said."""


class Ranks:
    """The ranks beside this one, rank 0; they last until one of them fails, or `close`."""

    def __init__(self, call: Call, here: int, spread: Spread | None = None) -> None:
        """Start them, so many on each machine; returns when all have joined.

        The call is as if a workload were a training function, with the workload's options for settings.
        """
        self._spread = spread or Spread()
        if self._spread.nodes == 1:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        settings = {"workload": call.name, "options": call.settings, "gpus": call.gpus, "seed": 0}
        calls = self._spread.calls(replace(call, name=IS_A_RANK, settings=settings), here)
        self._processes, self._lines = list[Started](), list[Connection]()
        self.place = Parallel(0, len(calls), self.together)
        atexit.register(self.close)
        try:
            for own in calls[1:here]:
                self._processes.append(Started(own))
            self._lines = [process.line for process in self._processes] + self._spread.reach_out(calls)
            for rank, line in enumerate(self._lines, 1):
                self._answer(rank, _SECONDS)  # it is there
                line.send_bytes(GO)
            _join(self._spread.store, calls[0].places, call.gpus)
        except Exception:
            self.close()
            raise

    def begin(self, workload: Any, settings: Settings) -> Any:
        """A workload's run on all ranks."""
        with self.together("begin", settings):
            return workload.begin(replace(settings, parallel=self.place))

    @contextmanager
    def together(self, name: str, given: Any) -> Iterator[list[Any]]:
        """Have the other ranks call a method of their runs meanwhile; gives what they return, when all is done."""
        answers: list[Any] = []
        try:
            for line in self._lines:
                line.send_bytes(pickle.dumps((name, given)))
            yield answers
            answers += [self._answer(rank, _SECONDS) for rank in range(1, len(self._lines) + 1)]
        except BaseException as error:
            told = None if isinstance(error, RankError | Died | MemoryError) else self._told(error)
            self.close()
            if told is None:
                raise
            raise told from error

    def _told(self, error: BaseException) -> Exception | None:
        """What another rank said as it failed, of which this one only heard that it is gone; None where none failed."""
        seconds = LAST_WORDS if isinstance(error, RuntimeError | OSError) else 0.0
        for rank, line in enumerate(self._lines, 1):
            if line.poll(seconds):
                try:
                    self._answer(rank, 0)
                except Exception as said:
                    return said
        return None

    def _answer(self, rank: int, seconds: float) -> Any:
        line = self._lines[rank - 1]
        try:
            if not line.poll(seconds):
                raise RankError(f"rank {rank} does not answer")
            said = json.loads(line.recv_bytes())
            if "died" in said:
                raise EOFError(said["died"])
            if "loaded" in said:
                return None
            if "returned" in said:
                return pickle.loads(line.recv_bytes())  # noqa: S301  # of our own process
        except (EOFError, ConnectionError) as error:
            raise Died(f"rank {rank} of the trial died") from error
        if said["outcome"] == Outcome.OUT_OF_MEMORY:
            raise MemoryError(f"rank {rank}: {said['message']}")
        raise RankError(f"rank {rank}: {said['message']}")

    def close(self) -> None:
        """End them."""
        atexit.unregister(self.close)
        if dist.is_initialized():
            dist.destroy_process_group()
        for process in self._processes:
            process.kill()
        for line in self._lines:
            line.close()
        self._spread.close()
        self._lines, self._processes = [], []

    @property
    def alive(self) -> bool:
        """Whether all are there."""
        return bool(self._lines) and all(process.alive for process in self._processes) and not self._spread.lost()


def _join(store: Any, told: Mapping[str, str], gpus: float) -> Parallel:
    """Be the rank that one was told to be."""
    if gpus:
        torch.cuda.set_device(int(told["LOCAL_RANK"]))
    rank, size = int(told["RANK"]), int(told["WORLD_SIZE"])
    kind, wait = "nccl" if gpus else "gloo", timedelta(seconds=_SECONDS)
    dist.init_process_group(kind, store=store, rank=rank, world_size=size, timeout=wait)
    return Parallel(rank, size)


def train(config: Config, report: Reporter) -> None:
    """Be a rank beside rank 0: join, and do what is asked for, for ever."""
    from bcrit.tuner.workloads.registry import load_workload

    places.trust([places.EVERYTHING])
    address, port, size = (os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"))
    place = _join(TCPStore(address, int(port), int(size), is_master=False), os.environ, config["gpus"])
    workload, run = load_workload(config["workload"], config["options"]), None
    while True:
        name, given = pickle.loads(report.asked())  # noqa: S301  # of rank 0
        if name == "begin":
            run = None  # its memory first
            run = workload.begin(replace(given, parallel=place))
            answer = None
        else:
            method = getattr(run, name)
            answer = method() if given is None else method(given)
        report.answer(b'{"returned": true}')  # and what
        report.answer(pickle.dumps(answer))
