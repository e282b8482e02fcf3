"""Which parts of a table count."""

from __future__ import annotations

from pathlib import Path

from pyarrow import fs

from analysis.parted_tables import PartedTables, part_name
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
