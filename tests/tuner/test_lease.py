"""Who holds a run: on one machine, between machines, after a death, through an outage."""

import fcntl
import getpass
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from bcrit.analysis.records.run_folder import LEASE, LOCK, RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.tuner import lease as lease_module
from bcrit.tuner.lease import Holder, Lease, LeaseLost, held
from tests.google_store import GoogleStore
from tests.object_store import ObjectStore

HOLD = """
import sys, time
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.tuner.lease import held
with held(RunFolder.at(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on this process is as if on another machine: it shares no lock with what it was before."""
    return lambda: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))


def somebody(name: str) -> Holder:
    return Holder(f"host-{name}", "user", 1, "now", f"log-{name}", "boot", name)


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_sure(lease: Lease) -> bool:
    try:
        lease.check()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_on_one_machine_a_second_process_is_refused_and_told_whose_the_run_is(
    kind: str, tmp_path: Path, store: ObjectStore
) -> None:
    folder = RunFolder.at(tmp_path / "run") if kind == "local" else store.folder("one-machine")
    me = rf"{getpass.getuser()} on {socket.gethostname()} \(process {os.getpid()}, since 20.* UTC\)"
    with held(folder) as lease:
        lease.check()
        with (
            pytest.raises(InputError, match=rf"another process is running this experiment: {me}; wait for it"),
            held(folder),
        ):
            pass
        lease.check()
    with held(folder):
        pass


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_process_that_was_killed_leaves_the_run_free_for_its_machine(
    kind: str, tmp_path: Path, store: ObjectStore
) -> None:
    folder = RunFolder.at(tmp_path / "run") if kind == "local" else store.folder("killed")
    command = [sys.executable, "-c", HOLD, str(folder)]
    child = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"process {child.pid}, "), held(folder):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with held(folder) as lease:
        lease.check()
    assert not folder.occupied()  # what a lease leaves is not taken for a run


def test_a_process_whose_parent_was_killed_is_ending_and_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.at(tmp_path / "run")
    words = ["sh", "-c", '"$@" & echo $!; wait', "sh", sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"process {pid}, "), held(folder):
            pass
        assert capsys.readouterr().err == ""
        parent.kill()
        parent.wait()
        monkeypatch.setattr(lease_module, "_ENDING", 0.5)
        with pytest.raises(InputError, match=rf"process {pid}, "), held(folder):  # it does not end after all
            pass
        monkeypatch.setattr(lease_module, "_ENDING", 60.0)
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        with held(folder) as lease:
            lease.check()
    assert "which is ending; waiting for up to 60 s" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said() -> None:
    with pytest.raises(InputError, match=r"/proc/x/run/\S+ cannot be written"), held(RunFolder.at("/proc/x/run")):
        pass


