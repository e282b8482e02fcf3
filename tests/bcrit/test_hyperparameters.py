"""`bcrit optimum` and `bcrit sensitivity` on a made-up run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS
from tests.analysis.report import runs
from tests.bcrit.command import bcrit, refused


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return written(tmp_path / "run", reached=True)


def written(place: Path, reached: bool, *, space: Mapping[str, Any] = runs.PLANE, missed: int | None = None) -> Path:
    folder, spec = RunFolder.at(place), runs.experiment(space)
    folder.write_experiment(spec)
    rows = [row for b in spec.batch_sizes for row in runs.study(spec, b, reached and b != missed)]
    folder.append(TRIALS, rows, 0)
    return place


def test_the_optimum_is_answered_in_words_and_in_json_and_nothing_is_written(run: Path) -> None:
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    done = bcrit("optimum", run, "--at", 48, "--at", 4096)
    assert done.returncode == 0, done.stderr
    assert "At batch size 8" in done.stdout and "extrapolated" in done.stdout
    found = json.loads(bcrit("optimum", run, "--at", 48, "--json").stdout)
    assert found["at"][0]["batch_size"] == 48 and set(found["laws"]) == {"effective_lr", "lr", "1 - momentum"}
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before


def test_the_sensitivity_is_answered_in_words_and_in_json(run: Path) -> None:
    done = bcrit("sensitivity", run)
    assert done.returncode == 0, done.stderr
    assert "near-optimal share" in done.stdout
    found = json.loads(bcrit("sensitivity", run, "--within", 0.5, "--json").stdout)
    assert found["within"] == 0.5 and len(found["studies"]) == 6


@pytest.mark.parametrize("command", ["optimum", "sensitivity"])
def test_a_run_that_reached_nothing_says_so_and_exits_with_1(tmp_path: Path, command: str) -> None:
    done = bcrit(command, written(tmp_path / "run", reached=False))
    assert done.returncode == 1 and "No study reached the target" in done.stdout


def test_wrong_options_are_one_message(run: Path) -> None:
    message = refused(bcrit("optimum", run, "--at", -3, "--within", 0))
    assert "2 problems" in message and "'--at' must be a positive batch size" in message
    assert "not a run folder" in refused(bcrit("sensitivity", run / "missing"))


def test_widths_are_whole_where_another_study_did_not_reach(tmp_path: Path) -> None:
    place = written(tmp_path / "run", reached=True, space={**runs.PLANE, "width": "integer from 4 to 64"}, missed=8)
    found = json.loads(bcrit("optimum", place, "--at", 64, "--at", 100, "--json").stdout)
    for point in found["at"]:
        assert all(isinstance(point[part]["width"], int) for part in ("values", "low", "high"))
