"""Which parts of a table count."""

from __future__ import annotations

from pathlib import Path

from pyarrow import fs

from analysis.arrow_tables import to_arrow
from analysis.parted_tables import PartedTables, part_name
from analysis.run_folder import RunFolder
from search_spaces.tables import TRIALS


def tables(path: Path, *ranges: tuple[int, int]) -> PartedTables:
    (path / "trials").mkdir()
    for first, last in ranges:
        (path / part_name(TRIALS, first, last)).write_bytes(b"")
    return PartedTables(str(path), fs.LocalFileSystem(), str(path))


def test_a_part_inside_another_does_not_count(tmp_path: Path) -> None:
    found = tables(tmp_path, (0, 3), (0, 0), (2, 2), (4, 4))
    assert found.parts(TRIALS) == ["trials/000000-000003.parquet", "trials/000004-000004.parquet"]
    assert found.superseded(TRIALS) == ["trials/000000-000000.parquet", "trials/000002-000002.parquet"]
    assert found.joined_name(TRIALS) == "trials/000000-000004.parquet"
    assert found.next_number(TRIALS) == 5


def test_one_part_or_none_has_nothing_to_join(tmp_path: Path) -> None:
    assert PartedTables("x", fs.LocalFileSystem(), str(tmp_path)).joined_name(TRIALS) is None
    found = tables(tmp_path, (7, 9), (8, 8))
    assert found.joined_name(TRIALS) is None and found.next_number(TRIALS) == 10


def test_a_table_of_before_a_column_that_may_be_empty_is_read_with_it_empty(tmp_path: Path) -> None:
    row = {"batch_size": 8, "stage": "search", "number": 0, "round": 0, "seed": 0, "outcome": "exhausted"}
    row |= {"max_steps": 5, "steps": 5, "examples": 40, "train_seconds": 1.0, "evaluate_seconds": 1.0}
    row |= {"started_at": 0.0, "ended_at": 1.0}
    folder = RunFolder.at(tmp_path)
    old = to_arrow(TRIALS, [{**row, "trial_id": "old"}]).drop_columns(["gradients_per_example", "micro_batch"])
    folder.append_table(TRIALS, old, 0)
    folder.append(TRIALS, [{**row, "trial_id": "new", "gradients_per_example": 2, "micro_batch": 4}], 1)
    read = folder.read(TRIALS)
    assert read["micro_batch"].to_pylist() == [None, 4] and read["gradients_per_example"].to_pylist() == [None, 2]
    (batch,) = folder.scan(TRIALS, ["trial_id", "micro_batch"], ["old"])
    assert batch["micro_batch"].to_pylist() == [None]
