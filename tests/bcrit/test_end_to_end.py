"""The whole chain as a user runs it: real Ray, real files, real kills."""

import json
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.tables import TRIALS
from tests.alike import Tables, assert_alike, tables
from tests.bcrit.command import ROOT, Done, bcrit, command, process
from tests.object_store import ObjectStore
from tests.processes import below, kill, of_kind
from tests.tuner.stages.small import filled

SCRIPTED = """
name: scripted
workload: {name: tests.scripted:ExactHyperbola, s_min: 100, b_crit: 64}
batch_sizes: [8, 32, 128, 512]
target: loss < 1
space:
  lr: log from 0.001 to 10
  momentum: reverse_log from 0 to 0.99
budget: {steps: 800, examples: 10_000}
search: {trials: 36}
confirm: {points: 1, seeds: 2}
"""
SHORT = SCRIPTED.replace("[8, 32, 128, 512]", "[8, 512]").replace("trials: 36", "trials: 16")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "scripted.yaml"
    path.write_text(SCRIPTED)
    return path


@pytest.fixture(scope="module")
def run(experiment: Path, store: ObjectStore) -> tuple[RunFolder, Done]:
    """On an object store, which is like any other place; the runs below lie on this machine's disk."""
    folder = store.folder("whole")
    return folder, process("tune", experiment, "--out", folder, "--json", "--workers", 1)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment for runs that are disturbed."""
    path = tmp_path_factory.mktemp("short") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="module")
def undisturbed(short: Path) -> Tables:
    """Its trials one after the other in one process, without Ray: where every run of it must end."""
    folder = short.parent / "undisturbed"
    return tables(filled(folder, parse_experiment(read_yaml(SHORT, short.name), short.name)))


def test_an_exact_hyperbola_comes_back_through_the_whole_chain(run: tuple[RunFolder, Done]) -> None:
    folder, done = run
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["fit"]["s_min"] == pytest.approx(100, rel=0.05)
    assert answer["fit"]["b_crit"] == pytest.approx(64, rel=0.08)
    assert answer["fit"]["identified"] == {"s_min": True, "e_min": True, "b_crit": True}
    for study in answer["studies"]:
        exact = 100 * (1 + 64 / study["batch_size"])
        assert exact - 1 <= study["steps"] <= 1.06 * exact
        assert (study["n_seeds"], study["n_reached"], study["source"]) == (2, 2, "confirm")
        assert study["boundary"] == []
        assert sum(study["outcomes"].values()) == study["n_trials"]


def test_the_run_folder_has_what_the_design_promises(run: tuple[RunFolder, Done]) -> None:
    folder, done = run
    promised = ["experiment.yaml", "environment.json", "report.html"]
    promised += [
        f"analysis/{n}" for n in ("steps_to_target.parquet", "boundary.parquet", "fit.json", "recommendation.json")
    ]
    assert all(map(folder.has, promised)) and b"b_crit" in folder.read_bytes("report.html")
    assert f"report: {folder.address('report.html')}" in done.stderr
    assert folder.read_environment()[0]["packages"]["ray"]
    trials, curves = tables(folder)
    assert not trials["trial_id"].duplicated().any() and not curves.duplicated(["trial_id", "step"]).any()
    last = curves.groupby("trial_id")["step"].max()
    assert (trials.set_index("trial_id")["steps"] == last).all()


def test_ray_is_silent_and_progress_goes_to_stderr(run: tuple[RunFolder, Done]) -> None:
    _, done = run
    json.loads(done.stdout)
    assert "trials done" in done.stderr and "steps to loss < 1" in done.stderr
    states = [line.partition("]")[2] for line in done.stderr.splitlines() if "trials done" in line]
    assert " left" not in states[-1] and states.count(states[-1]) == 1  # nothing is, and that is said once
    said = done.stderr.replace("/ray/", "")
    assert not re.search(r"\bray\b|\btune\b|Warning|Traceback", said, flags=re.I), said


def test_the_commands_answer_from_the_folder(run: tuple[RunFolder, Done], tmp_path: Path) -> None:
    folder, done = run
    assert json.loads(bcrit("analyze", folder, "--json").stdout) == json.loads(done.stdout)
    assert "b_crit" in bcrit("analyze", folder).stdout
    advice = json.loads(bcrit("recommend", folder, "--json", "--price-per-device-hour", 2, "--max-steps", 300).stdout)
    assert advice["choices"]["best"]["steps"] <= 300 and advice["binding"] in ("max_steps", None)
    refused = bcrit("recommend", folder, "--json", "--max-steps", 50)
    assert refused.returncode == 1 and json.loads(refused.stdout)["feasible"] is False
    assert bcrit("report", folder).stdout.strip() == folder.address("report.html")
    table = tmp_path / "table.csv"
    table.write_text("batch_size,steps\n8,900\n32,300\n128,150\n512,112.5\n")
    fit = json.loads(bcrit("fit", table, "--json").stdout)
    assert fit["b_crit"] == pytest.approx(64) and fit["s_min"] == pytest.approx(100)


def test_a_run_folder_is_never_overwritten(run: tuple[RunFolder, Done], experiment: Path) -> None:
    folder, _ = run
    done = bcrit("tune", experiment, "--out", folder)
    assert done.returncode == 2 and "never overwritten" in done.stderr


def test_resuming_a_complete_run_runs_nothing(run: tuple[RunFolder, Done]) -> None:
    folder, _ = run
    before = tables(folder)
    done = bcrit("resume", folder)
    assert done.returncode == 0 and "the run was complete; nothing was run" in done.stdout, done.stderr
    for old, new in zip(before, tables(folder), strict=True):
        pd.testing.assert_frame_equal(old, new)


def kill_tree(driver: subprocess.Popen[str]) -> None:
    """SIGKILL the driver and every process below it."""
    for each in below(driver.pid):
        kill(each, signal.SIGKILL)
    driver.wait()


def start(*arguments: object, errors: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, text=True)


def n_finished(folder: Path) -> int:
    """Finished trials, also while the run goes on."""
    return int(RunFolder.at(folder).read(TRIALS).num_rows)


def until(folder: Path, finished: int, driver: subprocess.Popen[str]) -> None:
    """Wait for so many finished trials, or for the end. Looking more often would take the run's own processor time."""
    deadline = time.monotonic() + 150
    while driver.poll() is None and n_finished(folder) < finished and time.monotonic() < deadline:
        time.sleep(0.1)


