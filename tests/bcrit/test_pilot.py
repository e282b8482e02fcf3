"""`bcrit pilot` as a user runs it, on digits: the proposal, the file that `bcrit tune` takes, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bcrit.command import ROOT, bcrit

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pilot")
    (path / "x.yaml").write_text(DIGITS)
    return path


@pytest.fixture(scope="module")
def answer(folder: Path) -> dict[str, Any]:
    done = bcrit("pilot", "x.yaml", "--seeds", 3, "--write", "new.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "seed 3 of 3: reached" in done.stderr and "wrote new.yaml" in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_answer_has_what_was_measured_and_what_is_proposed(answer: dict[str, Any]) -> None:
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


def test_an_existing_file_is_not_overwritten(folder: Path, answer: dict[str, Any]) -> None:
    before = (folder / "new.yaml").read_bytes()
    done = bcrit("pilot", "x.yaml", "--write", "new.yaml", cwd=folder)
    assert done.returncode == 2 and "'new.yaml' exists and is not overwritten" in done.stderr and done.stdout == ""
    assert (folder / "new.yaml").read_bytes() == before


def test_without_write_a_table_and_sentences_are_printed_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(DIGITS)
    done = bcrit("pilot", "x.yaml", "--seeds", 1, "--batch-size", 32, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a study to val_loss < 0.5, as proposed" in done.stdout and "b_crit may be about" in done.stdout
    assert "The noise scale has no interval" in done.stdout and "batch size 32: " in done.stderr
    assert files(tmp_path) == ["x.yaml"]


def test_a_target_that_is_not_reached_is_the_answer_no_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(DIGITS.replace("0.5", "0.0001"))
    done = bcrit("pilot", "x.yaml", "--seeds", 2, "--write", "new.yaml", cwd=tmp_path)
    assert done.returncode == 1 and "0 of 2 runs reached val_loss < 0.0001" in done.stdout, done.stderr
    assert files(tmp_path) == ["x.yaml"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (DIGITS + "budgett: 1", (), "did you mean 'budget'"),
        (DIGITS.replace("0.99", "1.0"), (), "'high < 1' must hold"),
        (DIGITS, ("--batch-size", 9999), "9999 is larger"),
        (DIGITS, ("--write", "no/such/folder.yaml"), "cannot be written"),
        (DIGITS, ("--write", "/proc/new.yaml"), "choose a place that you may write to"),
        ((ROOT / "examples/noisy_quadratic.yaml").read_text(), (), "'noisy_quadratic' computes them itself"),
        (DIGITS + "imported: {format: csv, source: x}", (), "cannot be run"),
    ],
    ids=["key", "value", "batch size", "folder", "unwritable", "workload", "imported"],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    tmp_path: Path, text: str, options: tuple[object, ...], message: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    done = bcrit("pilot", "x.yaml", *options, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == "" and files(tmp_path) == ["x.yaml"]
