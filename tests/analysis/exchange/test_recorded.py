"""A run of ours comes back as it was; what was edited since and breaks the schema is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.write import Order, write_recorded, write_run
from bcrit.analysis.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from tests.analysis.exchange.test_write_run import run

Rows = list[tuple[str, int]]


def table(rows: Rows) -> pa.Table:
    names, steps = [name for name, _ in rows], [step for _, step in rows]
    zeros = pa.array([0.0] * len(rows), pa.float64())
    columns: dict[str, Any] = {"trial_id": pa.array(names, pa.string()), "step": pa.array(steps, pa.int64())}
    return pa.table({**columns, "examples": columns["step"], "train_seconds": zeros, "loss": zeros})


def recorded(*parts: Rows) -> ImportedRun:
    return replace(run([]), measurements=[table(part) for part in parts], recorded=True)


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1, max_size=6), max_size=4))
def test_the_order_over_pieces_is_that_of_all_rows_together(parts: list[Rows]) -> None:
    order = Order()
    for part in parts:
        order.take(table(part))
    broken, last = set(), dict[str, int]()
    for name, step in (row for part in parts for row in part):
        if step <= last.get(name, -1):
            broken.add(name)
        last[name] = step
    assert order.broken == broken and order.last == last


def test_trials_that_straddle_tables_and_interleave_stay_as_they_are(tmp_path: Path) -> None:
    parts: list[Rows] = [[("a", 1), ("b", 4), ("a", 2)], [("b", 3), ("a", 7)]]
    folder = RunFolder.at(tmp_path / "run")
    assert write_recorded(recorded(*parts), folder) == ({"a", "b"}, {"loss"}, 5)
    data = folder.read(MEASUREMENTS)
    assert list(zip(data["trial_id"].to_pylist(), data["step"].to_pylist(), strict=True)) == [*parts[0], *parts[1]]


def test_two_rows_of_one_step_are_refused_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must differ in trial_id, step, but 1 do not(.|\\n)*trials is 'a'"):
        write_run(recorded([("a", 1), ("b", 1)], [("a", 2), ("a", 1)]), RunFolder.at(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_empty_cells_where_none_may_be_are_refused(tmp_path: Path) -> None:
    broken = table([("a", 1)]).set_column(1, "step", pa.array([None], pa.int64()))
    with pytest.raises(InputError, match="'measurements.step' must have no empty cells, but 1 are"):
        write_run(replace(recorded(), measurements=[broken]), RunFolder.at(tmp_path / "run"))
