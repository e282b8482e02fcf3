"""A command that uses Ray, watched from outside: Ray ends the process that it runs in when its own processes die.

The command runs in a child. What Ray's C++ code prints goes into a log file and never between our lines; when the child
is gone without having said that it is done, the parent says why and what to do, in one line.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import typer
from rich.console import Console

from bcrit.terminal import say

CLUSTER_FAILED: Final = 3
"""Exit code: the cluster, or Ray on this machine, failed. Nothing was wrong with the experiment."""
STOPPED: Final = 130
"""Exit code: stopped by a signal."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
# What Ray writes when it gives up, and what it means.
_CAUSES = {
    "GCS": "Ray's head does not answer any more",
    "aylet": "Ray's process on this machine (the raylet) died",
}
_parent: int | None = None  # where the child tells what it does; None in a process that is not watched


def tell(what: str, value: str) -> None:
    """Tell the process that watches this one, if one does.

    Args:
        what: `folder` (that can be resumed) or `exit` (the exit code).
        value: the value.
    """
    if _parent is not None:
        with suppress(BrokenPipeError):  # it was killed, and this process is ending
            os.write(_parent, f"{what} {value}\n".encode())


def supervised(work: Callable[[], int]) -> int:
    """Do work in a child process.

    Args:
        work: returns the exit code.

    Returns:
        The exit code: the work's, or `CLUSTER_FAILED` or `STOPPED` where the child did not come to its end.
    """
    reading, writing = os.pipe()
    handle, log = tempfile.mkstemp(prefix="bcrit-ray-", suffix=".log")
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the child leaves behind becomes ours
    child = os.fork()
    if child == 0:
        os.close(reading)
        _begin(parent, writing, handle)
        tell("exit", str(code := work()))
        sys.stdout.flush()
        sys.exit(code)
    os.close(writing)
    os.close(handle)
    told: dict[str, str] = {}
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with open(reading, encoding="utf-8") as pipe:
            for line in pipe:
                what, _, value = line.rstrip("\n").partition(" ")
                told[what] = value
        _, status = os.waitpid(child, 0)
        _end_orphans()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if "exit" in told:
        Path(log).unlink()
        return int(told["exit"])
    go_on = f"go on with:  bcrit resume {told['folder']}" if "folder" in told else "nothing was run"
    errors = Console(stderr=True)
    if asked:
        Path(log).unlink()
        say(errors, f"stopped; {go_on}")
        return STOPPED
    say(errors, f"{_cause(Path(log), status)}; finished trials are kept, {go_on}   (what Ray said: {log})")
    return CLUSTER_FAILED


@contextmanager
def cluster_failures(folder: str) -> Iterator[None]:
    """Tell apart what the cluster did from what the experiment did, while a run is under way.

    Args:
        folder: how the user names the run.

    Raises:
        typer.Exit: with `CLUSTER_FAILED`, after the reason was said.
    """
    from bcrit.tuner.cluster import ClusterError

    tell("folder", folder)
    try:
        yield
    except ClusterError as error:
        say(Console(stderr=True), f"{error}; finished trials are kept, go on with:  bcrit resume {folder}")
        raise typer.Exit(CLUSTER_FAILED) from error


def _end_orphans() -> None:
    """End what the child left running: some of Ray's processes wait a minute for the head that died with it."""
    while True:
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


class _Ours(io.TextIOWrapper):
    """What the main thread prints goes out; what Ray's threads print goes into the log."""

    def __init__(self, out: int, log: int) -> None:
        super().__init__(io.FileIO(out, "w"), encoding="utf-8", errors="backslashreplace", write_through=True)
        self._log = log

    def write(self, text: str) -> int:
        if threading.current_thread() is threading.main_thread():
            return super().write(text)
        return os.write(self._log, text.encode(errors="backslashreplace"))


def _begin(parent: int, pipe: int, log: int) -> None:
    """Set up the child: it dies with its parent, only its parent hears Ctrl-C, and Ray's own output goes to the log."""
    global _parent
    _parent = pipe
    os.set_inheritable(pipe, False)
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # it still takes Ray's processes with it
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(1)
    sys.stdout, sys.stderr = _Ours(os.dup(1), log), _Ours(os.dup(2), log)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)


def _cause(log: Path, status: int) -> str:
    """Why the child ended without a word."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:  # never Ray's own doing
        return "the run was killed by SIGKILL, as the system does when memory runs out"
    text = log.read_text(errors="replace")
    for words, cause in _CAUSES.items():
        if words in text:
            return cause
    return f"the run ended in the middle, with exit code {os.waitstatus_to_exitcode(status)}"
