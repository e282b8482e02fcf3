"""What a driver tells of itself, when it keeps silent, and when a bound is reached; the clock is the test's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import STATUS, RunFolder
from bcrit.analysis.studies.driver import Driver
from bcrit.search_spaces.resources import Resources
from bcrit.tuner.lease import LeaseLost
from bcrit.tuner.ledger import Ledger
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.pulse import UNBOUNDED, Bounds, Pulse
from bcrit.tuner.scheduler import WorkerScheduler, _Worker
from tests.simulate import scripted


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder.at(tmp_path / "run")
    found.write_experiment(scripted())
    return found


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass on the clock that spend is counted by."""
    passed = [0.0]

    def let(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr("bcrit.tuner.pulse.time.monotonic", lambda: passed[0])
    return let


def scheduler(folder: RunFolder, workers: int, fence: Any = None) -> WorkerScheduler:
    """One with so many workers that are ready, of which one is at a trial."""
    spec = scripted()
    ledger = Ledger(folder, spec.target.metric, fence)
    found = WorkerScheduler(protocol_of(spec), spec.target, ledger, dict, lambda scheduler: None)
    for number in range(workers):
        found._workers[str(number)] = _Worker(trial=None, node="n1")  # type: ignore[arg-type]
    found.nodes.came_up("n1", "gpu-1", None)
    proposal = found._dispatcher.take()
    if workers:
        found._workers["0"].proposal, found._workers["0"].step = proposal, 70
    return found


def test_a_driver_tells_what_runs_where_and_how_it_ended(folder: RunFolder) -> None:
    with Pulse(scheduler(folder, workers=2), Resources(gpus=4), UNBOUNDED) as pulse:
        told = pulse._now()
        assert (told.workers, told.devices, told.running[0].host, told.running[0].step) == (2, 4, "gpu-1", 70)
    found = Driver.of(folder)
    assert found is not None and found.ended == "as it was told to" and found.running == () and not found.alive
    with pytest.raises(RuntimeError), Pulse(scheduler(folder, workers=1), Resources(), UNBOUNDED):
        raise RuntimeError("no disk")
    found = Driver.of(folder)
    assert found is not None and (found.ended, found.error) == ("by an error", "RuntimeError: no disk")


def test_it_tells_as_soon_as_it_begins(folder: RunFolder) -> None:
    with Pulse(scheduler(folder, workers=1), Resources(), UNBOUNDED):
        until = time.time() + 30
        while not folder.has(STATUS):
            assert time.time() < until
        found = Driver.of(folder)
        assert found is not None and found.alive and found.running[0].batch_size == 8


def test_spend_is_that_of_all_workers_and_sessions(folder: RunFolder, later: Callable[[float], None]) -> None:
    for spent in (200.0, 400.0):
        with Pulse(scheduler(folder, workers=2), Resources(), Bounds(price=9.0)) as pulse:
            pulse._now()  # its workers are ready
            later(100)
        found = Driver.of(folder)
        assert found is not None and found.held_seconds == spent and found.price == 9


def test_spend_counts_the_devices_that_workers_had_when_they_had_them(
    folder: RunFolder, later: Callable[[float], None]
) -> None:
    with Pulse(scheduler(folder, workers=4), Resources(), UNBOUNDED) as pulse:
        pulse._now()
        later(3600)
        pulse.turn_to(scheduler(folder, workers=2), Resources(gpus=8))
        assert pulse._now().device_hours == 4 and pulse._now().devices == 8
        later(3600)
    found = Driver.of(folder)
    assert found is not None and found.device_hours == 4 + 2 * 8
    with Pulse(scheduler(folder, workers=1), Resources(), UNBOUNDED) as pulse:
        assert pulse._now().device_hours == 20, "another session goes on from there"


def test_the_bound_in_money_is_that_of_the_whole_run(folder: RunFolder, later: Callable[[float], None]) -> None:
    for bound, hours in ((2.0, 2), (3.0, 1)):  # one worker at 1 a device-hour; the second session has one hour left
        with Pulse(scheduler(folder, workers=1), Resources(), Bounds(cost=bound, price=1.0)) as pulse:
            pulse._now()
            for _ in range(hours):
                assert not pulse.due()
                later(3600)
            assert pulse.due() and str(pulse.reached).startswith(f"--max-cost {bound:g} (")
        found = Driver.of(folder)
        assert found is not None and str(found.ended).startswith(f"at its bound, --max-cost {bound:g}")


def test_the_bound_in_time_is_said_as_the_user_gave_it(folder: RunFolder) -> None:
    with Pulse(scheduler(folder, 0), Resources(), Bounds(until=time.time() + 3600, said="--max-hours 1")) as pulse:
        assert not pulse.due() and pulse.reached is None
    with Pulse(scheduler(folder, 0), Resources(), Bounds(until=time.time(), said="--until 06:00")) as pulse:
        assert pulse.due() and pulse.reached == "--until 06:00"


@pytest.mark.parametrize("error", [LeaseLost("taken over"), TimeoutError("away")], ids=["lost", "away"])
def test_a_driver_that_may_not_write_says_nothing_and_goes_on(folder: RunFolder, error: Exception) -> None:
    class Fence:
        def check(self) -> None:
            raise error

    with Pulse(scheduler(folder, 1, Fence()), Resources(), UNBOUNDED) as pulse:
        assert not pulse.due()
    assert not folder.has(STATUS)
