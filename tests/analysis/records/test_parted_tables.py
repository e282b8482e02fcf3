"""Which parts of a table count, which are joined, and how they are streamed: order, columns, filters, refusals."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcrit.analysis.records import parted_tables
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.parted_tables import PartedTables, part_name
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

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
    assert folder.next_number(TRIALS) == 5 and trials(folder) == ["0", "1", "2", "3", "4"]


def test_a_part_of_another_session_inside_a_joined_one_counts(folder: RunFolder) -> None:
    replaced = written(folder, 1, 1, "aaaaaa")
    written(folder, 0, 3, "bbbbbb", replaces=[replaced])
    written(folder, 2, 2, "cccccc")
    written(folder, 2, 2, "dddddd")
    whole = [f"{number}bbbbbb" for number in range(4)]
    assert trials(folder) == sorted([*whole, "2cccccc", "2dddddd"])
    assert replaced not in folder.parts(TRIALS)


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


COLUMNS = ["trial_id", "step", "loss"]


def rows(trial: str, steps: range, **more: Any) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial, "step": s, "examples": 8 * s, "train_seconds": 0.1 * s, "loss": 1 / (s + 1), **more}
        for s in steps
    ]


def scanned(folder: RunFolder, *trials: str) -> list[dict[str, Any]]:
    found = []
    for batch in folder.scan(MEASUREMENTS, COLUMNS, trials or None):
        assert batch.schema.names == COLUMNS
        assert pa.types.is_dictionary(batch.schema.field("trial_id").type)
        found += batch.to_pylist()
    return found


def test_parts_come_in_order_of_flush_with_the_wanted_columns_only(folder: RunFolder) -> None:
    for number, trial in enumerate("cab"):
        folder.append(MEASUREMENTS, rows(trial, range(3), other=1.0), number)
    expected = [{"trial_id": t, "step": s, "loss": 1 / (s + 1)} for t in "cab" for s in range(3)]
    assert scanned(folder) == expected


def test_a_metric_that_a_part_lacks_is_null(folder: RunFolder) -> None:
    without = [{k: v for k, v in row.items() if k != "loss"} for row in rows("a", range(2))]
    folder.append(MEASUREMENTS, without, 0)
    folder.append(MEASUREMENTS, rows("b", range(1)), 1)
    assert [row["loss"] for row in scanned(folder)] == [None, None, 1.0]


def test_only_the_rows_of_the_wanted_trials_come(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, [*rows("a", range(2)), *rows("b", range(2))], 0)
    folder.append(MEASUREMENTS, rows("c", range(2)), 1)
    assert {row["trial_id"] for row in scanned(folder, "b", "absent")} == {"b"}
    assert folder.select(MEASUREMENTS, COLUMNS, ["b"]).to_pydict() == {
        "trial_id": ["b", "b"],
        "step": [0, 1],
        "loss": [1.0, 0.5],
    }
    assert folder.select(MEASUREMENTS, COLUMNS, ["absent"]).num_rows == 0
    assert folder.select(MEASUREMENTS, COLUMNS, []).column_names == COLUMNS


def test_row_groups_without_a_wanted_trial_are_not_read(folder: RunFolder, tmp_path: Path) -> None:
    table = to_arrow(MEASUREMENTS, [row for trial in "abcdef" for row in rows(trial, range(4))])
    (tmp_path / "run/measurements").mkdir(parents=True)
    path = tmp_path / "run/measurements/000000-000000.parquet"
    pq.write_table(table, path, row_group_size=4)
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    content[place : place + 8] = b"\0" * 8  # the group of trial a cannot be read any more
    path.write_bytes(content)
    assert {row["trial_id"] for row in scanned(folder, "d")} == {"d"}
    with pytest.raises(InputError, match="not a readable Parquet file"):
        scanned(folder, "a")


@pytest.mark.parametrize("small", [0, 10**9], ids=["open files", "read at once"])
def test_parts_that_are_joined_while_they_are_read_lose_and_double_nothing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(parted_tables, "_SMALL_PART", small)
    for number in range(4):
        folder.append(MEASUREMENTS, rows(f"t{number}", range(2)), number)
    scan, found = folder.scan(MEASUREMENTS, COLUMNS), []
    found += next(scan).to_pylist()
    folder.compact(MEASUREMENTS)
    for batch in scan:
        found += batch.to_pylist()
    assert [row["trial_id"] for row in found] == [f"t{n}" for n in range(4) for _ in range(2)]


def test_a_part_that_vanishes_between_listing_and_opening_is_listed_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        folder.append(MEASUREMENTS, rows(f"t{number}", range(2)), number)
    listings: list[list[str]] = []
    before = scanned(folder)
    parts = PartedTables.parts

    def parts_then_compact(self: PartedTables, table: Any) -> list[str]:
        found = parts(self, table)
        if not listings:
            listings.append(found)
            folder.compact(table)
        return found

    monkeypatch.setattr(PartedTables, "parts", parts_then_compact)
    assert scanned(folder) == before and listings


def test_an_arrow_table_is_appended_as_it_is(folder: RunFolder) -> None:
    table = to_arrow(MEASUREMENTS, rows("a", range(3)))
    encoded = table.set_column(0, "trial_id", table["trial_id"].dictionary_encode())
    folder.append_table(MEASUREMENTS, encoded, 0)
    assert folder.read(MEASUREMENTS).equals(table)
    folder.append_table(MEASUREMENTS, table.slice(0, 0), 1)
    assert folder.parts(MEASUREMENTS) == ["measurements/000000-000000.parquet"]


def test_an_arrow_table_that_breaks_the_schema_is_refused_and_nothing_is_written(folder: RunFolder) -> None:
    table = to_arrow(MEASUREMENTS, rows("a", range(3))).drop_columns(["examples"])
    with pytest.raises(InputError, match="needs the column 'examples'"):
        folder.append_table(MEASUREMENTS, table, 0)
    assert folder.parts(MEASUREMENTS) == []


def test_broken_columns_are_named_with_their_part(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run/measurements").mkdir(parents=True)
    path = tmp_path / "run/measurements/000000-000000.parquet"
    good = to_arrow(MEASUREMENTS, rows("a", range(3)))
    cases = {
        "needs the column 'step', but measurements/000000": good.drop_columns(["step"]),
        "'measurements.step' must be int64, but it is double": good.set_column(1, "step", good["step"].cast("float64")),
        "'measurements.loss' must be a number, but it is string": good.set_column(4, "loss", pa.array(["x"] * 3)),
        "'measurements.step' must have no empty cells": good.set_column(1, "step", pa.array([1, None, 3])),
    }
    for message, table in cases.items():
        pq.write_table(table, path)
        with pytest.raises(InputError, match=message):
            scanned(folder)
    path.write_bytes(b"not parquet")
    with pytest.raises(InputError, match="000000-000000.parquet is not a readable Parquet file"):
        scanned(folder)


def test_the_columns_of_all_parts_are_known(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, rows("a", range(1)), 0)
    folder.append(MEASUREMENTS, rows("b", range(1), accuracy=0.5), 1)
    assert folder.column_names(MEASUREMENTS) == [*MEASUREMENTS.names, "loss", "accuracy"]
