"""`bcrit pilot` as a user runs it, on digits: the proposal, the file that `bcrit tune` takes, its run, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import TIMING, RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.check import check_experiment
from bcrit.tuner.session import SessionResult
from bcrit.tuner.stages.pilot import plan
from tests.bcrit.command import bcrit, refused
from tests.tuner.stages.small import filled

DIGITS = """
workload: digits_mlp
batch_sizes: [16, 64]
target: val_loss < 0.5
space: {lr: log from 0.01 to 1, momentum: reverse_log from 0 to 0.99}
budget: {steps: 60}
search: {trials: 10}
probes: {examples: 200}
"""


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begun(folder: Path, text: str, seeds: int, at_most: int) -> None:
    """An experiment, and its pilot after so many trials, as a kill leaves it."""
    (folder / "x.yaml").write_text(text)
    data = read_yaml(text, "x.yaml")
    filled(folder / "run", plan(check_experiment(data, "x.yaml"), data, "x.yaml", None, seeds).search, at_most)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pilot")
    begun(path, DIGITS, seeds=3, at_most=4)
    return path


@pytest.fixture(scope="module")
def answer(folder: Path) -> dict[str, Any]:
    """What it comes to when it goes on from there."""
    words = ("--seeds", 3, "--workers", 1, "--out", "run", "--write", "new.yaml", "--json")
    done = bcrit("pilot", "x.yaml", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "timing updates at" in done.stderr and "wrote new.yaml" in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_answer_has_what_was_measured_and_what_is_proposed(answer: dict[str, Any]) -> None:
    assert answer["run"] == "run" and len(answer["measured"]["steps_each"]) == 3
    assert answer["measured"]["batch_size"] == 16 and answer["measured"]["chosen"]["momentum"] == pytest.approx(0.9)
    assert 0 < answer["hint"]["low"] < answer["hint"]["value"] < answer["hint"]["high"]
    costs = answer["proposal"]["cost"]
    assert costs["steps"]["low"] < costs["steps"]["value"] < costs["steps"]["high"] and costs["hours"]["value"] > 0
    assert answer["spent"]["steps"] < 0.2 * costs["steps"]["high"]
    assert any("a hint at the order of magnitude" in sentence for sentence in answer["sentences"])


def test_the_file_is_an_experiment_that_tune_takes(folder: Path, answer: dict[str, Any]) -> None:
    assert (folder / "new.yaml").read_text().startswith("# Proposed by `bcrit pilot x.yaml`, run at batch size 16")
    done = bcrit("tune", "new.yaml", "--plan", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [study["batch_size"] for study in plan["studies"]] == answer["grid"]["batch_sizes"]
    budgets = [study["budget_steps"] for study in answer["proposal"]["cost"]["studies"]]
    assert [study["max_steps"] for study in plan["studies"]] == budgets
    assert plan["experiment"]["search"]["trials"] == 10 and plan["experiment"]["probes"]["examples"] == 200


def test_a_complete_pilot_is_answered_from_its_folder(folder: Path, answer: dict[str, Any]) -> None:
    done = bcrit("pilot", "x.yaml", "--seeds", 3, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "a study to val_loss < 0.5, as proposed" in done.stdout and "report: run/report.html" in done.stdout
    assert all(sentence in done.stdout for sentence in answer["sentences"] if " worker" not in sentence)


def test_ray_starts_once_for_its_search_and_its_timing(folder: Path, answer: dict[str, Any]) -> None:
    runs = (RunFolder.at(folder / "run"), RunFolder.at(folder / "run" / TIMING))
    search, timing = ({row["node"] for row in run.read(TRIALS).to_pylist() if row["node"]} for run in runs)
    assert len(search) == 1 and search == timing


def test_its_run_is_a_run_that_says_what_it_lacks(folder: Path, answer: dict[str, Any]) -> None:
    done = bcrit("analyze", "run", cwd=folder)
    assert done.returncode == 1 and "a curve needs 2 batch sizes" in done.stdout


def test_another_run_or_file_is_not_overwritten(folder: Path, answer: dict[str, Any]) -> None:
    before = (folder / "new.yaml").read_bytes()
    said = refused(bcrit("pilot", "x.yaml", "--write", "new.yaml", cwd=folder))
    assert "'new.yaml' exists and is not overwritten" in said and (folder / "new.yaml").read_bytes() == before
    assert "something else than this pilot" in refused(bcrit("pilot", "x.yaml", "--out", "run", cwd=folder))
    assert "something else than this pilot" in refused(bcrit("pilot", "x.yaml", "--out", ".", cwd=folder))


def test_one_that_is_stopped_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.yaml").write_text(DIGITS)

    def stopped(folder: RunFolder, experiment: Experiment, **_: object) -> SessionResult:
        folder.write_experiment(experiment)
        return SessionResult(complete=False)

    monkeypatch.setattr("bcrit.tuner.session.run", stopped)
    done = bcrit("pilot", "x.yaml", "--seeds", 2, "--batch-size", 32, cwd=tmp_path)
    again = "bcrit pilot x.yaml --batch-size 32 --seeds 2 --out runs/experiment-pilot"
    assert done.returncode == 130 and f"stopped; finished trials are kept, go on with:  {again}\n" in done.stderr


def test_a_target_that_is_not_reached_is_the_answer_no_and_nothing_is_proposed(tmp_path: Path) -> None:
    begun(tmp_path, DIGITS.replace("0.5", "0.0001"), seeds=2, at_most=99)
    done = bcrit("pilot", "x.yaml", "--seeds", 2, "--out", "run", "--write", "new.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "learning rates reached val_loss < 0.0001 at batch size 16; the best of them" in done.stdout
    assert files(tmp_path) == ["run", "x.yaml"]
