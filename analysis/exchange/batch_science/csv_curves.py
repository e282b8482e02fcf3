"""Reading many small CSV files of measurements fast: those with the same header are parsed as one.

A parser's cost per file is larger than that of some hundred rows. So the rows of files with equal headers are joined,
parsed at once with types that are known beforehand, and told apart again by counting lines. Whatever that cannot read
(ragged rows, words among the numbers) is read once more, file by file, slowly and tolerantly.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

STEP = "step"
_NULLS = ["", "NA", "N/A", "null", "NULL", "None"]
_BOM = b"\xef\xbb\xbf"
_EXACT = 2.0**53  # whole numbers up to here are floats exactly


@dataclass
class Found:
    """What some files hold.

    Attributes:
        tables: rows with the same columns, and for each row the index of its file.
        unreadable: why nothing was read, by the index of the file.
        flaws: what was passed over in files that were read otherwise, with counts, by the index of the file.
    """

    tables: list[tuple[pa.Table, np.ndarray]] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    flaws: dict[int, dict[str, int]] = field(default_factory=dict)


def read_curves(paths: Sequence[str], types: Mapping[str, pa.DataType]) -> Found:
    """Read files of measurements.

    Args:
        paths: CSV files with a header and a column `step`; `PATH.gz` is read where PATH is missing.
        types: of columns that are not floats.

    Returns:
        Their rows, in the order of the files within each table.
    """
    found = Found()
    groups: dict[bytes, list[tuple[int, bytes | memoryview]]] = {}
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


def _read_group(
    header: bytes, files: list[tuple[int, bytes | memoryview]], types: Mapping[str, pa.DataType], found: Found
) -> None:
    names, problem = _names(header)
    if problem:
        found.unreadable |= {index: problem for index, _ in files}
        return
    lines = [bytes(rows).count(b"\n") for _, rows in files]
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


def _parse(names: list[str], rows: bytes | memoryview, types: Mapping[str, pa.DataType]) -> pa.Table | None:
    """All rows at once; None where a cell is not of its column's type. Steps written as 100.0 are tried too."""
    for step in (pa.int64(), pa.float64()):
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(rows),
                arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 22),
                arrow_csv.ParseOptions(newlines_in_values=False),
                arrow_csv.ConvertOptions(
                    column_types={name: types.get(name, pa.float64()) for name in names} | {STEP: step},
                    null_values=_NULLS,
                    include_columns=[name for name in names if not name.startswith("\0")],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            continue
        if (whole := _with_whole_steps(table)) is not None:
            return whole
    return None


def _with_whole_steps(table: pa.Table) -> pa.Table | None:
    steps = table[STEP]
    if steps.null_count:
        return None
    values = steps.to_numpy()
    if len(values) and (values.min() < 0 or values.max() >= _EXACT or not (values == np.floor(values)).all()):
        return None
    if steps.type == pa.int64():
        return table
    return table.set_column(table.column_names.index(STEP), STEP, pa.array(values.astype(np.int64)))


def _tolerant(names: list[str], rows: bytes | memoryview, flaws: dict[str, int]) -> pa.Table:
    """One file row by row: what is no number becomes an empty cell, a row without a step is left out; both counted."""
    cells: list[list[float | None]] = []
    wrong = dict.fromkeys(names, 0)
    text = bytes(rows).decode(errors="replace").replace("\0", "")
    for row in csv.reader(io.StringIO(text, newline="")):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            flaws["rows with too many or too few cells"] = flaws.get("rows with too many or too few cells", 0) + 1
            continue
        numbers = [_number(cell) for cell in row]
        step = numbers[names.index(STEP)]
        if step is None or not 0 <= step < _EXACT or step != int(step):
            flaws["rows whose step is no whole number"] = flaws.get("rows whose step is no whole number", 0) + 1
            continue
        for name, cell, number in zip(names, row, numbers, strict=True):
            wrong[name] += number is None and cell.strip() not in _NULLS
        cells.append(numbers)
    columns = {}
    for place, name in enumerate(names):
        values = [row[place] for row in cells]
        if name.startswith("\0") or (wrong[name] and wrong[name] == len(cells)):
            if wrong[name]:
                flaws[f"column '{name}', which holds words"] = wrong[name]
            continue
        if wrong[name]:
            flaws[f"cells of '{name}' that are no number"] = wrong[name]
        columns[name] = pa.array(values, pa.float64())
    table = pa.table(columns)
    return table.set_column(table.column_names.index(STEP), STEP, pc.cast(table[STEP], pa.int64()))


def _number(cell: str) -> float | None:
    cell = cell.strip()
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


__all__ = ["Found", "read_curves"]