def killed(folder: Path, short: Path, finished: int, seconds: float) -> bool:
    """SIGKILL of everything so many seconds after so many trials; False where the run was complete before."""
    begun = (folder / "experiment.yaml").exists()
    words = ("resume", folder) if begun else ("tune", short, "--out", folder)
    driver = start(*words, "--workers", 2)
    until(folder, finished, driver)
    try:
        driver.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_tree(driver)
        return True
    return False


@pytest.mark.long
def test_a_run_that_is_killed_thirty_times_ends_where_an_undisturbed_one_does(
    undisturbed: Tables, short: Path, tmp_path: Path
) -> None:
    folder, chance = tmp_path / "killed", random.Random(1)
    moments = [(0, chance.uniform(1.0, 7.0))]  # finished trials, and seconds after them
    moments += sorted((chance.randrange(36), chance.uniform(0.0, 0.3)) for _ in range(30))
    assert all(killed(folder, short, *moment) for moment in moments[:2])
    for moment in moments[2:]:
        if not killed(folder, short, *moment):
            break
    assert process("resume", folder).returncode == 0
    assert_alike(undisturbed, folder)


def test_a_run_that_is_disturbed_in_every_way_ends_where_an_undisturbed_one_does(
    undisturbed: Tables, short: Path, tmp_path: Path
) -> None:
    """One run bears it all, because to start Ray and its workers costs more than its trials.

    A driver is killed in `test_long_trials.py` and `test_cluster.py`, and with all that it started by `make test-long`.
    """
    folder = tmp_path / "disturbed"
    driver = start("tune", short, "--out", folder, "--workers", 1, errors=subprocess.PIPE)
    try:  # it cannot be recorded, and says how to go on
        deadline = time.monotonic() + 150
        while not (folder / "experiment.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        (folder / "trials").touch()  # a file: no part can be written into it
        _, errors = driver.communicate(timeout=120)
    finally:
        kill_tree(driver)
    assert driver.returncode == 3
    assert "a disk or a store fails: " in errors and f"go on with:  bcrit resume {folder}" in errors
    (folder / "trials").unlink()

    driver = start("resume", folder, errors=subprocess.PIPE)
    until(folder, 3, driver)
    kill(of_kind("worker", driver.pid)[-1], signal.SIGKILL)  # which ends nothing
    until(folder, 16, driver)
    driver.send_signal(signal.SIGINT)  # Ctrl-C stops gently
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 130 and f"bcrit resume {folder}" in errors, errors
    assert "Traceback" not in errors and len(tables(folder)[0]) >= 16
    done = bcrit("resume", folder, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert_alike(undisturbed, folder)
