"""Reading the files of others: every fault is one message that names the file, and nothing in them is run."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from bcrit.search_spaces.problems import InputError

# Bytes of a CSV that are parsed at once, some hundred thousand rows; what the columns hold is told by the first such
# piece where the caller does not say it. Rows of a piece of Parquet. Chosen, not studied.
BLOCK = 1 << 23
ROWS = 1 << 18
# Empty cells of a CSV from elsewhere. `nan` is not among them: among numbers it is one, as an outcome it means that
# training diverged.
NULLS = ["", "NA", "N/A", "null", "NULL", "None"]
_NOT_FINITE = {"nan", "inf", "infinity"}
STEP = "step"
_BOM = b"\xef\xbb\xbf"
_EXACT = 2.0**53  # whole numbers up to here are floats exactly
# The types of columns by name, as exports write them down and imports read them.
TYPES = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
_Lines = tuple[int, bytes]
"""The index of a file and its rows."""


def read_text(path: Path) -> str:
    """Read a text in UTF-8, with or without byte order mark; an empty one is refused."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(path), [f"it is not text in UTF-8 (byte {error.start})"]) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not text.strip():
        raise InputError(str(path), ["the file is empty"])
    return text


def unreadable(path: Path | str, error: Exception, how: str = "read", what: str = "it") -> InputError:
    """One message why a file cannot be read, in the system's words; Arrow says of a missing one only its path."""
    missing = "No such file or directory" if isinstance(error, FileNotFoundError) else error
    return InputError(str(path), [f"{what} cannot be {how}: {getattr(error, 'strerror', None) or missing}"])


def read_json(path: Path) -> Any:
    """Read a JSON file; `NaN` and `Infinity`, which trackers write, are read as the floats."""
    return _parsed(read_text(path), str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object a line; the last line may be cut off, as a killed process leaves it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _parsed(line, f"{path}, line {number}")
        except InputError:
            if number == len(lines):
                break
            raise
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}", ["it is JSON, but not an object of names and values"])
        found.append(row)
    return found


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(where, [f"it is not readable as JSON: {error}"]) from error


def read_cells(path: Path) -> pd.DataFrame:
    """Read a table as it is written: a CSV's cells as texts, empty ones as None; Parquet with its own types."""
    try:
        if path.suffix.lower() == ".parquet":
            return _with_words(pd.read_parquet(path))
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' and Arrow's own errors are ValueErrors
        raise unreadable(path, error, "read as a table") from error
    return cells.astype(object).where(cells != "", None)


def _with_words(frame: pd.DataFrame) -> pd.DataFrame:
    """Infinite floats as words, as in a CSV; in Parquet a NaN may as well mean that nothing was reported."""
    found = frame.astype(object)
    for name in frame.select_dtypes("float").columns:
        infinite = frame[name].isin([math.inf, -math.inf])
        found.loc[infinite, name] = frame.loc[infinite, name].map(str)
    return found.where(frame.notna(), None)


