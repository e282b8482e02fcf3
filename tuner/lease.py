"""Who runs an experiment: one process at a time, also where the run folder lies on an object store.

On one machine the operating system decides, by a lock on a file that it lets go of when the process ends, however it
ends: in a local run folder, and for any other run in the user's cache, beside the log. A process whose parent is gone
is ending (`bcrit.supervise`), so whoever finds it at the run waits for that.

Between machines a lease in the run folder decides. Stores that pyarrow reaches have no conditional write in common, but
they are consistent: who lists after a write sees it. So whoever wants the run first writes an object of its own, a
*candidate*, and then lists. Of two who both write before they list, the later writer sees the earlier one: they cannot
both find themselves alone. Who finds another living candidate takes its own away. A candidate lives as long as its
object was written less than `_STALE` seconds before one's own, by the store's clock; who holds the run writes it again
every `_BEAT` seconds.

A holder that could not do so for `_SURE` seconds (of its own clock, since before the last write began, sleep of the
machine counted) may have been taken for dead, so it must not write to the run any more (`Lease.check`) until it has
made sure: it writes its candidate, sees no other alive, and finds itself in the object that every holder writes before
it does anything else. So an outage of the store ends nothing, and nobody who came in between is overlooked.
Who finds a holder that is silent waits for its next beat before giving up, or for its death: on a cluster of one user
the other is more often a driver whose machine is gone than one that works.

A write that was on its way when the holder stopped being sure may still arrive; such a row has a part of its own and
`bcrit repair` sets it aside.
"""

import contextlib
import fcntl
import getpass
import json
import math
import os
import random
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TextIO

from pyarrow import fs

from bcrit.analysis.records.run_folder import LEASE, LOCK, RunFolder
from bcrit.analysis.records.storage import patiently
from bcrit.search_spaces.problems import InputError, printable

# Chosen: a driver that dies keeps other machines out for a minute, and one whose network falters for half a minute
# does not even have to make sure.
_BEAT, _SURE, _STALE = 10.0, 40.0, 60.0
# A little more than what `bcrit.supervise` gives a driver to end once the process that watched it was killed.
_ENDING = 15.0
# Two who come at the same moment both step back; so often they try again before the run counts as taken. Chosen.
_TRIES, _PAUSE = 4, (0.2, 1.5)
_HOLDER = f"{LEASE}/holder"


class LeaseLost(RuntimeError):
    """Another process has taken the run over; this one must not write to it any more."""


@dataclass(frozen=True)
class Holder:
    """Who holds a run, or wants to."""

    host: str  # name of the machine
    user: str  # of the process
    pid: int  # the process
    since: str  # when it began, in UTC
    log: str  # name of the lock on its machine; two that share it cannot both be alive
    boot: str  # which start of its machine this is
    token: str  # that no other process has
    parent: int = 0  # the process that began it

    def __str__(self) -> str:
        return f"{self.user} on {self.host} (process {self.pid}, since {self.since})"

    @property
    def orphaned(self) -> bool:
        """Whether it outlives its parent on this machine; False where that cannot be seen."""
        try:
            parent = int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        return self.boot == _boot() and parent != self.parent


