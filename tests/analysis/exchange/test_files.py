"""Files of others are read in pieces or whole, and every fault is one message."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcrit.analysis.exchange.files import metrics, open_batches, read_cells, read_json, read_json_lines, table_of_rows
from bcrit.search_spaces.problems import InputError


def test_a_nan_that_was_reported_is_told_from_a_cell_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c,d,e\n1,,x,nan,True\n2,3.5,,Infinity,False\n,,y,,\n")
    log, broken = metrics(read_cells(tmp_path / "t.csv"))
    assert list(log.columns) == ["a", "b", "d"] and broken == {"d"}
    assert log["a"].tolist()[:2] == [1, 2] and log["b"].isna().tolist() == [True, False, True]
    assert log["d"].isna().all()
    rows: list[dict[str, Any]] = [{"a": 1, "l": [1]}, {"a": math.nan, "b": 2}, {"b": -math.inf}, {"b": 1.0, "t": True}]
    log, broken = metrics(table_of_rows(rows))
    assert list(log.columns) == ["a", "b"] and broken == {"a"}
    log, broken = metrics(table_of_rows([]))
    assert log.empty and not broken


def test_parquet_and_csv_give_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan], "c": ["x", "y"], "d": [1.0, math.inf]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    first, second = metrics(read_cells(tmp_path / "t.parquet")), metrics(read_cells(tmp_path / "t.csv"))
    pd.testing.assert_frame_equal(first[0], second[0])
    assert first[1] == second[1] == {"d"}


def test_json_lines_may_lack_their_end_only(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"a": NaN}\n\n{"a": 2}\n{"a"')
    assert [row["a"] for row in read_json_lines(path)][1:] == [2]
    path.write_text("")
    assert read_json_lines(path) == []


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_json_lines, '{"a": 1}\n{"a"\n{}\n', "f, line 2: 1 problem\n  - it is not readable as JSON"),
        (read_json_lines, "[1]\n", "f, line 1: 1 problem\n  - it is JSON, but not an object"),
        (read_json_lines, None, "f: 1 problem\n  - it cannot be read: No such file"),
        (read_json, "[" * 100_000, "f: 1 problem\n  - it is not readable as JSON"),
        (read_cells, "\0\xff", "f: 1 problem\n  - it cannot be read as a table"),
    ],
    ids=["a line within", "a list", "missing", "deep", "no table"],
)
def test_faults_name_the_file(
    tmp_path: Path, read: Callable[[Path], object], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "f").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "f")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pieces_together_are_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 200)
    monkeypatch.setattr("bcrit.analysis.exchange.files.ROWS", 10)
    rows = [{"name": f"a\n{i}", "step": i} for i in range(100)]
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("name,step\n" + "".join(f'"{row["name"]}",{row["step"]}\n' for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    schema, batches = open_batches(path, None)
    pieces = list(batches)
    assert schema.names == ["name", "step"] and len(pieces) > 3
    assert pa.Table.from_batches(pieces).to_pylist() == rows
