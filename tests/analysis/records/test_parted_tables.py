"""Which parts of a table count, which are joined, how they are streamed, and what the log adds to them."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcrit.analysis.records import parted_tables, run_folder
from bcrit.analysis.records.arrow_tables import CHECKSUM, _checksum, _place, to_arrow
from bcrit.analysis.records.parted_tables import (
    Part,
    begin_segment,
    joinable,
    part_name,
    read_log,
    record,
    segments,
    whole_part,
)
from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from tests.analysis.records.rows import curve, trial
from tests.object_store import ObjectStore


def written(folder: RunFolder, first: int, last: int, token: str = "", replaces: Sequence[str] = ()) -> str:
    """A part with one row for each of its flushes, named by the flush and the token."""
    rows = [trial(f"{number}{token}") for number in range(first, last + 1)]
    data, name = to_arrow(TRIALS, rows), part_name(TRIALS, first, last, token)
    folder.write_table(name, data.replace_schema_metadata({"bcrit.replaces": json.dumps(replaces)} if token else None))
    return name


def trials(folder: RunFolder) -> list[str]:
    return sorted(folder.read(TRIALS)["trial_id"].to_pylist())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


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
    large = written(folder, 0, 5000)
    monkeypatch.setattr(parted_tables, "_LARGE_PART", Path(folder.path(large)).stat().st_size)
    for number in (5001, 5002):
        written(folder, number, number, "aaaaaa")
    folder.compact(TRIALS)
    first, second = folder.parts(TRIALS)
    assert first == large and second.startswith("trials/005001-005002-") and len(trials(folder)) == 5003


def test_parts_are_joined_piece_by_piece_into_none_that_is_larger_than_a_large_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        folder.append(TRIALS, [trial(f"{number}-{i}", lr=[1, 0.5][number % 2]) for i in range(5)], number)
    before = folder.read(TRIALS)
    most = sum(part.size for part in folder.listed(TRIALS)[:7])
    monkeypatch.setattr(parted_tables, "_LARGE_PART", most)
    monkeypatch.setattr(parted_tables, "GROUP_ROWS", 12)
    folder.compact(TRIALS)
    whole, rest = folder.parts(TRIALS)
    assert (whole[7:20], rest[7:20]) == ("000000-000006", "000007-000009")
    with pq.ParquetFile(folder.path(whole)) as file:
        assert [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)] == [15, 15, 5]
    assert folder.read(TRIALS).equals(before) and before["lr"].to_pylist()[4:6] == [1.0, 0.5]


def test_joining_on_the_way_rewrites_each_row_a_few_times_and_leaves_few_parts(folder: RunFolder) -> None:
    joined, most = 0, 0
    for number in range(200):
        written(folder, number, number, "aaaaaa")
        before = set(folder.parts(TRIALS))
        folder.compact(TRIALS, everything=False)
        joined += sum(folder.rows_of(part).num_rows for part in set(folder.parts(TRIALS)) - before)
        most = max(most, len(folder.parts(TRIALS)))
    levels = math.log(200, 8)
    assert most <= 7 * (levels + 1) and 0 < joined <= 200 * levels
    assert len(set(trials(folder))) == folder.read(TRIALS).num_rows == 200


def test_whoever_joins_the_same_parts_makes_the_same_file(folder: RunFolder) -> None:
    for number in range(3):
        written(folder, number, number, "aaaaaa")
    (run,) = joinable(folder.listed(TRIALS), everything=True)
    assert whole_part(TRIALS, run) == whole_part(TRIALS, list(run))
    folder.compact(TRIALS)
    assert folder.parts(TRIALS) == [whole_part(TRIALS, run)]


def test_a_table_of_before_a_column_that_may_be_empty_is_read_with_it_empty(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    old = to_arrow(TRIALS, [trial("old")]).drop_columns(["gradients_per_example", "micro_batch"])
    folder.append_table(TRIALS, old, 0)
    folder.append(TRIALS, [trial("new", gradients_per_example=2, micro_batch=4)], 1)
    read = folder.read(TRIALS)
    assert read["micro_batch"].to_pylist() == [None, 4] and read["gradients_per_example"].to_pylist() == [None, 2]
    (batch,) = folder.scan(TRIALS, ["trial_id", "micro_batch"], ["old"])
    assert batch["micro_batch"].to_pylist() == [None]


COLUMNS = ["trial_id", "step", "loss"]


def scanned(folder: RunFolder, *trials: str) -> list[dict[str, Any]]:
    found = []
    for batch in folder.scan(MEASUREMENTS, COLUMNS, trials or None):
        assert batch.schema.names == COLUMNS
        assert pa.types.is_dictionary(batch.schema.field("trial_id").type)
        found += batch.to_pylist()
    return found


def test_parts_come_in_order_of_flush_with_the_wanted_columns_only(folder: RunFolder) -> None:
    for number, name in enumerate("cab"):
        folder.append(MEASUREMENTS, curve(name, range(3), other=1.0), number)
    expected = [{"trial_id": t, "step": s, "loss": 1 / (s + 1)} for t in "cab" for s in range(3)]
    assert scanned(folder) == expected


def test_a_metric_that_a_part_lacks_is_null(folder: RunFolder) -> None:
    without = [{k: v for k, v in row.items() if k != "loss"} for row in curve("a", range(2))]
    folder.append(MEASUREMENTS, without, 0)
    folder.append(MEASUREMENTS, curve("b", range(1)), 1)
    assert [row["loss"] for row in scanned(folder)] == [None, None, 1.0]


def test_only_the_rows_of_the_wanted_trials_come(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, [*curve("a", range(2)), *curve("b", range(2))], 0)
    folder.append(MEASUREMENTS, curve("c", range(2)), 1)
    assert {row["trial_id"] for row in scanned(folder, "b", "absent")} == {"b"}
    assert folder.select(MEASUREMENTS, COLUMNS, ["b"]).to_pydict() == {
        "trial_id": ["b", "b"],
        "step": [0, 1],
        "loss": [1.0, 0.5],
    }
    assert folder.select(MEASUREMENTS, COLUMNS, ["absent"]).num_rows == 0
    assert folder.select(MEASUREMENTS, COLUMNS, []).column_names == COLUMNS


def test_row_groups_without_a_wanted_trial_are_not_read(folder: RunFolder, tmp_path: Path) -> None:
    table = to_arrow(MEASUREMENTS, [row for name in "abcdef" for row in curve(name, range(4))])
    (tmp_path / "run/measurements").mkdir(parents=True)
    path = tmp_path / "run/measurements/000000-000000.parquet"
    pq.write_table(table.replace_schema_metadata({CHECKSUM: b"00000000"}), path, row_group_size=4)
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    content[place : place + 8] = b"\0" * 8  # the group of trial a cannot be read any more
    seal = _place(memoryview(content))
    content[seal : seal + 8] = _checksum(memoryview(content), seal)
    path.write_bytes(content)
    assert {row["trial_id"] for row in scanned(folder, "d")} == {"d"}
    with pytest.raises(InputError, match="not a readable Parquet file"):
        scanned(folder, "a")


@pytest.mark.parametrize("small", [0, 10**9], ids=["open files", "read at once"])
def test_parts_that_are_joined_while_they_are_read_lose_and_double_nothing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(run_folder, "_SMALL_PART", small)
    for number in range(4):
        folder.append(MEASUREMENTS, curve(f"t{number}", range(2)), number)
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
        folder.append(MEASUREMENTS, curve(f"t{number}", range(2)), number)
    listings: list[list[str]] = []
    before = scanned(folder)
    parts = RunFolder.parts

    def parts_then_compact(self: RunFolder, table: Table) -> list[str]:
        found = parts(self, table)
        if not listings:
            listings.append(found)
            folder.compact(table)
        return found

    monkeypatch.setattr(RunFolder, "parts", parts_then_compact)
    assert scanned(folder) == before and listings


def test_an_arrow_table_is_appended_as_it_is(folder: RunFolder) -> None:
    table = to_arrow(MEASUREMENTS, curve("a", range(3)))
    encoded = table.set_column(0, "trial_id", table["trial_id"].dictionary_encode())
    folder.append_table(MEASUREMENTS, encoded, 0)
    assert folder.read(MEASUREMENTS).equals(table)
    folder.append_table(MEASUREMENTS, table.slice(0, 0), 1)
    assert folder.parts(MEASUREMENTS) == ["measurements/000000-000000.parquet"]


def test_an_arrow_table_that_breaks_the_schema_is_refused_and_nothing_is_written(folder: RunFolder) -> None:
    table = to_arrow(MEASUREMENTS, curve("a", range(3))).drop_columns(["examples"])
    with pytest.raises(InputError, match="needs the column 'examples'"):
        folder.append_table(MEASUREMENTS, table, 0)
    assert folder.parts(MEASUREMENTS) == []


def test_broken_columns_are_named_with_their_part(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run/measurements").mkdir(parents=True)
    path = tmp_path / "run/measurements/000000-000000.parquet"
    good = to_arrow(MEASUREMENTS, curve("a", range(3)))
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
    folder.append(MEASUREMENTS, curve("a", range(1)), 0)
    folder.append(MEASUREMENTS, curve("b", range(1), accuracy=0.5), 1)
    assert folder.column_names(MEASUREMENTS) == [*MEASUREMENTS.names, "loss", "accuracy"]


def log(folder: RunFolder, number: int, *rows: tuple[Table, list[dict[str, Any]]]) -> Path:
    with begin_segment(folder.log, number, "abcdef") as segment:
        for table, some in rows:
            segment.write(record(table, to_arrow(table, some)))
        return Path(segment.name)


def steps(folder: RunFolder) -> list[tuple[str, int]]:
    table = folder.read(MEASUREMENTS)
    found = list(zip(table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True))
    batches = list(folder.scan(MEASUREMENTS, ["trial_id", "step"]))
    assert [(row["trial_id"], row["step"]) for batch in batches for row in batch.to_pylist()] == found
    return found


def test_what_is_logged_is_read_as_if_it_were_in_the_folder(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, curve("a", range(3)), 0)
    log(folder, 1, (MEASUREMENTS, curve("b", range(2), accuracy=0.5)), (TRIALS, [trial("b")]))
    assert steps(folder) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)] and trials(folder) == ["b"]
    assert "accuracy" in folder.column_names(MEASUREMENTS)
    assert folder.select(MEASUREMENTS, ["trial_id", "accuracy"], ["b"])["accuracy"].to_pylist() == [0.5, 0.5]


def test_a_segment_torn_at_any_byte_gives_its_whole_records(folder: RunFolder) -> None:
    path = log(folder, 0, *((MEASUREMENTS, curve("a", range(n, n + 1))) for n in range(3)))
    whole = path.read_bytes()
    size = len(whole) // 3
    for length in range(0, len(whole) + 1, 97):
        path.write_bytes(whole[:length])
        rows = read_log([path])
        assert (rows["measurements"].num_rows if rows else 0) == length // size
    torn = bytearray(whole)
    torn[size + 100] ^= 1  # as after a machine went down: the length is right, the content is not
    path.write_bytes(torn)
    assert read_log([path])["measurements"].num_rows == 1


def test_rows_that_are_in_the_folder_too_are_read_once(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, curve("a", range(4)), 0)
    folder.append(TRIALS, [trial("done")], 0)
    log(folder, 1, (MEASUREMENTS, curve("a", range(2, 6))), (TRIALS, [trial("done"), trial("a")]))
    log(folder, 2, (MEASUREMENTS, curve("a", range(5, 7))), (TRIALS, [trial("a")]))
    assert steps(folder) == [("a", step) for step in range(7)]
    assert trials(folder) == ["a", "done"]


def test_of_a_trial_that_another_machine_finished_the_log_adds_nothing(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, curve("a", range(3)), 0)  # there it was pruned at step 2, here it went on
    folder.append(TRIALS, [trial("a", 2)], 0)
    log(folder, 1, (MEASUREMENTS, curve("a", range(9))), (TRIALS, [trial("a", 8)]))
    assert steps(folder) == [("a", 0), ("a", 1), ("a", 2)]
    assert folder.read(TRIALS)["steps"].to_pylist() == [2]


def test_what_is_delivered_while_it_is_read_is_read_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = curve("a", range(3))
    segment = log(folder, 0, (MEASUREMENTS, rows), (TRIALS, [trial("a")]))
    opened = RunFolder._parts

    def deliver_first(self: RunFolder, table: Table) -> list[Part]:
        if segment.exists():
            folder.append(MEASUREMENTS, rows, 0)
            folder.append(TRIALS, [trial("a")], 0)
            segment.unlink()
        return opened(self, table)

    monkeypatch.setattr(RunFolder, "_parts", deliver_first)
    assert [(row["trial_id"], row["step"]) for row in folder.read(MEASUREMENTS).to_pylist()] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
    ]
    assert not segments(folder.log) and trials(folder) == ["a"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_log_of_a_run_on_s3_lies_in_the_users_cache_and_belongs_to_that_run(
    store: ObjectStore, cache: Path
) -> None:
    folder = store.folder("run")
    folder.write_bytes(EXPERIMENT, b"first")
    log(folder, 0, (MEASUREMENTS, curve("a", range(2))))
    assert cache in folder.log.parents and len(steps(folder)) == 2
    assert len(steps(RunFolder.at(f"s3://bucket/run/?region=us-east-1&{store.options}"))) == 2
    assert not steps(store.folder("another"))
    before = folder.log
    while folder.log == before:  # the folder was emptied and another run put there, at least a second later
        folder.write_bytes(EXPERIMENT, b"second")
    assert not steps(folder)


def test_reading_a_run_that_left_no_log_asks_the_store_for_nothing_more(store: ObjectStore, cache: Path) -> None:
    folder = store.folder("plain")
    folder.append(MEASUREMENTS, curve("a", range(2)), 0)
    with store.counted() as requests:
        folder.read(MEASUREMENTS)
    name = "/bucket/plain/measurements/000000-000000.parquet"
    listing = "GET /bucket?delimiter=/&list-type=2&max-keys=1000&prefix=plain/measurements/"
    assert requests == [listing, f"HEAD {name}", f"GET {name}"]
