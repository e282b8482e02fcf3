"""What does not outlive a process: folders among the temporary files, and on Linux the processes below it.

Who makes such a folder holds a lock on it, of which the system lets go when that process ends, however it ends. The
next process that makes one removes those that nobody holds.
"""

import ctypes
import fcntl
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from signal import Signals
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


def die_with_parent(number: Signals) -> None:
    """Have this process sent a signal when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Have what is left behind by those that this process starts become its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
