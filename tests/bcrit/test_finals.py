"""`bcrit finals` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.analysis.comparison.test_finals import made
from tests.bcrit.command import bcrit


def test_a_table_and_sentences_are_printed(tmp_path: Path) -> None:
    made(tmp_path / "small", {8: [0.2, 0.21, 0.22]})
    made(tmp_path / "large", {64: [0.9, 0.91, 0.92]})
    done = bcrit("finals", tmp_path / "small", tmp_path / "large")
    assert done.returncode == 0, done.stderr
    assert "loss after the last step" in done.stdout and "0.7*" in done.stdout
    assert "From row 1 to row 2 loss changes by 0.7 (" in done.stdout


def test_the_answer_as_json(tmp_path: Path) -> None:
    made(tmp_path / "small", {8: [0.2, 0.21, 0.22]})
    answer = json.loads(bcrit("finals", tmp_path / "small", "--json").stdout)
    assert answer["rows"][0]["n"] == 3 and answer["gaps"] == []


def test_runs_that_stop_at_the_target_are_bad_input(tmp_path: Path) -> None:
    made(tmp_path / "small", {8: [0.2, 0.21]}, beyond=False)
    done = bcrit("finals", tmp_path / "small")
    assert done.returncode == 2 and "beyond_target: true" in done.stderr