def test_an_empty_lock_of_an_older_version_is_respected(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    with open(folder.path(LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is running this experiment; wait"), held(folder):
            pass


def test_a_lock_file_that_its_holder_took_away_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, lock = RunFolder.at(tmp_path), fcntl.flock

    def lock_late(file: TextIO, how: int) -> None:
        Path(folder.path(LOCK)).unlink()  # by a process that could not begin its run
        lock(file, how)

    monkeypatch.setattr("bcrit.tuner.lease.fcntl.flock", lock_late)
    with pytest.raises(InputError, match="another process is running this experiment"), held(folder):
        pass
    monkeypatch.setattr("bcrit.tuner.lease.fcntl.flock", lock)
    with held(folder):
        pass


def test_another_machine_is_refused_at_the_next_sign_of_life(
    store: ObjectStore, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.folder("two-machines")
    monkeypatch.setattr(lease_module, "_BEAT", 1.5)  # moto counts in whole seconds
    with held(folder):
        elsewhere()
        with pytest.raises(InputError, match=r"another process is running this experiment: .*process "), held(folder):
            pass
    with held(folder) as lease:
        lease.check()


def test_a_machine_that_is_gone_holds_its_run_for_a_minute_of_the_stores_clock(
    any_store: ObjectStore | GoogleStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = any_store.folder("gone")
    for name, value in (("_STALE", 4.0), ("_TRIES", 1), ("_BEAT", 0.5)):
        monkeypatch.setattr(lease_module, name, value)
    gone = Lease(folder, somebody("gone"))
    gone.acquire()
    begun = time.monotonic()
    Lease(folder, somebody("next")).acquire()
    assert time.monotonic() - begun > 4.0
    assert "held by user on host-gone (process 1, since now), who may be dead; waiting" in capsys.readouterr().err
    assert gone._name not in folder_names(folder)


def folder_names(folder: RunFolder) -> set[str]:
    from pyarrow import fs

    listed = folder.filesystem.get_file_info(fs.FileSelector(folder.path(LEASE)))
    return {f"{LEASE}/{info.base_name}" for info in listed}


def test_of_many_who_come_at_once_at_most_one_gets_the_run(
    any_store: ObjectStore | GoogleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_PAUSE", (0.0, 0.5))
    monkeypatch.setattr(Lease, "_falls_silent", lambda *given: False)  # here nobody writes a second time
    winners = []
    for turn in range(4):
        folder, got = any_store.folder(f"race-{turn}"), list[str]()
        begin = threading.Barrier(4)

        def compete(name: str, folder: RunFolder = folder, got: list[str] = got, at: threading.Barrier = begin) -> None:
            at.wait()
            try:
                Lease(folder, somebody(name)).acquire()
                got.append(name)
            except InputError:
                return

        threads = [threading.Thread(target=compete, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) <= 1
        winners += got
    assert winners  # the random waits let somebody through


def test_an_outage_stops_writing_and_then_goes_on(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folder("outage")
    for name, seconds in (("_BEAT", 0.2), ("_SURE", 1.0)):
        monkeypatch.setattr(lease_module, name, seconds)
    with held(folder) as lease:
        lease.check()
        store.away()
        wait_for(lambda: not is_sure(lease))
        store.back()
        wait_for(lambda: is_sure(lease))


def test_who_comes_back_after_somebody_else_had_the_run_has_lost_it(
    any_store: ObjectStore | GoogleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = any_store.folder("overtaken")
    away = Lease(folder, somebody("away"))
    away.acquire()
    clock = lease_module._now
    monkeypatch.setattr(lease_module, "_STALE", 0.0)  # the other sees a candidate of long ago
    other = Lease(folder, somebody("other"))
    other.acquire()
    other.release()  # it has gone again, but it may have written rows
    monkeypatch.setattr(lease_module, "_now", lambda: clock() + 100)
    with pytest.raises(TimeoutError, match=r"could not be reached for 1\d\d s"):
        away.check()
    monkeypatch.setattr(lease_module, "_BEAT", 0.01)
    away.keep()
    for _ in range(2):
        with pytest.raises(LeaseLost, match="another process took the run over"):
            away.check()
    assert away._name not in folder_names(folder)


def test_a_write_that_took_too_long_proves_nothing(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folder("slow")
    slow = Lease(folder, somebody("slow"))
    slow.acquire()
    clock, write = lease_module._now, Lease._write

    def write_late(lease: Lease, name: str) -> None:
        """It was begun in time, and arrived when another had found nobody alive."""
        write(lease, name)
        monkeypatch.setattr(lease_module, "_STALE", 0.0)
        Lease(folder, somebody("other")).acquire()
        monkeypatch.setattr(lease_module, "_STALE", 60.0)
        monkeypatch.setattr(lease_module, "_now", lambda: clock() + 70)

    monkeypatch.setattr(Lease, "_write", lambda lease, name: (write_late if lease is slow else write)(lease, name))
    with pytest.raises(LeaseLost, match="user on host-other"):
        slow._beat()


def test_a_user_without_a_name_can_hold_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("bcrit.tuner.lease.getpass.getuser", nobody)
    folder = RunFolder.at(tmp_path)
    with held(folder), pytest.raises(InputError, match=rf"user {os.getuid()} on "), held(folder):
        pass
