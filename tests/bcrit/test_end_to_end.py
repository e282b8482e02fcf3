"""The whole chain as a user runs it: real Ray, real files, real kills."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from tests.bcrit.command import ROOT, bcrit, command, process
from tests.tuner.landscape.small import filled

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
TIMES = ["train_seconds", "evaluate_seconds", "started_at", "ended_at", "host", "node"]


def tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    run = RunFolder.at(folder)
    trials = run.read(TRIALS).to_pandas().drop(columns=TIMES).sort_values("trial_id", ignore_index=True)
    curves = run.read(MEASUREMENTS).to_pandas().drop(columns="train_seconds")
    return trials, curves.sort_values(["trial_id", "step"], ignore_index=True)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "scripted.yaml"
    path.write_text(SCRIPTED)
    return path


@pytest.fixture(scope="module")
def run(experiment: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = experiment.parent / "whole"
    return folder, process("tune", experiment, "--out", folder, "--json")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment for runs that are disturbed."""
    path = tmp_path_factory.mktemp("short") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="module")
def undisturbed(short: Path) -> Path:
    """Its trials one after the other in one process, without Ray: where every run of it must end."""
    folder = short.parent / "undisturbed"
    filled(folder, parse_experiment(read_yaml(SHORT, short.name), short.name))
    return folder


def ends_as(undisturbed: Path, folder: Path) -> None:
    """No row is lost, doubled or different."""
    for expected, found in zip(tables(undisturbed), tables(folder), strict=True):
        pd.testing.assert_frame_equal(expected, found[expected.columns])


