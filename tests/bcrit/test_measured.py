"""`bcrit landscape` and `bcrit adaptive` as a user runs them: on Ray, killed and gone on with, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from torch import nn

from bcrit.analysis.records.run_folder import ADAPTIVE, LANDSCAPE, REPORT, RunFolder
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.digits import DigitsMLP
from tests.bcrit.command import ROOT, bcrit, command, process
from tests.processes import below, kill
from tests.tuner.stages.small import QUADRATIC, InProcess, experiment, filled

QUICK = ("--seeds", 1, "--eps", 0.001, "--subspace", 0, "--examples", 200, "--iterations", 2)


class Loud(DigitsMLP):
    """It prints whenever a model is made, which takes as long as a test asks for."""

    def model(self, settings: Settings) -> nn.Module:
        print("a model of mine")
        time.sleep(float(os.environ.get("BCRIT_TEST_PAUSE", "0")))
        return super().model(settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    filled(path, experiment(workload="tests.bcrit.test_measured:Loud", batch_sizes=[32, 256], target="val_loss < 0.5"))
    return path


@pytest.fixture(scope="module")
def quadratic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    filled(path, experiment(**QUADRATIC))
    return path


def tree(run: Path) -> dict[str, bytes]:
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.long
def test_a_landscape_is_trained_on_ray_and_a_kill_costs_no_trial_that_had_finished(run: Path, tmp_path: Path) -> None:
    """`test_cluster.py` trains one on Ray, `test_landscape.py` only what is missing; what kills do is the session's."""
    alone = RunFolder.at(shutil.copytree(run, tmp_path / "alone"))
    words = ("landscape", run, *QUICK, "--warm-starts", 2, "--json", "--workers", 1)
    with open(tmp_path / "log", "wb") as log:
        slow = {**os.environ, "BCRIT_TEST_PAUSE": "4"}  # rows are delivered every few seconds, and some are to be left
        first = subprocess.Popen(command(*words), cwd=ROOT, env=slow, stdout=log, stderr=log)
        until, folder = time.monotonic() + 200, RunFolder.at(run)
        while sum(stage == "landscape" for stage in folder.read(TRIALS)["stage"].to_pylist()) < 1:
            assert first.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.05)
        for each in (whole := below(first.pid)):
            kill(each, signal.SIGKILL)
        first.wait()
        while any(each.lives for each in whole):
            time.sleep(0.05)
    done = process(*words)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)  # and nothing else, though the workload prints
    assert "a model of mine" in done.stderr and "training runs done" in done.stderr
    kinds = [(n["batch_size"], n["tuned"], n["same_curve"]) for n in answer["networks"]]
    assert kinds == [(32, True, True), (256, True, True), (256, False, None)]
    assert [state["kind"] for state in answer["warm_starts"]["states"]] == ["small", "tuned", "un-tuned"] * 2
    assert json.loads(folder.read_text(LANDSCAPE))["networks"] == answer["networks"]
    page = folder.read_text(REPORT)
    assert 'id="landscape"' in page and 'data-figure="landscape-warm"' in page
    rows = {row["trial_id"]: row for row in folder.read(TRIALS).to_pylist()}
    assert len(rows) == folder.read(TRIALS).num_rows

    again = bcrit(*words)  # nothing is trained, and Ray is not even started
    assert json.loads(again.stdout) == answer and "training runs" not in again.stderr
    shown = bcrit("landscape", run, *QUICK)
    assert "un-tuned" in shown.stdout and f"report: {run}/report.html" in shown.stdout

    from bcrit.tuner.stages.landscape import landscape
    from bcrit.tuner.stages.measure import Options

    options = Options(seeds=1, eps=(0.001,), subspace=0, examples=200, iterations=2, warm_starts=2)
    here = landscape(alone, options, InProcess(alone))
    assert [n.steps for n in here.networks] == [n["steps"] for n in answer["networks"]]
    assert [n.top_eigenvalue for n in here.networks] == [n["top_eigenvalue"] for n in answer["networks"]]


def test_batch_sizes_that_change_are_trained_on_ray(quadratic: Path) -> None:
    done = bcrit("adaptive", quadratic, "--exchange-rate", 30, "--ramp", "0:8,20:32", "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [one["schedule"] for one in answer["answers"]][-2:] == ["r = 30", "ramp 0:8, 20:32"]
    assert answer["answers"][-2]["exchange_rate"] == 30 and answer["answers"][-2]["ratio"] > 0
    assert answer["sentences"][0].startswith("Batch sizes that follow the noise scale need")
    folder = RunFolder.at(quadratic)
    assert json.loads(folder.read_text(ADAPTIVE))["answers"] == answer["answers"]
    assert 'id="adaptive"' in folder.read_text(REPORT)

    again = bcrit("adaptive", quadratic, "--exchange-rate", 30)  # of what is there
    assert again.returncode == 0 and "training runs" not in again.stderr
    assert "r = 30" in again.stdout and "times the steps and examples of their mean held fixed" in again.stdout
    table = again.stdout.partition("Batch sizes that follow")[0]
    assert "over" in table and "predicted" in table  # the ratio and what theory says of it


@pytest.mark.parametrize(
    ("words", "message"),
    [(("landscape",), "SupervisedWorkload"), (("adaptive", "--address", "127.0.0.1:9"), "no Ray cluster answers")],
    ids=str,
)
def test_what_cannot_be_is_one_message_and_nothing_is_written(
    quadratic: Path, words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    run = shutil.copytree(quadratic, tmp_path / "run")
    before, (name, *options) = tree(run), words
    done = bcrit(name, run, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and tree(run) == before
