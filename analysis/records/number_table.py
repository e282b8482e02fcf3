"""Tables that people bring: how their text is laid out, and their numbers, with every problem in one message."""

import csv
import gzip
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from os import PathLike
from typing import Any

import pandas as pd

from bcrit.search_spaces import InputError
from bcrit.search_spaces.load import a_file

_DELIMITERS = ",\t;|"  # the likelier first
_GZIP = b"\x1f\x8b"
_HEAD = 1 << 20  # bytes in which the header must end; chosen
_COMMENT = "#"
# A number with a comma for the decimal point, which `1,024` need not be; one with a point.
_COMMA = re.compile(r"[+-]?(?![1-9]\d{0,2},\d{3}$)\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_POINT = re.compile(r"[+-]?[\d,]*\.\d+(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How the text of a table is laid out."""

    names: list[str]  # of its columns, without the blanks around them; one may be empty, as that of pandas' index
    delimiter: str
    lines: int  # above the first row: comments, blank lines and the header
    decimal: str = "."  # what stands before the digits of a fraction

    @property
    def different(self) -> list[str]:
        """The names, with its place for that of a column without one; one that stands twice is a ValueError."""
        if twice := [name for name, count in Counter(self.names).items() if name and count > 1]:
            raise ValueError(f"column '{twice[0]}' stands twice; keep one, or name them apart")
        return [name or f"column {place}" for place, name in enumerate(self.names, start=1)]


def is_gzip(path: str | PathLike[str]) -> bool:
    """Whether a file is packed by gzip, whatever its name."""
    with open(a_file(path), "rb") as file:
        return file.read(2) == _GZIP


def read_text(path: str | PathLike[str], size: int = -1) -> str:
    """A table's text, gzipped or not: all of it or about the first `size` bytes, without a byte order mark.

    What cannot be read, is empty or no text in UTF-8 is an OSError or ValueError that says so.
    """
    try:
        with a_file(path, piped=True).open("rb") as packed:
            with gzip.GzipFile(fileobj=packed) if packed.peek(2)[:2] == _GZIP else packed as file:
                content = file.read(size)
    except (EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"the file cannot be read: {error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not 0 <= size <= error.start + 4:  # else the piece ends within a character
            raise ValueError(f"not text in UTF-8 (byte {error.start}); save it as CSV, UTF-8") from error
        text = content[: error.start].decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("the file is not text (it has NUL bytes); save it as CSV, UTF-8")
    if not text.strip():
        raise ValueError("the file is empty; its first row must name the columns")
    return text


def layout(text: str) -> Layout:
    """The layout of a table whose text begins like this.

    Lines above the header that begin with `#` are comments; the last of them is the header where it has as many cells
    as the line below, which has numbers among them, as `numpy.savetxt` writes it. The character that divides the header
    into the most cells divides all rows, and where that is no comma, commas may be decimal points. A header that is no
    CSV is a ValueError.
    """
    lines, above, header = io.StringIO(text, newline=None), list[str](), ""
    for line in lines:
        if line.strip() and not line.lstrip().startswith(_COMMENT):
            header = line
            break
        above.append(line)
    comment = next((line.strip().lstrip(_COMMENT) for line in reversed(above) if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda mark: len(_cells(header or comment, mark)))
    below, named = _cells(header, delimiter), _cells(comment, delimiter)
    if comment and len(named) == len(below) and any(map(_is_number, below)) and not any(map(_is_number, named)):
        return Layout(named, delimiter, len(above), _decimal(chain([header], lines), delimiter))
    # A quoted name may go over several lines.
    reader = csv.reader(chain([header], lines), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"not readable as CSV in row {len(above) + reader.line_num}: {error}") from error
    return Layout(names, delimiter, len(above) + reader.line_num, _decimal(lines, delimiter))


def _decimal(rows: Iterable[str], delimiter: str) -> str:
    """The mark of fractions in rows that commas do not divide, as spreadsheets write them in half of Europe.

    The first number that tells decides; the other kind is no number then.
    """
    for cell in () if delimiter == "," else chain.from_iterable(_cells(row, delimiter) for row in rows):
        if _COMMA.fullmatch(cell) or _POINT.fullmatch(cell):
            return "," if _COMMA.fullmatch(cell) else "."
    return "."


def layout_of(path: str | PathLike[str]) -> Layout:
    """The layout of the table in a file."""
    return layout(read_text(path, _HEAD))


def is_comment(cells: Sequence[str], n_columns: int) -> bool:
    """Whether a line below the header is a comment: it begins with `#`, and has not the cells of a row."""
    return len(cells) != n_columns and bool(cells) and cells[0].lstrip().startswith(_COMMENT)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


LARGEST = 1e100
"""No count or time of anything is as large; products of two remain floats."""
NO_COLUMNS: Mapping[str, str] = {}  # every column is called as it is here
_SHOWN = 10  # cells quoted in one message; chosen, not studied


def read_numbers(
    path: str | PathLike[str],
    required: Sequence[str],
    optional: Sequence[str] = (),
    texts: Sequence[str] = (),
    columns: Mapping[str, str] = NO_COLUMNS,
) -> pd.DataFrame:
    """Read the named columns of a CSV file as floats, and `texts` as text; other columns are ignored.

    The file is a table as `bcrit.analysis.records.number_table` reads it. `columns` says what a column is called in it;
    names that differ in case or blanks are one where that leaves no doubt. A cell is NaN where it is empty; the index
    `row` is the line in the file, counted from 1. An InputError names everything that is wrong with the file.
    """
    where = str(path)
    header, lines, rows, decimal = _rows(path, where)
    wanted = [*required, *optional, *texts]
    if unknown := sorted(set(columns) - set(wanted)):
        raise InputError("--columns", [f"there is no '{unknown[0]}' to name here; there are {', '.join(wanted)}"])
    if absent := [there for there in columns.values() if found_column(there, header) is None]:
        raise InputError(where, [f"there is no column '{absent[0]}'; the columns are {', '.join(header)}"])
    here = {found_column(columns.get(name, name), header): name for name in wanted}
    header = [here.get(name, "" if name in wanted else name) for name in header]
    problems = [
        f"column '{name}' stands {header.count(name)} times; keep one" for name in wanted if header.count(name) > 1
    ]
    problems += [
        f"row {line} has {len(row)} cells, but the header has {len(header)}; mend the row"
        f"{' (where commas are decimal points, semicolons divide the cells)' if 1 < len(header) < len(row) else ''}"
        for line, row in zip(lines, rows, strict=True)
        if len(row) != len(header)
    ]
    if problems:
        raise InputError(where, problems)
    frame = pd.DataFrame(rows, columns=pd.Index(header), index=pd.Index(lines, name="row"), dtype=object)
    numbers = as_numbers(frame, where, required, optional, decimal)
    return numbers.assign(**{name: frame[name] for name in texts if name in frame})


def named_columns(text: str) -> dict[str, str]:
    """The option --columns, `batch_size=bs,steps=n`: what a column is called there, by what it is here."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if wrong := [left for left, sign, right in pairs if not (left.strip() and sign and right.strip())]:
        rule = "it reads NAME=COLUMN,NAME=COLUMN"
        raise InputError("--columns", [f"{rule}, but '{wrong[0]}' has no '=' with something on both sides"])
    return {left.strip(): right.strip() for left, _, right in pairs}


def usual(name: str) -> str:
    """A name as those that are looked for are written: `batch_size` for `Batch Size` and `batch-size`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def found_column(name: str, columns: Sequence[str]) -> str | None:
    """The column of this name, or the only one that is `usual` for it; None where there is none."""
    if name in columns:
        return name
    wanted = usual(name)
    alike = [column for column in columns if usual(column) == wanted]
    return alike[0] if len(alike) == 1 else None


def as_numbers(
    frame: pd.DataFrame, where: str, required: Sequence[str], optional: Sequence[str] = (), decimal: str = "."
) -> pd.DataFrame:
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
            cells = [_number(cell, decimal) for cell in frame[name]]
            if count := cells.count(None):
                rows = zip(frame.index, frame[name], cells, strict=True)
                first = islice(((row, cell) for row, cell, number in rows if number is None), _SHOWN)
                wrong = [f"row {row} has {cell!r}" for row, cell in first]
                more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
                marks = " (no marks of thousands, and one decimal mark in a file)" if "," in "".join(wrong) else ""
                problems.append(f"'{name}' must be a number, but {', '.join(wrong)}{more}; mend these cells{marks}")
            columns[name] = [math.nan if number is None else number for number in cells]
    if problems:
        raise InputError(where, problems)
    return pd.DataFrame(columns, index=frame.index, dtype=float)


def _rows(path: str | PathLike[str], where: str) -> tuple[list[str], list[int], list[list[str]], str]:
    """The columns, the line in the file of each row, its cells, and the mark of fractions.

    Comments and lines without content are left out.
    """
    try:
        text = read_text(path)
        head = layout(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None)
        remedy = "give the path of a CSV file or of a run folder"
        raise InputError(where, [f"cannot be read ({reason}); {remedy}" if reason else str(error)]) from error
    below = islice(io.StringIO(text, newline=""), head.lines, None)
    reader = csv.reader(below, delimiter=head.delimiter, strict=True)
    try:
        found = [(head.lines + reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(where, [f"not readable as CSV in row {head.lines + reader.line_num}: {error}"]) from error
    found = [(line, row) for line, row in found if any(row) and not is_comment(row, len(head.names))]
    return head.names, [line for line, _ in found], [row for _, row in found], head.decimal


def _number(cell: Any, decimal: str) -> float | None:
    """The cell as a float, NaN if it is empty, None if it is neither."""
    if cell is None or cell is pd.NA or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    try:
        if decimal != "." and isinstance(cell, str):
            cell = cell.translate({ord("."): "?", ord(decimal): "."})  # a point is no number then
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
