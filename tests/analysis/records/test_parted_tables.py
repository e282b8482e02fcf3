"""Which parts of a table count, and which are joined."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bcrit.analysis.records import parted_tables
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.parted_tables import PartedTables, part_name
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS

ROW: dict[str, Any] = {
    **{"batch_size": 8, "stage": "search", "number": 0, "round": 0, "seed": 0, "outcome": "exhausted"},
    **{"max_steps": 5, "steps": 5, "examples": 40, "train_seconds": 1.0, "evaluate_seconds": 1.0},
    **{"started_at": 0.0, "ended_at": 1.0},
}


def written(folder: RunFolder, first: int, last: int, token: str = "", replaces: Sequence[str] = ()) -> str:
    """A part with one row for each of its flushes, named by the flush and the token."""
    rows = [ROW | {"trial_id": f"{number}{token}"} for number in range(first, last + 1)]
    data, name = to_arrow(TRIALS, rows), part_name(TRIALS, first, last, token)
    folder.write_table(name, data.replace_schema_metadata({"bcrit.replaces": json.dumps(replaces)} if token else None))
    return name


def trials(folder: RunFolder) -> list[str]:
    return sorted(folder.read(TRIALS)["trial_id"].to_pylist())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def listed(folder: RunFolder) -> PartedTables:
    return PartedTables(str(folder), folder.filesystem, folder.root)


def test_of_an_older_version_a_part_inside_another_does_not_count(folder: RunFolder) -> None:
    for first, last in ((0, 3), (0, 0), (2, 2), (4, 4)):
        written(folder, first, last)
    assert folder.parts(TRIALS) == ["trials/000000-000003.parquet", "trials/000004-000004.parquet"]
    assert listed(folder).superseded(TRIALS) == ["trials/000000-000000.parquet", "trials/000002-000002.parquet"]
    assert folder.next_number(TRIALS) == 5 and trials(folder) == ["0", "1", "2", "3", "4"]


def test_a_part_of_another_session_inside_a_joined_one_counts(folder: RunFolder) -> None:
    replaced = written(folder, 1, 1, "aaaaaa")
    written(folder, 0, 3, "bbbbbb", replaces=[replaced])
    written(folder, 2, 2, "cccccc")
    written(folder, 2, 2, "dddddd")
    whole = [f"{number}bbbbbb" for number in range(4)]
    assert trials(folder) == sorted([*whole, "2cccccc", "2dddddd"])
    assert listed(folder).superseded(TRIALS) == [replaced]


def test_parts_of_an_older_version_and_of_this_one_are_joined(folder: RunFolder) -> None:
    written(folder, 0, 3)
    written(folder, 2, 2)  # left by a kill
    written(folder, 4, 4, "aaaaaa")
    folder.compact(TRIALS)
    (part,) = (name for name in Path(folder.root, "trials").iterdir())
    assert re.fullmatch(r"000000-000004-[0-9a-f]{6}\.parquet", part.name)
    assert trials(folder) == ["0", "1", "2", "3", "4aaaaaa"]


def test_a_part_alone_is_not_written_again(folder: RunFolder) -> None:
    name = written(folder, 7, 9)
    folder.compact(TRIALS)
    assert folder.parts(TRIALS) == [name] and folder.next_number(TRIALS) == 10


def test_large_parts_stay_as_they_are(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    large = written(folder, 0, 500)
    monkeypatch.setattr(parted_tables, "_LARGE_PART", Path(folder.path(large)).stat().st_size)
    for number in (501, 502):
        written(folder, number, number, "aaaaaa")
    folder.compact(TRIALS)
    first, second = folder.parts(TRIALS)
    assert first == large and second.startswith("trials/000501-000502-") and len(trials(folder)) == 503


def test_joining_on_the_way_rewrites_each_row_a_few_times_and_leaves_few_parts(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined, write, most = [], RunFolder.write_table, 0

    def counting(self: RunFolder, name: str, data: pa.Table, patience: float = 0) -> None:
        joined.append(data.num_rows)
        write(self, name, data, patience)

    for number in range(200):
        written(folder, number, number, "aaaaaa")
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "write_table", counting)
            folder.compact(TRIALS, everything=False)
        most = max(most, len(folder.parts(TRIALS)))
    levels = math.log(200, 8)
    assert most <= 7 * (levels + 1) and sum(joined) <= 200 * levels
    assert len(set(trials(folder))) == folder.read(TRIALS).num_rows == 200


def test_whoever_joins_the_same_parts_makes_the_same_file(folder: RunFolder) -> None:
    for number in range(3):
        written(folder, number, number, "aaaaaa")
    made = list[str]()
    for _ in range(2):
        listed(folder).join(TRIALS, lambda name, data: made.append(name), everything=True)
    assert len(made) == 2 and len(set(made)) == 1


def test_a_table_of_before_a_column_that_may_be_empty_is_read_with_it_empty(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    old = to_arrow(TRIALS, [{**ROW, "trial_id": "old"}]).drop_columns(["gradients_per_example", "micro_batch"])
    folder.append_table(TRIALS, old, 0)
    folder.append(TRIALS, [{**ROW, "trial_id": "new", "gradients_per_example": 2, "micro_batch": 4}], 1)
    read = folder.read(TRIALS)
    assert read["micro_batch"].to_pylist() == [None, 4] and read["gradients_per_example"].to_pylist() == [None, 2]
    (batch,) = folder.scan(TRIALS, ["trial_id", "micro_batch"], ["old"])
    assert batch["micro_batch"].to_pylist() == [None]
