"""What does not outlive a process: folders among the temporary files, and on Linux the processes below it.

Who makes such a folder holds a lock on it, of which the system lets go when that process ends, however it ends. The
next process that makes one removes those that nobody holds.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Final

_PREFIX: Final = "bcrit-trial-"
_NEW_SECONDS: Final = 60.0  # so long a folder may be there before its maker holds it. Chosen.


class Scratch:
    """A new, empty folder, which is held until it is removed (`close`)."""

    def __init__(self) -> None:
        """Make it; the first time in a process, remove what others left."""
        clear()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._held = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove it, with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


@cache
def clear() -> None:
    """Remove the folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or removed by another process meanwhile
            if time.time() - path.stat().st_mtime < _NEW_SECONDS:
                continue
            folder = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(folder)


_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def die_with_parent(number: signal.Signals) -> None:
    """Have this process sent a signal when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Have what is left behind by those that this process starts become its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


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
