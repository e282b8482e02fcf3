"""Ranks of a trial on other machines: begun there, each with a line to the first machine, which ends with either."""

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any, Final

from bcrit.tuner.training.reported import Died

HOST: Final = "127.0.0.1"
"""Where the ranks of one machine meet."""
LAST_WORDS: Final = 5.0
"""Seconds for which ranks may say why they failed, where another only heard of it. Chosen."""

Address = tuple[str, int]
_LOOK_SECONDS: Final = 1.0  # between two looks at whether a machine is still there while its ranks come up


@dataclass(frozen=True)
class Spread:
    """The machines of a trial, by whoever has them; this one is the first."""

    nodes: int
    host: str  # where the others reach this one
    brought: bool  # whether the user's code lies in the working folder of each, and not at one place
    begin: Callable[..., Any]  # `begin(node, function, *arguments)` calls a module's function there; gives a handle
    gone: Callable[[Any], bool]  # whether that call has ended
    end: Callable[[Any], None]  # ends it


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
