"""One pass over the measurements: every row once, in order of step, whatever the order on disk."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.records import parted_tables
from bcrit.analysis.records.one_pass import Chunk, Integers, curves, read_measurements
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS

Row = tuple[str, int, float]


class Everything:
    """A reader that keeps all rows."""

    def __init__(self, trials: list[str]) -> None:
        self.trials = trials
        self.rows: list[tuple[str, int, int, float]] = []

    def take(self, chunk: Chunk) -> None:
        names = [self.trials[place] for place in chunk.trial]
        firsts = [0, *np.flatnonzero(np.diff(chunk.trial)) + 1]
        assert firsts == list(chunk.starts), "each trial's rows stand together"
        self.rows += zip(names, chunk.step.tolist(), chunk.before.tolist(), chunk.value.tolist(), strict=True)

    def forget(self, trials: Integers) -> None:
        names = {self.trials[place] for place in trials}
        self.rows = [row for row in self.rows if row[0] not in names]


def write(path: Path, *parts: Sequence[tuple[str, int, float | None]]) -> RunFolder:
    folder = RunFolder.at(path / "run")
    for number, rows in enumerate(parts):
        full = [{"trial_id": t, "step": s, "examples": s, "train_seconds": 0.0, "loss": v} for t, s, v in rows]
        folder.append(MEASUREMENTS, full, number)
    return folder


def passed(folder: RunFolder, trials: list[str]) -> list[tuple[str, int, int, float]]:
    reader = Everything(trials)
    read_measurements(folder, trials, "loss", [reader])
    return sorted(reader.rows)


def expected(*parts: list[Row]) -> list[tuple[str, int, int, float]]:
    found: list[tuple[str, int, int, float]] = []
    for trial in sorted({row[0] for part in parts for row in part}):
        before = 0
        for _, step, value in sorted(row for part in parts for row in part if row[0] == trial):
            found.append((trial, step, before, value))
            before = step
    return found


def test_trials_may_interleave_and_straddle_parts(tmp_path: Path) -> None:
    one = [("a", 0, 9.0), ("b", 0, 8.0), ("a", 2, 7.0), ("b", 1, 6.0)]
    two = [("b", 5, 5.0), ("a", 4, 4.0), ("a", 6, 3.0)]
    assert passed(write(tmp_path, one, two), ["a", "b"]) == expected(one, two)


@pytest.mark.parametrize("seed", range(8))
def test_any_order_on_disk_gives_the_same_rows(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parted_tables, "BATCH_ROWS", 7)
    rng = np.random.default_rng(seed)
    rows = [(f"t{n}", int(s), float(rng.random())) for n in range(6) for s in range(rng.integers(1, 30))]
    order = rng.permutation(len(rows)) if seed % 2 else np.argsort([row[1] for row in rows], kind="stable")
    shuffled = [rows[place] for place in order]
    middle = len(rows) // 2
    found = passed(write(tmp_path, shuffled[:middle], shuffled[middle:]), [f"t{n}" for n in range(6)])
    assert found == expected(rows)


def test_rows_of_trials_that_have_not_finished_are_passed_over(tmp_path: Path) -> None:
    rows = [("running", 0, 1.0), ("a", 0, 2.0), ("running", 1, 3.0)]
    assert passed(write(tmp_path, rows), ["a"]) == [("a", 0, 0, 2.0)]


def test_two_rows_of_one_step_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, [("a", 1, 1.0), ("b", 1, 1.0)], [("a", 1, 2.0)])
    with pytest.raises(InputError, match="must differ in trial_id, step, but those of 1 trials do not, such as a"):
        passed(folder, ["a", "b"])


def test_curves_are_whole_sorted_and_without_the_start(tmp_path: Path) -> None:
    nan = float("nan")
    folder = write(
        tmp_path, [("a", 4, 1.0), ("a", 0, 9.0), ("b", 1, 5.0)], [("a", 2, 3.0), ("a", 3, nan), ("c", 0, 1.0)]
    )
    found = {name: (steps.tolist(), values.tolist()) for name, steps, values in curves(folder, ["a", "c"], "loss")}
    assert found == {"a": ([2, 4], [3.0, 1.0])}
    assert list(curves(folder, [], "loss")) == []


def test_of_a_metric_that_nobody_measured_there_are_no_evaluations(tmp_path: Path) -> None:
    folder = write(tmp_path, [("a", 1, 1.0)])
    reader = Everything(["a"])
    read_measurements(folder, ["a"], "other", [reader])
    assert reader.rows == []


def test_an_empty_cell_is_passed_over_and_a_nan_is_an_evaluation(tmp_path: Path) -> None:
    folder = write(tmp_path, [("a", 1, 1.0), ("a", 2, None), ("a", 3, math.nan)], [("a", 4, None), ("a", 5, 2.0)])
    found = passed(folder, ["a"])
    assert [(step, before) for _, step, before, _ in found] == [(1, 0), (3, 1), (5, 3)]
    assert math.isnan(found[1][3])
