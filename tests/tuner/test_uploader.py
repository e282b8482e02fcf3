"""From the log to the folder: kills at any moment, a store that is away, a run that was lost to somebody else."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner import uploader
from bcrit.tuner.lease import LeaseLost
from bcrit.tuner.ledger import Ledger, trial_row
from bcrit.tuner.session import run
from bcrit.tuner.uploader import DeliveryError
from tests.alike import assert_alike, tables
from tests.google_store import GoogleStore
from tests.object_store import ObjectStore
from tests.tuner.stages.small import filled
from tests.tuner.test_ledger import EXPERIMENT, ending, finish, in_parts, measurements, proposal

ROOT = Path(__file__).parents[2]
N_TRIALS = 30
# Imports once, and then is a new driver for every line that it reads.
DRIVERS = """
import os, sys, time
from bcrit.analysis.records.run_folder import RunFolder
from tests.tuner.test_ledger import EXPERIMENT, ending, measurements, proposal
from bcrit.tuner import uploader
from bcrit.tuner.lease import held
from bcrit.tuner.ledger import Ledger, trial_row

def drive(folder, n_trials):
    uploader._DELIVER_SECONDS = 0.05
    with held(folder) as lease:
        ledger = Ledger.open(folder, EXPERIMENT, lease)
        known = {record.number for records in ledger.records.values() for record in records}
        print(os.getpid(), *sorted(known), flush=True)
        for number in range(n_trials):
            if number not in known:
                for first in range(0, 30, 5):  # as a trial reports: a few rows at a time
                    ledger.measured(measurements(number, range(first, first + 5)))
                ledger.finished(trial_row(proposal(number), ending(29)))
                print(number, flush=True)
                time.sleep(0.01)
        ledger.close()

for _ in sys.stdin:
    if not os.fork():
        drive(RunFolder.at(sys.argv[1]), int(sys.argv[2]))
        sys.exit()
    print("killed" if os.wait()[1] else "closed", flush=True)
