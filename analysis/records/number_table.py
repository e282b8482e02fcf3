"""Tables of numbers that people bring: CSV files read strictly, with every problem in one message."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from bcrit.search_spaces import InputError

LARGEST = 1e100
"""No count or time of anything is as large; products of two remain floats."""
_SHOWN = 10  # cells quoted in one message; chosen, not studied


def read_numbers(
    path: str | PathLike[str], required: Sequence[str], optional: Sequence[str] = (), texts: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the named columns of a CSV file as floats, and `texts` as text; other columns are ignored.

    The file is separated by commas, in UTF-8 with or without byte order mark, and its first row names the columns. A
    cell is NaN where it is empty; the index `row` is the line in the file, the header being 1. An InputError names
    everything that is wrong with the file.
    """
    where = str(path)
    header, lines, rows = _cells(_text(path, where), where)
    wanted = [*required, *optional, *texts]
    problems = [
        f"column '{name}' stands {header.count(name)} times; keep one" for name in wanted if header.count(name) > 1
    ]
    problems += [
        f"row {line} has {len(row)} cells, but the header has {len(header)}; mend the row"
        for line, row in zip(lines, rows, strict=True)
        if len(row) != len(header)
    ]
    if problems:
        raise InputError(where, problems)
    frame = pd.DataFrame(rows, columns=pd.Index(header), index=pd.Index(lines, name="row"), dtype=object)
    numbers = as_numbers(frame, where, required, optional)
    return numbers.assign(**{name: frame[name] for name in texts if name in frame})


def as_numbers(frame: pd.DataFrame, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Take the named columns of a frame as floats; missing values and empty strings become NaN, the index is kept.

    A column that is missing, a cell that is not a number, or a table without a row is an InputError.
    """
    problems = [
        f"column '{name}' is missing; the columns are {', '.join(map(str, frame.columns)) or 'none'}"
        for name in required
        if name not in frame.columns
    ]
    if frame.empty:
        problems.append("there is no row below the header; add one row a measurement")
    columns = {}
    for name in (*required, *optional):
        if name in frame.columns:
            cells = [_number(cell) for cell in frame[name]]
            wrong = [
                f"row {row} has {cell!r}"
                for row, cell, number in zip(frame.index, frame[name], cells, strict=True)
                if number is None
            ]
            if wrong:
                more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
                problems.append(f"'{name}' must be a number, but {', '.join(wrong[:_SHOWN])}{more}; mend these cells")
            columns[name] = [math.nan if number is None else number for number in cells]
    if problems:
        raise InputError(where, problems)
    return pd.DataFrame(columns, index=frame.index, dtype=float)


def _text(path: str | PathLike[str], where: str) -> str:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(where, [f"not text in UTF-8 (byte {error.start}); save it as CSV, UTF-8"]) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            where,
            [f"cannot be read ({reason}); give the path of a CSV file or of a run folder"],
        ) from error
    if not text.strip():
        raise InputError(where, ["the file is empty; its first row must name the columns"])
    if "\0" in text:
        raise InputError(where, ["the file is not text (it has NUL bytes); save it as CSV, UTF-8"])
    return text


def _cells(text: str, where: str) -> tuple[list[str], list[int], list[list[str]]]:
    """Split into header, line in the file of each row, and cells; lines without any content are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(where, [f"not readable as CSV in row {reader.line_num}: {error}"]) from error
    found = [(line, row) for line, row in found if any(row)]
    header = found[0][1]
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise InputError(where, [f"columns must be separated by commas, but the header is {header[0]!r}; export again"])
    return header, [line for line, _ in found[1:]], [row for _, row in found[1:]]


def _number(cell: Any) -> float | None:
    """The cell as a float, NaN if it is empty, None if it is neither."""
    if cell is None or cell is pd.NA or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