class Lease:
    """The right to write to a run, as long as `check` does not raise; `me` has the lock of its machine."""

    def __init__(self, folder: RunFolder, me: Holder) -> None:
        self._folder, self._patience, self._me = replace(folder, patience=0.0), folder.patience, me
        self._name = f"{LEASE}/{me.token}.json"
        self._sure_since: float | None = None  # None = for ever: a local folder, where the lock is enough
        self._lost: LeaseLost | None = None
        self._end = threading.Event()

    def check(self) -> None:
        """Return where this process may write to the run at this moment.

        LeaseLost: somebody else has taken it over. TimeoutError: it is not sure at the moment; the store is away, and
        this may pass.
        """
        if self._lost is not None:
            raise self._lost
        if self._sure_since is not None and _now() - self._sure_since > _SURE:
            raise TimeoutError(f"{self._folder} could not be reached for {_now() - self._sure_since:.0f} s")

    def acquire(self) -> None:
        """Take the run; where its holder gives no sign of life, wait until it counts as dead.

        That somebody else holds it, or that writing there is not possible, is an InputError.
        """
        try:
            other = patiently(self._take, self._patience)
            if other is not None and patiently(partial(self._falls_silent, *other), self._patience):
                other = patiently(self._take, self._patience)
        except OSError as error:
            raise InputError(str(self._folder), [f"the run folder cannot be written: {error}"]) from error
        if other is not None:
            raise InputError(str(self._folder), [_refusal(other[1])])

    def _take(self) -> tuple[str, Holder | None] | None:
        """Try to take the run; whose candidate was in the way, or None."""
        other: tuple[str, Holder | None] | None = None
        for turn in range(_TRIES):
            begun = _now()
            self._write(self._name)
            others = self._others()
            other = next(((name, who) for name, (who, living) in others.items() if living), None)
            if other is None:
                self._write(_HOLDER)
                if _now() - begun < _SURE:
                    self._sure_since = begun
                    for name in others:  # of processes that are dead
                        self._remove(name)
                    return None
            self._remove(self._name)
            if turn < _TRIES - 1:
                self._end.wait(random.uniform(*_PAUSE))
        return other or (self._name, None)

    def _falls_silent(self, name: str, who: Holder | None) -> bool:
        """Wait for another to write its candidate again, as the living do; whether it did not until it counts as dead.

        So a driver that died keeps nobody out who is ready to wait for a minute, and one that lives is known by its
        next sign of life.
        """
        path, until, told = self._folder.path(name), _now() + _STALE, _now() + 2 * _BEAT
        written = self._folder.filesystem.get_file_info(path).mtime
        while written is not None and _now() < until:
            self._end.wait(_BEAT / 20)
            seen = self._folder.filesystem.get_file_info(path).mtime
            if seen is not None and seen != written:
                return False
            if _now() > told:
                told = math.inf
                said = f"{self._folder} is held by {who}, who may be dead; waiting for {_STALE:.0f} s"
                print(printable(said), file=sys.stderr)
            written = seen
        return True

    def keep(self) -> None:
        """Write the candidate again and again until `release`."""
        while not self._end.wait(_BEAT):
            try:
                self._beat()
            except OSError:
                continue  # the store is away; `check` knows for how long
            except LeaseLost as lost:
                self._lost = lost
                return

    def release(self) -> None:
        """Let go of the run."""
        self._end.set()
        if self._lost is None:
            # Where the store is away the candidate stays, and counts for another minute.
            with contextlib.suppress(OSError):
                self._remove(self._name)

    def _beat(self) -> None:
        """Write the candidate again, and make sure where that came late; LeaseLost: somebody else came in between."""
        begun = _now()
        assert self._sure_since is not None
        self._write(self._name)
        # The time of the answer counts: a write that arrived in time was seen by whoever might have come.
        if (away := _now() - self._sure_since) > _SURE:
            alive = any(living for _, living in self._others().values())
            last = self._who(_HOLDER)
            if alive or last != self._me:
                self._remove(self._name)
                by = f": {last}" if last not in {None, self._me} else ""
                raise LeaseLost(f"it could not be reached for {away:.0f} s, and another process took the run over{by}")
            if _now() - begun > _SURE:
                return  # that took so long that it says nothing; the next beat makes sure
        self._sure_since = begun

    def _write(self, name: str) -> None:
        self._folder.write_bytes(name, json.dumps(asdict(self._me)).encode(), patience=0)

    def _others(self) -> dict[str, tuple[Holder | None, bool]]:
        """The other candidates: who they are, and whether they are alive.

        Where our own is gone, whoever took it away counts, since only a holder takes others' away.
        """
        listed = self._folder.filesystem.get_file_info(fs.FileSelector(self._folder.path(LEASE), allow_not_found=True))
        found = {f"{LEASE}/{info.base_name}": info.mtime for info in listed if info.base_name.endswith(".json")}
        if self._name not in found:
            return {self._name: (None, True)}
        own = found.pop(self._name)
        others: dict[str, tuple[Holder | None, bool]] = {}
        for name, written in found.items():
            who = self._who(name)
            living = (own - written).total_seconds() < _STALE
            if who is not None and (who.log, who.boot) == (self._me.log, self._me.boot):
                living = False  # it had the lock that this process has now
            others[name] = (who, living)
        return others

    def _who(self, name: str) -> Holder | None:
        try:
            return _parsed(self._folder.read_bytes(name).decode())
        except FileNotFoundError:
            return None  # it was taken away since it was listed

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._folder.filesystem.delete_file(self._folder.path(name))


@contextmanager
def held(folder: RunFolder) -> Iterator[Lease]:
    """Hold a run, whose folder is made where it is local, for this process; gives what says whether it still does.

    That another process holds it, which is named, is an InputError.
    """
    path = Path(folder.path(LOCK)) if folder.is_local else folder.log_home / "lock"
    with _locked(folder, path) as me:
        lease = Lease(folder, me)
        if folder.is_local:
            yield lease
            return
        lease.acquire()
        keeper = threading.Thread(target=lease.keep, name="bcrit-lease", daemon=True)
        keeper.start()
        try:
            yield lease
        finally:
            lease.release()
            keeper.join()


@contextmanager
def _locked(folder: RunFolder, path: Path) -> Iterator[Holder]:
    """Lock a file of this machine and write into it who did; that another process has it is an InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise InputError(str(folder), [f"{path} cannot be written: {error}"]) from error
    with lock:
        before, until = _written(lock), math.inf
        while not _locks(lock):
            before = _written(lock)
            if before is None or not before.orphaned or _now() > until:
                raise InputError(str(folder), [_refusal(before)])
            if until == math.inf:
                until = _now() + _ENDING
                said = f"{folder} is held by {before}, which is ending; waiting for up to {_ENDING:.0f} s"
                print(printable(said), file=sys.stderr)
            time.sleep(0.1)
        if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
            # Its holder took it away between opening and locking, since nothing was begun here.
            raise InputError(str(folder), [_refusal(None)])
        me = Holder(
            host=socket.gethostname(),
            user=_user(),
            pid=os.getpid(),
            since=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            log=before.log if before else uuid.uuid4().hex,
            boot=_boot(),
            token=uuid.uuid4().hex,
            parent=os.getppid(),
        )
        lock.truncate(0)
        lock.write(json.dumps(asdict(me)) + "\n")
        lock.flush()
        yield me


def _locks(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refusal(who: Holder | None) -> str:
    if who is None:
        return "another process is running this experiment; wait for it, or stop it first"
    return f"another process is running this experiment: {who}; wait for it, or stop it first"


def _written(lock: TextIO) -> Holder | None:
    lock.seek(0)
    return _parsed(lock.read())


def _parsed(text: str) -> Holder | None:
    """Who it was; None for the empty lock of an older version, or one that is just being written."""
    try:
        told = json.loads(text)
        return Holder(**{field.name: told[field.name] for field in fields(Holder) if field.name in told})
    except (ValueError, KeyError, TypeError):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return f"user {os.getuid()}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _now() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
