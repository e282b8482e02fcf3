"""`bcrit targets` and `bcrit budgets` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.analysis.folders import experiment, write_run
from tests.analysis.targets.test_grid import SIZES, stopping
from tests.bcrit.command import bcrit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = experiment(SIZES, "loss < 1")
    made = stopping(spec)
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, spec, made)
    return path


def test_targets_prints_a_table_and_sentences(run: Path) -> None:
    done = bcrit("targets", run)
    assert done.returncode == 0, done.stderr
    assert "steps to loss < ..." in done.stdout and "b_crit is identified at" in done.stdout


def test_targets_of_the_users_choice_as_json(run: Path) -> None:
    done = bcrit("targets", run, "--target", "loss < 2", "--target", 0.5, "--json")
    answer = json.loads(done.stdout)
    assert [target["target"] for target in answer["targets"]] == ["loss < 2", "loss < 0.5"]
    assert {cell["status"] for cell in answer["targets"][0]["cells"]} == {"valid"}
    assert {cell["status"] for cell in answer["targets"][1]["cells"]} == {"lower"}


def test_budgets_prints_tables_and_sentences(run: Path) -> None:
    done = bcrit("budgets", run)
    assert done.returncode == 0, done.stderr
    assert "best loss within ... steps, by batch size" in done.stdout and "clearly win" in done.stdout


def test_budgets_of_the_users_choice_as_json(run: Path) -> None:
    answer = json.loads(bcrit("budgets", run, "--steps", 20, "--steps", 10, "--json").stdout)
    assert [row["budget"] for row in answer["steps"]] == [10, 20]
    assert answer["examples"] == answer["hours"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("targets", "--target", "speed < 1"), "no finished trial has measurements of 'speed'"),
        (("targets", "--target", "fast"), "a target is a number or reads"),
        (("budgets", "--steps", "0"), "--steps: a budget is a positive number"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(run: Path, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(run.rglob("*"))
    command, *options = arguments
    done = bcrit(command, run, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert sorted(run.rglob("*")) == before


def test_a_place_without_a_run_is_refused(tmp_path: Path) -> None:
    for command in ("targets", "budgets"):
        done = bcrit(command, tmp_path)
        assert done.returncode == 2 and "not a run folder" in done.stderr
