"""How a run stands, from its tables and from what its driver told last: read by people, programs and the page."""

import json
import platform
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import STATUS, RunFolder
from bcrit.analysis.report.build import build_report
from bcrit.analysis.run import Run
from bcrit.analysis.studies.driver import SILENT, Driver, Running, SetAside, processes, seconds_left
from bcrit.analysis.studies.state import Progress, StudyProgress
from bcrit.search_spaces.outcome import Stage
from tests.analysis.folders import Made, experiment, write_run
from tests.bcrit.command import bcrit, refused

SIZES = (8, 32)
REACHED, MISSED = [(1, 10.0), (100, 0.5)], [(1, 10.0), (100, 5.0)]
DRIVER = Driver("gpu-1", 42, since=0.0, told=0.0, workers=2, devices=4.0, held_seconds=900.0, price=2.5)
FLIGHT = Running("b8-search-3", 8, "search", "gpu-2", step=1200, max_steps=4000, since=0.0)


def run(path: Path, *trials: Made, driver: Driver | None = None, ago: float = 0.0, wanted: int = 4) -> Run:
    """A run whose driver told something so long ago."""
    spec = experiment(SIZES, search={"protocol": "sobol", "trials": wanted}, confirm={"points": 1, "seeds": 2})
    folder = write_run(path / "run", spec, {f"t{n}": trial for n, trial in enumerate(trials)})
    if driver is not None:
        now = time.time() - ago
        flight = tuple(replace(trial, since=now - 30) for trial in driver.running)
        folder.write_result(STATUS, replace(driver, since=now - 100, told=now, running=flight))
    return Run(folder)


SOME = [Made(8, REACHED), Made(8, MISSED), Made(32, REACHED)]
WHOLE = [
    *(Made(size, REACHED) for size in SIZES),
    *(Made(size, REACHED, repeats=f"t{n}") for n, size in enumerate(SIZES) for _ in range(2)),
]


@pytest.mark.parametrize(
    ("state", "ended", "ago", "says", "code"),
    [
        ("running", None, 1.0, "Running on gpu-1: 3 of about 12 trials have finished, 1 is training on 2 workers.", 0),
        ("silent", None, SILENT + 60, "No sign of life for 1.5", 1),
        ("stopped", "as it was told to", 3600.0, "Stopped 1 h ago (as it was told to): 3 of about 12 trials", 1),
        ("stopped", "by an error", 3600.0, "Stopped 1 h ago (by an error)", 1),
    ],
)
def test_a_run_that_is_not_complete_runs_or_was_stopped_or_is_silent(
    tmp_path: Path, state: str, ended: str | None, ago: float, says: str, code: int
) -> None:
    found = run(tmp_path, *SOME, driver=replace(DRIVER, ended=ended, running=(FLIGHT,)), ago=ago)
    answer = found.ask("status")
    assert answer.facts["state"] == state and answer.sentences[0].startswith(says)
    assert answer.yes == (code == 0) and ("`bcrit resume" in answer.sentences[0]) == (code == 1)
    assert answer.on_page and says[:16] in build_report(Run(found.folder))
    told = bcrit("status", found.folder, "--json")
    assert told.returncode == code and json.loads(told.stdout)["state"] == state
    shown = bcrit("status", found.folder)
    assert shown.returncode == code and ("b8-search-3" in shown.stdout) == (state == "running")


def test_a_run_without_a_worker_yet_says_that_they_are_starting(tmp_path: Path) -> None:
    found = run(tmp_path, *SOME, driver=replace(DRIVER, workers=0), ago=1.0).ask("status")
    assert found.sentences[0] == "Running on gpu-1: 3 of about 12 trials have finished, its workers are starting."


def test_what_was_spent_and_what_is_left_are_counted_in_devices_and_money(tmp_path: Path) -> None:
    found = run(tmp_path, *SOME, driver=DRIVER, ago=1.0).ask("status")
    assert found.sentences[1] == "Spent so far: 1 h of devices, 2.5 at 2.5 a device-hour."  # 900 s of 4 devices
    assert found.facts["cost"] == 2.5
    left = "About 9 trials are left: the search at every batch size and re-runs on fresh seeds at every batch size."
    assert found.sentences[2] == left
    assert run(tmp_path / "other", *SOME, driver=DRIVER).ask("status", price=10.0).facts["cost"] == 10
    without = run(tmp_path / "none", *SOME, driver=replace(DRIVER, price=None)).ask("status")
    assert without.sentences[1] == "Spent so far: 1 h of devices." and without.facts["cost"] is None


def test_without_a_word_of_its_driver_a_run_is_known_by_its_tables(tmp_path: Path) -> None:
    answer = run(tmp_path, *SOME).ask("status")
    assert answer.facts["state"] == "silent" and answer.facts["seconds_left"] is None and not answer.on_page
    assert answer.sentences[0].startswith("Not running, as far as is known: 3 of about 12 trials have finished")
    begun = run(tmp_path / "begun", driver=DRIVER)
    assert begun.ask("status").facts["finished"] == 0 and begun.ask("status").facts["expected"] == 12
    assert "No trial has finished yet." in build_report(Run(begun.folder))
    assert bcrit("status", begun.folder).returncode == 0


