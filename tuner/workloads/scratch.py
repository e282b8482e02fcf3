"""Folders of runs and trials among the temporary files, which do not outlive the process that made them for long.

Who makes one holds a lock on it, of which the system lets go when that process ends, however it ends. The next process
that makes one removes those that nobody holds.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
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