def table_of_rows(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame in which None is "not reported", and a NaN or infinity that was reported is a word."""
    spelled = [{k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in rows]
    frame = pd.DataFrame.from_records(spelled).astype(object)
    return frame.where(frame.notna(), None)


def metrics(cells: pd.DataFrame) -> tuple[pd.DataFrame, frozenset[str]]:
    """The numeric columns of what was logged, one row a report: None = not reported, a word = not finite.

    Given back are the numbers as floats, NaN where nothing finite was reported, without columns of texts or truth
    values; and the columns whose last report was not finite.
    """
    columns, broken = {}, set()
    for name in cells.columns:
        given = cells[name].dropna()
        if given.empty or given.map(lambda value: isinstance(value, bool | list | dict)).any():
            continue
        numbers = pd.to_numeric(given, errors="coerce").astype(float)
        finite = numbers.map(math.isfinite)
        if not given[~finite].map(lambda value: str(value).strip().lower().lstrip("+-") in _NOT_FINITE).all():
            continue
        columns[str(name)] = numbers.where(finite).reindex(cells.index)
        if not finite.iloc[-1]:
            broken.add(str(name))
    return pd.DataFrame(columns, index=cells.index, dtype=float), frozenset(broken)


def open_batches(path: Path, convert: arrow_csv.ConvertOptions | None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Open a table that need not fit into memory, Parquet by its ending or else CSV: its columns and its rows.

    Rows are read as they are asked for. Both steps raise `pa.ArrowException` or `OSError` where the file is damaged.
    """
    if is_parquet(path):
        # A pre-buffer would hold every row group that was read until the file is closed.
        content = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        return content.schema_arrow, content.iter_batches(ROWS)
    reader = arrow_csv.open_csv(
        path,
        read_options=arrow_csv.ReadOptions(block_size=BLOCK),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )
    return reader.schema, iter(reader)


def is_parquet(path: str | Path) -> bool:
    """Whether a table's name says that it is Parquet; otherwise it is read as CSV."""
    return Path(path).suffix in (".parquet", ".pq")


@dataclass
class Found:
    """What some files hold, by their index."""

    tables: list[tuple[pa.Table, np.ndarray]] = field(default_factory=list)  # same columns, and each row's file
    unreadable: dict[int, str] = field(default_factory=dict)  # why nothing was read
    flaws: dict[int, dict[str, int]] = field(default_factory=dict)  # what was passed over in files read otherwise


def read_curves(paths: Sequence[str], types: Mapping[str, pa.DataType]) -> Found:
    """Read many small CSV files with a header and a column `step`; `PATH.gz` is read where PATH is missing.

    The cost of a file is larger than that of some hundred rows: 4,000 files of 400 rows (117 MB) are imported in 6.3 s
    one by one, and in 1.4 s joined (measured; 260 MB of memory both ways). So the rows of files with equal headers are
    joined, parsed at once with types that are known beforehand, and told apart again by counting lines. Whatever that
    cannot read (ragged rows, words among the numbers) is read once more, file by file, slowly and tolerantly. The rows
    come in the order of the files within each table; `types` are those of columns that are not floats.
    """
    found = Found()
    groups: dict[bytes, list[_Lines]] = {}
    for index, path in enumerate(paths):
        try:
            content = _content(path)
        except (OSError, EOFError) as error:
            missing = isinstance(error, FileNotFoundError)
            found.unreadable[index] = "is missing" if missing else f"cannot be read: {error}"
            continue
        header, _, rows = content.partition(b"\n")
        if rows.strip():
            groups.setdefault(header, []).append((index, rows if rows.endswith(b"\n") else rows + b"\n"))
        else:
            found.unreadable[index] = "has no row" if header.strip() else "is empty"
    for header, files in groups.items():
        _read_group(header, files, types, found)
    return found


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        with gzip.open(path + ".gz") as file:
            return file.read()


def _read_group(header: bytes, files: list[_Lines], types: Mapping[str, pa.DataType], found: Found) -> None:
    names, problem = _names(header)
    if problem:
        found.unreadable |= {index: problem for index, _ in files}
        return
    lines = [rows.count(b"\n") for _, rows in files]
    table = _parse(names, b"".join(rows for _, rows in files), types)
    if table is not None and table.num_rows == sum(lines):
        found.tables.append((table, np.repeat([index for index, _ in files], lines)))
        return
    for index, rows in files:
        single = _parse(names, rows, types)
        flaws: dict[str, int] = {}
        if single is None:
            single = _tolerant(names, rows, flaws)
        if flaws:
            found.flaws[index] = flaws
        if single.num_rows:
            found.tables.append((single, np.full(single.num_rows, index)))
        else:
            found.unreadable[index] = "has no row that can be read"


def _names(header: bytes) -> tuple[list[str], str | None]:
    try:
        names = [name.strip() for name in next(csv.reader([header.removeprefix(_BOM).decode().strip("\r\n")]), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        return [], f"has a header that cannot be read: {error}"
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        return [], f"has the column '{twice[0]}' twice"
    if STEP not in names:
        return [], f"has no column '{STEP}'; its columns are {', '.join(names)}"
    # A column without a name is the index that pandas writes; its name must differ from the others to be read.
    return [name or f"\0{place}" for place, name in enumerate(names)], None


def _parse(names: list[str], rows: bytes, types: Mapping[str, pa.DataType]) -> pa.Table | None:
    """All rows at once; None where a cell is not of its column's type. Steps written as 100.0 are tried too."""
    for step in (pa.int64(), pa.float64()):
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(rows),
                arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 22),
                arrow_csv.ParseOptions(newlines_in_values=False),
                arrow_csv.ConvertOptions(
                    column_types={name: types.get(name, pa.float64()) for name in names} | {STEP: step},
                    null_values=NULLS,
                    include_columns=[name for name in names if not name.startswith("\0")],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            continue
        steps = table[STEP].to_numpy()
        if table[STEP].null_count or (len(steps) and (steps.min() < 0 or steps.max() >= _EXACT)):
            continue
        if (steps == np.floor(steps)).all():
            whole = pa.array(steps.astype(np.int64))
            return table if step == pa.int64() else table.set_column(table.column_names.index(STEP), STEP, whole)
    return None


def _tolerant(names: list[str], rows: bytes, flaws: dict[str, int]) -> pa.Table:
    """One file row by row: what is no number becomes an empty cell, a row without a step is left out; both counted."""
    cells: list[list[float | None]] = []
    wrong = dict.fromkeys(names, 0)
    for row in csv.reader(io.StringIO(rows.decode(errors="replace").replace("\0", ""), newline="")):
        numbers = [_number(cell) for cell in row]
        flaw = "rows with too many or too few cells"
        if len(row) == len(names):
            step = numbers[names.index(STEP)]
            whole = step is not None and 0 <= step < _EXACT and step == int(step)
            flaw = "" if whole else "rows whose step is no whole number"
        if flaw:
            if any(cell.strip() for cell in row):
                flaws[flaw] = flaws.get(flaw, 0) + 1
            continue
        for name, cell, number in zip(names, row, numbers, strict=True):
            wrong[name] += number is None and cell.strip() not in NULLS
        cells.append(numbers)
    columns = {}
    for place, name in enumerate(names):
        if name.startswith("\0") or (wrong[name] and wrong[name] == len(cells)):
            if wrong[name]:
                flaws[f"column '{name}', which holds words"] = wrong[name]
            continue
        if wrong[name]:
            flaws[f"cells of '{name}' that are no number"] = wrong[name]
        columns[name] = pa.array([row[place] for row in cells], pa.int64() if name == STEP else pa.float64())
    return pa.table(columns)


def _number(cell: str) -> float | None:
    cell = cell.strip()
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