def test_a_complete_run_says_so_and_its_page_has_no_state(tmp_path: Path) -> None:
    done = run(tmp_path, *WHOLE, driver=replace(DRIVER, ended="as it was told to"), wanted=1)
    answer = done.ask("status")
    assert answer.facts["state"] == "complete" and answer.yes and not answer.on_page
    assert answer.sentences[0] == "Complete: all 6 trials have finished."
    assert not any("left" in said for said in answer.sentences)
    assert "State of the run" not in build_report(Run(done.folder))
    assert bcrit("status", done.folder, "--watch", "--json").stdout.count("\n") == 1  # a line, and nothing to wait for


def test_nodes_that_are_not_used_and_the_last_error_are_said(tmp_path: Path) -> None:
    aside = replace(DRIVER, set_aside=(SetAside("gpu-3", "no disk"),))
    said = run(tmp_path, *SOME, Made(8, [(0, 1.0)], "failed"), driver=aside).ask("status").sentences
    assert said[-2:] == ("gpu-3 is not used any more: no disk.", "What went wrong last: t3 ended as 'failed'.")
    broken = replace(DRIVER, ended="by an error", error="OSError: away.")
    assert (
        run(tmp_path / "b", *SOME, driver=broken).ask("status").sentences[-1] == "What went wrong last: OSError: away."
    )


def studies(*counts: tuple[int, int, int, int], seconds: float = 10.0) -> Progress:
    """Of each: searched, to search, re-run, to re-run; every search trial took so long, every re-run twice that."""
    made = [
        StudyProgress(2**n, a, b, c, d, None, {Stage.SEARCH: a * seconds, Stage.CONFIRM: 2 * c * seconds})
        for n, (a, b, c, d) in enumerate(counts)
    ]
    return Progress(tuple(made), {})


def test_what_is_left_takes_as_long_as_its_like_took() -> None:
    assert studies((0, 4, 0, 2)).seconds_left() is None
    assert studies((4, 4, 2, 2)).seconds_left() == 0 and studies((4, 4, 2, 2)).complete
    assert studies((2, 4, 1, 3)).seconds_left() == 2 * 10 + 2 * 20
    assert studies((2, 4, 0, 1)).seconds_left() == 2 * 10 + 10  # a re-run: as a trial of its study
    assert studies((4, 4, 2, 2), (0, 4, 0, 2)).seconds_left() == 4 * 10 + 2 * 20  # as its stage elsewhere


def test_the_rest_takes_the_workers_as_they_were_used_so_far() -> None:
    half = studies((5, 10, 0, 0))  # 50 s of a worker are left
    assert seconds_left(half, spent=50, flight=0, elapsed=50, workers=2) == 50  # one of two was busy
    assert seconds_left(half, spent=50, flight=50, elapsed=50, workers=2) == 0  # as much is in flight
    assert seconds_left(half, spent=30, flight=0, elapsed=50, workers=2) == 83  # 83.3: an estimate is not that precise
    assert seconds_left(half, spent=40, flight=10, elapsed=25, workers=2) == pytest.approx(20)
    assert seconds_left(half, spent=0, flight=10, elapsed=25, workers=2) is None
    early = studies((1, 10, 0, 0))  # the first trials are the shortest
    assert seconds_left(early, spent=10, flight=0, elapsed=10, workers=1) is None


def test_a_driver_of_this_machine_whose_process_is_gone_does_not_run(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "600"])
    here = replace(DRIVER, host=platform.node(), pid=process.pid, among=processes())
    assert run(tmp_path / "before", *SOME, driver=here).ask("status").facts["state"] == "running"
    process.kill()
    process.wait()
    said = run(tmp_path / "after", *SOME, driver=here).ask("status")
    assert said.facts["state"] == "silent" and not said.yes
    assert said.sentences[0].startswith(f"Killed: process {process.pid} on {platform.node()} is gone. So far 3 of")
    for elsewhere in (replace(here, host="gpu-1"), replace(here, among="pid:[1]"), replace(here, among="")):
        assert run(tmp_path / str(id(elsewhere)), *SOME, driver=elsewhere).ask("status").facts["state"] == "running"


def test_an_imported_run_and_a_place_without_a_run_are_refused(tmp_path: Path) -> None:
    assert "not a run folder" in refused(bcrit("status", tmp_path))
    assert "not a run folder" in refused(bcrit("watch", tmp_path))
    spec = experiment(SIZES, imported={"format": "table", "source": "t.csv"})
    RunFolder.at(tmp_path / "there").write_experiment(spec)
    assert "was imported" in refused(bcrit("status", tmp_path / "there"))
