"""A table is read in pieces, and a text with a line break is not cut."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcrit.analysis.exchange.files import open_batches


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


def test_an_empty_file_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(pa.ArrowInvalid, match="Empty CSV file"):
        open_batches(tmp_path / "t.csv", None)
