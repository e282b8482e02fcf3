"""A command that uses Ray, watched from outside: Ray ends the process that it runs in when its own processes die.

The command runs in a child. What Ray's C++ code prints goes into a log file and never between our lines; when the child
is gone without having said that it is done, the parent says why and what to do, in one line.
"""

import io
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import typer

from bcrit.terminal import Screen, say
from bcrit.tuner.workloads.processes import adopt_orphans, die_with_parent, end_below

CLUSTER_FAILED: Final = 3
"""Exit code: the cluster, Ray on this machine, a disk or a store failed. Nothing was wrong with what was asked."""
NOT_STARTED: Final = 4
"""Exit code: Ray could not be started on this machine."""
AT_BOUND: Final = 5
"""Exit code: a run reached a bound that it was given, such as `--max-hours`; `bcrit resume` goes on."""
STOPPED: Final = 130
"""Exit code of a command that Ctrl-C stopped; another signal's is 128 and its number, as a shell says it."""

# How long a command that was told to end may take: what it has finished is kept however it ends, and who sends SIGTERM
# often kills after 10 s (Docker's default).
_GRACE_SECONDS: Final = 8
# What Ray writes when it gives up, and what it means.
_CAUSES = {"GCS": "Ray's head does not answer any more", "aylet": "Ray's process on this machine (the raylet) died"}
_parent: int | None = None  # where the child tells what it does; None in a process that is not watched
_told: dict[str, str] = {}


def tell(what: str, value: str) -> None:
    """Tell the process that watches this one, if one does.

    That is the `run` folder and the command that goes on with it (`again`), and at last the code of `exit`.
    """
    _told[what] = value
    if _parent is not None:
        with suppress(BrokenPipeError):  # it was killed, and this process is ending
            os.write(_parent, f"{what} {value}\n".encode())


def remedy() -> str:
    """What to do after a command has ended before its time."""
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder

    if "again" in _told:
        folder = RunFolder.at(_told["run"])
        if not folder.is_local or folder.has(EXPERIMENT):  # a store may be what is away
            return f"finished trials are kept, go on with:  {_told['again']}"
    return "nothing was run; give the same command again"


def say_stopped() -> None:
    """Say that this command was stopped; of one that is watched the process that watches it does."""
    if _parent is None:
        say(Screen(stderr=True), f"stopped; {remedy()}" if "again" in _told else "stopped")


@contextmanager
def stopped_by_ctrl_c() -> Iterator[None]:
    """Within it Ctrl-C ends in a KeyboardInterrupt, wherever it lands.

    An import that it breaks off may fail with an error of its own, and a finalizer swallows it: then it comes again.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def swallowed(what: "sys.UnraisableHookArgs") -> None:
        if came and issubclass(what.exc_type, KeyboardInterrupt):
            # A signal and not `interrupt_main`, which a call of the system would not notice before it is over.
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(what)

    before, sys.unraisablehook = sys.unraisablehook, swallowed
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = before


_AGAIN_SECONDS: Final = 0.01  # the finalizer is over by then; chosen


def supervised(work: Callable[[], int]) -> int:
    """Do work in a child process, which ends soon after a signal that ends programs, however it stands.

    Gives its exit code; `CLUSTER_FAILED` where it did not come to its end; after a signal 128 and its number.
    """
    reading, writing = os.pipe()
    handle, log = tempfile.mkstemp(prefix="bcrit-ray-", suffix=".log")
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # one that comes now waits until there is somebody to take it
    adopt_orphans()  # what the child leaves behind becomes ours
    child = os.fork()
    if child == 0:
        os.close(reading)
        _begin(parent, writing, handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        tell("exit", str(code := work()))
        sys.stdout.flush()
        sys.exit(code)
    os.close(writing)
    os.close(handle)
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            if number != signal.SIGINT or asked:  # the first Ctrl-C lets reports come in, however long they take
                signal.alarm(_GRACE_SECONDS)
            asked.append(number)
        with suppress(ProcessLookupError):
            # Whatever it was, the child is to end as after Ctrl-C: SIGTERM is Ray's, which takes it for an error.
            os.kill(child, signal.SIGKILL if number == signal.SIGALRM else signal.SIGINT)

    heard = [number for number in stops if signal.getsignal(number) is not signal.SIG_IGN]  # as `nohup` has it
    before = {number: signal.signal(number, forward) for number in heard}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
    try:
        with open(reading, encoding="utf-8") as pipe:
            for line in pipe:
                what, _, value = line.rstrip("\n").partition(" ")
                _told[what] = value
        _, status = os.waitpid(child, 0)
        signal.alarm(0)
        _end_orphans()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = int(_told.get("exit", -1))
    errors = Screen(stderr=True)
    if code == STOPPED or (asked and code < 0):
        Path(log).unlink()
        say(errors, f"stopped; {remedy()}")
        return 128 + (asked or [signal.SIGINT])[0]
    if code < 0:
        say(errors, f"{_cause(Path(log), status)}; {remedy()}   (what Ray said: {log})")
        return CLUSTER_FAILED
    Path(log).unlink()
    return code


@contextmanager
def cluster_failures(run: str, again: str) -> Iterator[None]:
    """Tell apart what the cluster did from what the experiment did, while a run is under way."""
    from bcrit.tuner.cluster import ClusterError, NotStarted

    tell("run", run)
    tell("again", again)
    try:
        yield
    except ClusterError as error:
        say(Screen(stderr=True), f"{error}; {remedy()}")
        raise typer.Exit(NOT_STARTED if isinstance(error, NotStarted) else CLUSTER_FAILED) from error


def _end_orphans() -> None:
    """End what the child left running: some of Ray's processes wait a minute for the head that died with it."""
    while True:
        end_below(os.getpid())
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
    die_with_parent(signal.SIGTERM)  # it still takes Ray's processes with it
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(1)
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    sys.stdout, sys.stderr = _Ours(os.dup(1), log), _Ours(os.dup(2), log)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)


def _end_after(parent: int) -> None:
    """End this process soon after the one that watches it: where Ray hangs, SIGTERM alone does not."""
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(_GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _cause(log: Path, status: int) -> str:
    """Why the child ended without a word."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:  # never Ray's own doing
        return "the run was killed by SIGKILL, as the system does when memory runs out"
    text = log.read_text(errors="replace")
    for words, cause in _CAUSES.items():
        if words in text:
            return cause
    return f"the run ended in the middle, with exit code {os.waitstatus_to_exitcode(status)}"
