import gzip
import os
from pathlib import Path

import pandas as pd
import pytest

from bcrit.analysis.exchange.files import read_cells
from bcrit.analysis.records.number_table import as_numbers, read_numbers
from bcrit.runs import read_experiment_file
from bcrit.search_spaces import InputError

COLUMNS = ("batch_size", "steps")


def write(folder: Path, content: bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"batch_size\tsteps\tseed\n8\t100\t0\n16\t\t1\n", id="tabs"),
        pytest.param(b"seed; batch_size; steps\r\n0; 8; 100\r\n1; 16;\r\n", id="semicolons"),
        pytest.param(b"batch_size|steps\n8|100\n16|\n", id="bars"),
        pytest.param(b"# measured by 'us\n\nBatch_Size,STEPS\n8,100\n# a break, here, of days\n16,\n", id="comments"),
        pytest.param(b"# two runs\n# batch_size,steps\n8,100\n16,nan\n", id="numpy's header"),
        pytest.param(gzip.compress(b"batch_size,steps\n8,100\n16,\n"), id="gzip"),
        pytest.param(b'"batch_size","note\nof two; lines","steps"\n8,"a;b;c;d",100\n16,,\n', id="quoted"),
    ],
)
def test_a_table_is_read_however_it_is_divided_packed_or_commented(tmp_path: Path, content: bytes) -> None:
    table = read_numbers(write(tmp_path, content), COLUMNS)
    assert table["batch_size"].tolist() == [8, 16] and table["steps"].fillna(-1).tolist() == [100, -1]


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        (b"batch_size;steps\n8;362,5\n16;1,25e2\n", [362.5, 125]),
        (b"batch_size\tsteps\n8\t0,125\n16\t,5\n", [0.125, 0.5]),
        (b"# measured, twice\nbatch_size|steps\n8|362,5\n16|100\n", [362.5, 100]),
    ],
)
def test_where_commas_divide_no_cells_they_may_be_decimal_points(
    tmp_path: Path, content: bytes, steps: list[float]
) -> None:
    assert read_numbers(write(tmp_path, content), COLUMNS)["steps"].tolist() == steps


@pytest.mark.parametrize(
    ("content", "cell"),
    [
        (b"batch_size;steps\n1,024;300\n2,048;200\n", "'1,024'"),  # thousands, or a little more than one
        (b"batch_size;steps\n8;362,5\n16;1.024,5\n", "'1.024,5'"),
        (b"batch_size;steps\n8;362,5\n16;100.5\n", "'100.5'"),
        (b"batch_size;steps\n8;362.5\n16;100,5\n", "'100,5'"),
    ],
)
def test_a_mark_that_may_be_of_thousands_or_is_not_the_files_is_refused(
    tmp_path: Path, content: bytes, cell: str
) -> None:
    with pytest.raises(InputError, match=f"must be a number, but row . has {cell}.*; mend these cells"):
        read_numbers(write(tmp_path, content), COLUMNS)


def test_decimal_commas_among_commas_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 2 has 3 cells, .* semicolons divide the cells"):
        read_numbers(write(tmp_path, b"batch_size,steps\n8,362,5\n"), COLUMNS)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, b"bs,Steps,n\n8,7,100\n")
    table = read_numbers(path, COLUMNS, columns={"batch_size": "BS", "steps": "n"})
    assert table.to_dict("list") == {"batch_size": [8], "steps": [100]}
    for columns, message in (({"batch_size": "B"}, "there is no column 'B'"), ({"lr": "n"}, "there is no 'lr'")):
        with pytest.raises(InputError, match=message):
            read_numbers(path, COLUMNS, columns=columns)


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
        pytest.param(b"Steps,STEPS,batch_size\n1,2,3\n", "column 'steps' is missing", id="two cases"),
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


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/full", "/dev/null", "pipe"])
def test_what_may_never_end_is_not_read(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (lambda path: read_numbers(path, COLUMNS), read_cells, lambda path: read_experiment_file(Path(path))):
        with pytest.raises(InputError, match="it is no file but a device or a pipe; save what it gives in a file"):
            read(tmp_path / place)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_of_the_shell_is_read_once(packed: bool) -> None:
    reading, writing = os.pipe()
    content = b"batch_size,steps\n8,100\n"
    os.write(writing, gzip.compress(content) if packed else content)
    os.close(writing)
    try:
        assert read_numbers(f"/dev/fd/{reading}", COLUMNS)["steps"].tolist() == [100]
    finally:
        os.close(reading)


def test_many_wrong_cells_are_counted_not_listed() -> None:
    with pytest.raises(InputError, match="row 9 has 'a' and 15 more"):
        as_numbers(pd.DataFrame({"steps": ["a"] * 25}), "t", ["steps"])


def test_missing_values_of_every_kind_become_nan() -> None:
    frame = pd.DataFrame({"steps": pd.array([1, None], dtype="Int64"), "batch_size": [None, "2"]})
    assert as_numbers(frame, "t", COLUMNS).isna().to_numpy().tolist() == [[True, False], [False, True]]