def test_an_exact_hyperbola_comes_back_through_the_whole_chain(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
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


def test_the_run_folder_has_what_the_design_promises(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = run
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    promised = {"experiment.yaml", "environment.json", "report.html"}
    promised |= {
        f"analysis/{n}" for n in ("steps_to_target.parquet", "boundary.parquet", "fit.json", "recommendation.json")
    }
    assert promised <= names
    assert json.loads((folder / "environment.json").read_text())["sessions"][0]["packages"]["ray"]
    trials, curves = tables(folder)
    assert not trials["trial_id"].duplicated().any() and not curves.duplicated(["trial_id", "step"]).any()
    last = curves.groupby("trial_id")["step"].max()
    assert (trials.set_index("trial_id")["steps"] == last).all()


def test_ray_is_silent_and_progress_goes_to_stderr(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = run
    json.loads(done.stdout)
    assert "trials done" in done.stderr and "steps to loss < 1" in done.stderr
    assert not re.search(r"ray|tune|Warning|Traceback", done.stderr.replace("/ray/", ""), flags=re.I), done.stderr


def test_the_commands_answer_from_the_folder(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, done = run
    assert json.loads(bcrit("analyze", folder, "--json").stdout) == json.loads(done.stdout)
    assert "b_crit" in bcrit("analyze", folder).stdout
    advice = json.loads(bcrit("recommend", folder, "--json", "--price-per-device-hour", 2, "--max-steps", 300).stdout)
    assert advice["choices"]["best"]["steps"] <= 300 and advice["binding"] in ("max_steps", None)
    refused = bcrit("recommend", folder, "--json", "--max-steps", 50)
    assert refused.returncode == 1 and json.loads(refused.stdout)["feasible"] is False
    assert bcrit("report", folder).stdout.strip().endswith("report.html")
    table = tmp_path / "table.csv"
    table.write_text("batch_size,steps\n8,900\n32,300\n128,150\n512,112.5\n")
    fit = json.loads(bcrit("fit", table, "--json").stdout)
    assert fit["b_crit"] == pytest.approx(64) and fit["s_min"] == pytest.approx(100)


def test_a_run_folder_is_never_overwritten(
    run: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path
) -> None:
    folder, _ = run
    done = bcrit("tune", experiment, "--out", folder)
    assert done.returncode == 2 and "never overwritten" in done.stderr


def test_resuming_a_complete_run_runs_nothing(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = run
    before = tables(folder)
    done = process("resume", folder)
    assert done.returncode == 0, done.stderr
    for old, new in zip(before, tables(folder), strict=True):
        pd.testing.assert_frame_equal(old, new)


def descendants(pid: int) -> set[int]:
    """A process and all below it."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return set(found)


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """SIGKILL the driver and every process below it."""
    for pid in descendants(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself between the listing and the kill
    process.wait()


def start(*arguments: object) -> subprocess.Popen[Any]:
    return subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def n_finished(folder: Path) -> int:
    """Finished trials, also while the run goes on."""
    return int(RunFolder.at(folder).read(TRIALS).num_rows)


def until(folder: Path, finished: int, driver: subprocess.Popen[Any]) -> None:
    """Wait for so many finished trials, or for the end. Looking more often would take the run's own processor time."""
    deadline = time.monotonic() + 150
    while driver.poll() is None and n_finished(folder) < finished and time.monotonic() < deadline:
        time.sleep(0.1)


def trial_workers(process: subprocess.Popen[Any]) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    mine = descendants(process.pid)
    return [int(line.split()[0]) for line in listing.splitlines() if "ray::" in line and int(line.split()[0]) in mine]


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
def test_killed_runs_end_where_an_undisturbed_one_does(
    undisturbed: Path, short: Path, tmp_path: Path, kills: int
) -> None:
    """SIGKILL of everything, first while it starts, then at seeded random moments up to the confirmation."""
    folder, chance = tmp_path / "killed", random.Random(1)
    moments = [(0, chance.uniform(1.0, 7.0))]  # finished trials, and seconds after them
    moments += sorted((chance.randrange(36), chance.uniform(0.0, 0.3)) for _ in range(kills))
    for finished, seconds in moments:
        begun = (folder / "experiment.yaml").exists()
        driver = start("resume", folder) if begun else start("tune", short, "--out", folder)
        until(folder, finished, driver)
        try:
            driver.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill_tree(driver)
        else:
            break  # it was complete before its moment came
    done = process("resume", folder)
    assert done.returncode == 0, done.stderr
    ends_as(undisturbed, folder)


def test_a_killed_worker_costs_no_trial(undisturbed: Path, short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "worker-killed"
    driver = start("tune", short, "--out", folder)
    for finished in (3, 10, 20):
        until(folder, finished, driver)
        os.kill(trial_workers(driver)[-1], signal.SIGKILL)
    assert driver.wait(timeout=200) == 0
    ends_as(undisturbed, folder)


def test_a_run_that_cannot_be_recorded_ends_and_can_be_resumed(undisturbed: Path, short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unwritable"
    driver = subprocess.Popen(
        command("tune", short, "--out", folder),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 150
        while not (folder / "experiment.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        (folder / "trials").touch()  # a file: no part can be written into it
        _, errors = driver.communicate(timeout=120)
    finally:
        kill_tree(driver)
    assert driver.returncode == 1
    assert "bcrit failed: " in errors
    assert "`bcrit resume` goes on" in errors
    (folder / "trials").unlink()
    assert process("resume", folder).returncode == 0
    ends_as(undisturbed, folder)


def test_ctrl_c_stops_gently_and_says_how_to_go_on(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    driver = subprocess.Popen(
        command("tune", short, "--out", folder),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until(folder, 3, driver)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 130 and f"bcrit resume {folder}" in errors, errors
    assert "Traceback" not in errors
    trials, _ = tables(folder)
    assert 3 <= len(trials) < 36


def test_a_run_folder_on_s3_is_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        bucket, _ = fs.FileSystem.from_uri(f"s3://whole-runs?{options}&allow_bucket_creation=true")
        bucket.create_dir("whole-runs")
        uri, experiment = f"s3://whole-runs/run?{options}", tmp_path / "six.yaml"
        experiment.write_text(SCRIPTED.replace("trials: 36", "trials: 6"))
        done = process("tune", experiment, "--out", uri)
        assert done.returncode == 0, done.stderr
        assert f"report: s3://whole-runs/run/report.html?{options}" in done.stdout
        assert bcrit("tune", experiment, "--out", uri).returncode == 2
        answer = json.loads(bcrit("analyze", uri, "--json").stdout)
        assert [study["n_trials"] >= 6 for study in answer["studies"]] == [True] * 4
        assert b"b_crit" in bucket.open_input_stream("whole-runs/run/report.html").read()
    finally:
        server.stop()
