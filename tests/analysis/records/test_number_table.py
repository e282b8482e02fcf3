from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bcrit.analysis.records.number_table import as_numbers, read_numbers
from bcrit.search_spaces import InputError

COLUMNS = ("batch_size", "steps")


def write(folder: Path, content: bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content)
    return path


def test_a_table_is_read_with_the_lines_of_the_file_as_its_index(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfsteps, batch_size ,who\r\n100,8,ann\r\n\r\n ,16,bob\r\ninf,32,\r\n,,\r\n1e2,64.0,x\r\n"
    table = read_numbers(write(tmp_path, content), COLUMNS, ["max_steps"])
    expected = pd.DataFrame(
        {"batch_size": [8.0, 16.0, 32.0, 64.0], "steps": [100.0, float("nan"), float("inf"), 100.0]},
        index=pd.Index([2, 4, 5, 7], name="row"),
    )
    pd.testing.assert_frame_equal(table, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"\xef\xbb\xbf \n\n", "the file is empty", id="blank"),
        pytest.param(b"batch_size,steps\n", "there is no row below the header", id="header-only"),
        pytest.param(
            b"batch,steps\n1,2\n", "column 'batch_size' is missing; the columns are batch, steps", id="missing"
        ),
        pytest.param(b"batch_size;steps\n1;2\n", "separated by commas", id="semicolons"),
        pytest.param(b"batch_size,steps,steps\n1,2,3\n", "column 'steps' stands 2 times", id="duplicated"),
        pytest.param(b"batch_size,steps\n1,2\n3\n", "row 3 has 1 cells, but the header has 2", id="ragged"),
        pytest.param(b"batch_size,steps\n1,2\n4,fast\n", "'steps' must be a number, but row 3 has 'fast'", id="word"),
        pytest.param(b'batch_size,steps\n1,"2\n', "not readable as CSV", id="open-quote"),
        pytest.param(b"\xff\xfeb\x00a\x00", "not text in UTF-8", id="utf-16"),
        pytest.param(b"batch_size,steps\n1,\x002\n", "NUL bytes", id="nul"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_numbers(write(tmp_path, content), COLUMNS)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_numbers(write(tmp_path, b"batch_size,max_steps\nx,1\n2,y\n"), COLUMNS, ["max_steps"])
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("path", ["missing.csv", ".", "a\0b"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_numbers(f"{tmp_path}/{path}", COLUMNS)


def test_many_wrong_cells_are_counted_not_listed() -> None:
    with pytest.raises(InputError, match="row 9 has 'a' and 15 more"):
        as_numbers(pd.DataFrame({"steps": ["a"] * 25}), "t", ["steps"])


def test_missing_values_of_every_kind_become_nan() -> None:
    frame = pd.DataFrame({"steps": pd.array([1, None], dtype="Int64"), "batch_size": [None, "2"]})
    assert as_numbers(frame, "t", COLUMNS).isna().to_numpy().tolist() == [[True, False], [False, True]]