"""


def rows(folder: RunFolder) -> tuple[list[int], dict[str, list[int]]]:
    """Numbers of the finished trials, and the steps of each trial, as a reader finds them; both tables are valid."""
    numbers = sorted(folder.read(TRIALS)["number"].to_pylist())
    steps: dict[str, list[int]] = {}
    for row in folder.read(MEASUREMENTS).select(["trial_id", "step"]).to_pylist():
        steps.setdefault(row["trial_id"], []).append(row["step"])
    return numbers, steps


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: ObjectStore) -> RunFolder:
    return RunFolder.at(tmp_path / "run") if request.param == "local" else store.folder(tmp_path.name)


def test_a_driver_that_is_killed_again_and_again_loses_nothing_that_ended_and_doubles_nothing(
    folder: RunFolder,
) -> None:
    order, told, kills, end = random.Random(1), set[int](), 0, ""
    command, env = [sys.executable, "-c", DRIVERS, str(folder), str(N_TRIALS)], {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as drivers:
        assert drivers.stdin is not None and drivers.stdout is not None
        while end != "closed":
            drivers.stdin.write("go\n")
            pid, *known = map(int, drivers.stdout.readline().split())
            assert set(known) >= told  # resume knows them all
            until = len(told) + order.randrange(1, 8)
            while (end := drivers.stdout.readline().strip()).isdigit():
                told.add(int(end))
                if len(told) == until:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            numbers, steps = rows(folder)
            assert set(numbers) >= told
            assert all(steps[proposal(number).trial_id] == list(range(30)) for number in numbers)
        drivers.stdin.close()
    assert kills >= 5 and rows(folder)[0] == list(range(N_TRIALS))
    assert in_parts(folder, TRIALS).num_rows == N_TRIALS and in_parts(folder, MEASUREMENTS).num_rows == 30 * N_TRIALS
    assert len(folder.parts(TRIALS)) == len(folder.parts(MEASUREMENTS)) == 1 and not folder.has_log()


def test_a_run_on_s3_takes_one_put_a_table_and_delivery(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 1e6)
    folder = store.folder("requests")
    ledger = Ledger.open(folder, EXPERIMENT)
    finish(ledger, 0)
    ledger.flush()
    with store.counted() as requests:
        for number in range(1, 101):
            finish(ledger, number)
        ledger.flush()
    assert [request.partition("-")[0] for request in requests] == [
        "PUT /bucket/requests/measurements/000001",
        "PUT /bucket/requests/trials/000001",
    ]
    ledger.close()


def test_an_outage_is_not_noticed_by_the_run(
    any_store: ObjectStore | GoogleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 0.01)
    folder = any_store.folder("outage")
    ledger = Ledger.open(folder, EXPERIMENT)
    finish(ledger, 0)
    ledger.flush()
    any_store.away()
    slowest = 0.0
    for number in range(1, 40):
        begun = time.thread_time()
        finish(ledger, number)
        slowest = max(slowest, time.thread_time() - begun)
        time.sleep(0.02)
    assert slowest < 0.5  # the main thread waits for no store
    any_store.back()
    ledger.close()
    assert rows(folder)[0] == list(range(40)) and in_parts(folder, TRIALS).num_rows == 40


def test_a_store_that_stays_away_ends_the_run_with_one_error_and_resume_delivers(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 0.01)
    folder = store.folder("stays-away")
    ledger = Ledger.open(folder, EXPERIMENT)
    finish(ledger, 0)
    ledger.flush()
    monkeypatch.setattr(uploader, "DELIVERY_PATIENCE", 0.5)
    store.away()
    ended, until = 1, time.monotonic() + 60
    with pytest.raises(DeliveryError) as caught:
        while True:
            assert time.monotonic() < until
            ended += 1
            finish(ledger, ended - 1)
            time.sleep(0.05)
    with pytest.raises(DeliveryError, match="cannot be brought to"):
        ledger.close()
    message = str(caught.value)
    assert str(folder) in message and "`bcrit resume s3://" in message
    (log,) = folder.log_home.glob("*/")
    assert str(log) in message
    store.back()
    again = Ledger.open(folder, EXPERIMENT)
    assert again.n_finished >= ended - 1  # all but the trial whose recording raised, before its end or after
    again.close()
    assert in_parts(folder, TRIALS).num_rows == again.n_finished
    assert in_parts(folder, MEASUREMENTS).num_rows == 10 * ended


def test_what_no_waiting_mends_is_raised_at_once(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 1e6)
    ledger = Ledger.open(store.folder("refused"), EXPERIMENT)
    finish(ledger, 0)

    def refuse(*given: object, **more: object) -> None:
        raise OSError("When uploading object: AWS Error ACCESS_DENIED during PutObject operation: no")

    monkeypatch.setattr(RunFolder, "write_table", refuse)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="ACCESS_DENIED"):
        ledger.flush()
    assert time.monotonic() - begun < 10


class Lost:
    """A lease that somebody else took over."""

    def check(self) -> None:
        raise LeaseLost("another process took the run over: user on elsewhere")


def test_who_has_lost_the_run_writes_nothing_more_to_it(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 0.01)
    ledger = Ledger.open(folder, EXPERIMENT, Lost())
    until = time.monotonic() + 60
    with pytest.raises(DeliveryError, match="another process took the run over: user on elsewhere"):
        for number in range(10_000):
            finish(ledger, number)
            assert time.monotonic() < until
            time.sleep(0.01)
    with pytest.raises(DeliveryError, match="took the run over"):
        ledger.close()
    assert not folder.parts(TRIALS) and not folder.parts(MEASUREMENTS)


def test_a_machine_that_comes_back_with_an_old_log_adds_only_what_is_missing(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 1e6)
    folder = store.folder("two-machines")
    here = Ledger.open(folder, EXPERIMENT)
    finish(here, 0)
    here.flush()
    finish(here, 1)
    here.measured(measurements(2, range(6)))  # and here the machine goes down
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    there = Ledger.open(folder, EXPERIMENT)
    assert there.n_finished == 1
    there.measured(measurements(1, range(5)))
    there.finished(trial_row(proposal(1), ending(4)))  # it went on by other rules and ended sooner
    there.measured(measurements(2, range(3)))
    there.close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    again = Ledger.open(folder, EXPERIMENT)
    assert again.n_finished == 2 and again.last_step(proposal(2).trial_id) == 5
    again.close()
    numbers, steps = rows(folder)
    assert numbers == [0, 1] and in_parts(folder, TRIALS).num_rows == 2
    assert [len(steps[proposal(number).trial_id]) for number in range(3)] == [10, 5, 6]


def test_resuming_a_run_whose_last_session_was_killed_at_its_end_delivers_without_ray(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 1e6)
    experiment = parse_experiment({**EXPERIMENT.to_dict(), "workload": "tests.scripted:ExactHyperbola"}, "test")
    folder.write_experiment(experiment)
    finish(Ledger.open(folder, experiment), 0)
    monkeypatch.setattr("bcrit.tuner.protocol.protocol.PerStudyProtocol.next_trial", lambda *given: None)
    result = run(folder, experiment, new=False, address=None, workers=None, watch=lambda dispatcher: None)
    assert result.complete and result.n_trials == 0
    assert in_parts(folder, TRIALS).num_rows == 1 and in_parts(folder, MEASUREMENTS).num_rows == 10
    assert not folder.has_log()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_resume_waits_for_a_store_that_is_away_and_bears_one_that_comes_and_goes(
    store: ObjectStore, tmp_path: Path
) -> None:
    """It reads and takes the run before Ray starts; at every one of these moments the store may be away."""
    given: dict[str, Any] = {"workload": "noisy_quadratic", "batch_sizes": [8, 64], "target": "risk < 0.3"}
    given |= {"space": {"lr": "log from 0.01 to 1", "momentum": 0.9}, "budget": {"steps": 2000}}
    given |= {"boundary": {"max_rounds": 0}}
    given |= {"search": {"trials": 6, "parallel_per_study": 2}, "confirm": {"points": 1, "seeds": 1}}
    experiment = parse_experiment(given, "test")
    expected = filled(tmp_path / "alone", experiment)
    begun = store.folder("waits")
    begun.write_experiment(experiment)
    store.away()
    command = [sys.executable, "-m", "bcrit", "resume", begun.location, "--workers", "1", "--json"]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as resume:
        assert resume.stderr is not None
        assert "does not answer; trying again for 15 minutes" in resume.stderr.readline()
        for _ in range(6):
            answered = len(store.requests)
            store.back()
            while len(store.requests) == answered and resume.poll() is None:
                time.sleep(0.01)
            store.away()
            time.sleep(0.5)
        store.back()
        out, err = resume.communicate(timeout=240)
    assert resume.returncode == 0, err
    assert_alike(tables(expected), begun)
