"""`bcrit adaptive` as a user runs it, on the noisy quadratic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import ADAPTIVE, REPORT, RunFolder
from tests.bcrit.command import bcrit
from tests.tuner.landscape.small import experiment, filled

QUADRATIC: dict[str, Any] = {
    "workload": {"name": "noisy_quadratic", "options": {"dimensions": 100}},
    "batch_sizes": [2, 8, 32, 128],
    "target": "risk < 0.2",
    "space": {"lr": "log from 0.05 to 1.9"},
    "budget": {"steps": 400, "examples": 2000},
    "search": {"protocol": "sobol", "trials": 12, "stopping": "none"},
    "confirm": {"points": 1, "seeds": 1},
}


def tree(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    filled(path, experiment(**QUADRATIC))
    return path


def test_the_answer_is_one_object_and_lies_in_the_folder_and_the_report(run: Path) -> None:
    done = bcrit("adaptive", run, "--exchange-rate", 30, "--ramp", "0:8,20:32", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [one["schedule"] for one in answer["answers"]][-2:] == ["r = 30", "ramp 0:8, 20:32"]
    assert answer["answers"][-2]["exchange_rate"] == 30 and answer["answers"][-2]["ratio"] > 0
    assert answer["sentences"][0].startswith("Batch sizes that follow the noise scale need")
    folder = RunFolder.at(run)
    assert json.loads(folder.read_text(ADAPTIVE))["answers"] == answer["answers"]
    assert 'id="adaptive"' in folder.read_text(REPORT)


def test_without_json_a_table_and_sentences_are_printed(run: Path) -> None:
    done = bcrit("adaptive", run, "--exchange-rate", 30)
    assert done.returncode == 0, done.stderr
    assert "r = 30" in done.stdout and "times the steps and examples of their mean held fixed" in done.stdout
    table = done.stdout.partition("Batch sizes that follow")[0]
    assert "over" in table and "predicted" in table  # the ratio and what theory says of it
    assert f"report: {run}/report.html" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--exchange-rate", "-1"), "an exchange rate must be positive"),
        (("--ramp", "8-32"), "a ramp is written 'from step:batch size'"),
        (("--ramp", "5:8"), "must begin at 0"),
        (("--seeds", "0"), "--seeds"),
    ],
    ids=str,
)
def test_bad_options_are_one_message_and_nothing_is_written(run: Path, options: tuple[str, ...], message: str) -> None:
    before = tree(run)
    done = bcrit("adaptive", run, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and tree(run) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_sizes": [8, 32]}, "a frontier needs 3 batch sizes"),
        (
            {"space": {"lr": "log from 0.05 to 1.9", "schedule": "choice of linear"}},
            "have a learning rate schedule",
        ),
    ],
    ids=["two batch sizes", "a schedule"],
)
def test_a_run_whose_batch_size_cannot_change_is_refused_and_kept(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    filled(tmp_path / "run", experiment(**{**QUADRATIC, **more}))
    before = tree(tmp_path)
    done = bcrit("adaptive", tmp_path / "run")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and tree(tmp_path) == before
