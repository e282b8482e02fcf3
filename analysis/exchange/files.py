"""Reading the files of others: every fault is one message that names the file, and nothing in them is run."""

import csv
import gzip
import io
import math
import os
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from bcrit.analysis.records.arrow_tables import parquet
from bcrit.analysis.records.json_values import loaded
from bcrit.analysis.records.number_table import is_gzip, layout_of
from bcrit.search_spaces.load import a_file
from bcrit.search_spaces.problems import InputError

# Bytes of a CSV that are parsed at once, some hundred thousand rows; what the columns hold is told by the first such
# piece where the caller does not say it. Rows of a piece of Parquet. Chosen, not studied.
BLOCK = 1 << 23
ROWS = 1 << 18
# Empty cells of a CSV from elsewhere. `nan` is not among them: among numbers it is one, as an outcome it means that
# training diverged.
NULLS = ["", "NA", "N/A", "null", "NULL", "None", *(" " * blanks for blanks in range(1, 16))]
_NOT_FINITE = {"nan", "inf", "infinity"}
STEP = "step"
_EXACT = 2.0**53  # whole numbers up to here are floats exactly
# Files that are parsed as one: at 426 rows a file about 10 MB, enough that the cost of a call does not count and little
# enough that some of them fit into memory at once. Chosen; from 64 to 1024 it makes no difference.
_FILES = 256


@contextmanager
def readable(path: Path | str, what: str = "it cannot be read") -> Iterator[None]:
    """What goes wrong within is one message on the file, in the system's words."""
    try:
        yield
    except InputError:  # a ValueError too, but ours
        raise
    except (OSError, ValueError, pa.ArrowException) as error:  # pandas' own errors are ValueErrors
        # Arrow has words of its own for a missing file, which differ by the kind of table.
        missing = isinstance(error, FileNotFoundError)
        why = "No such file or directory" if missing else getattr(error, "strerror", None) or error
        raise InputError(str(path), [f"{what}: {why}"]) from error


def folders(path: Path) -> list[Path]:
    """The folders in a folder, by name."""
    with readable(path):
        return sorted(inner for inner in path.iterdir() if inner.is_dir())


def read_text(path: Path) -> str:
    """Read a text in UTF-8, with or without byte order mark; an empty one is refused."""
    with readable(path):
        content = a_file(path).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(path), [f"it is not text in UTF-8 (byte {error.start})"]) from error
    if not text.strip():
        raise InputError(str(path), ["the file is empty"])
    return text


def read_json(path: Path) -> Any:
    """Read a JSON file; `NaN` and `Infinity`, which trackers write, are read as the floats."""
    return _parsed(read_text(path), str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object a line; the last line may be cut off, as a killed process leaves it."""
    with readable(path):
        lines = a_file(path).read_text(encoding="utf-8").splitlines()
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            row = _parsed(line, where) if line.strip() else None
        except InputError:
            if number < len(lines):
                raise
            row = None
        if not isinstance(row, dict | None):
            raise InputError(where, ["it is JSON, but not an object of names and values"])
        found += [] if row is None else [row]
    return found


def _parsed(text: str, where: str) -> Any:
    try:
        return loaded(text)
    except ValueError as error:
        raise InputError(where, [f"it is not readable as JSON: {error}"]) from error


# Tables of what was logged: None = not reported, a word = a number that is not finite.


def read_cells(path: Path) -> pd.DataFrame:
    """Read a table as it is written: a CSV's cells as texts, empty ones as None; Parquet with its own types."""
    with readable(path, "it cannot be read as a table"):
        if not is_parquet(a_file(path)):
            types = dict.fromkeys(column_names(path), pa.string())
            convert = arrow_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
            schema, batches = open_batches(path, convert)
            cells: pd.DataFrame = pa.Table.from_batches(batches, schema).to_pandas().astype(object)
            return cells.where(cells.notna(), None)
        frame: pd.DataFrame = parquet(path).read().to_pandas()
    # In Parquet a NaN may as well mean that nothing was reported, so that only infinity is a word.
    found = frame.astype(object)
    for name in frame.select_dtypes("float").columns:
        infinite = frame[name].isin([math.inf, -math.inf])
        found.loc[infinite, name] = frame.loc[infinite, name].map(str)
    return found.where(frame.notna(), None)


def table_of_rows(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as such a table."""
    spelled = [{k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in rows]
    frame = pd.DataFrame.from_records(spelled).astype(object)
    return frame.where(frame.notna(), None)


def metrics(cells: pd.DataFrame) -> tuple[pd.DataFrame, frozenset[str]]:
    """The columns of numbers, NaN where nothing finite was reported; and those whose last report was not finite."""
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


def is_parquet(path: str | Path) -> bool:
    """Whether a table is Parquet, by its ending or its first bytes; otherwise it is read as CSV."""
    return Path(path).suffix.lower() in (".parquet", ".pq") or (Path(path).is_file() and _begins(path, b"PAR1"))


def _begins(path: str | Path, mark: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(mark)) == mark


def column_names(path: str | Path) -> list[str]:
    """The columns of a table, none of which may stand twice, without the blanks around them in a CSV."""
    if is_parquet(a_file(path)):
        return list(parquet(path).schema_arrow.names)
    return layout_of(path).different


def open_batches(
    path: Path, convert: arrow_csv.ConvertOptions | None, exact: bool = False
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Open a table that need not fit into memory, Parquet or CSV of any layout: its columns and its rows.

    Rows are read as they are asked for. Where the file is damaged both steps raise what `readable` makes a message of.
    What is `exact` is CSV as it is written here, whose names may hold anything.
    """
    if is_parquet(a_file(path)):
        # A pre-buffer would hold every row group that was read until the file is closed.
        content = parquet(path, pre_buffer=False, buffer_size=1 << 20)
        return content.schema_arrow, content.iter_batches(ROWS)
    read, parse = arrow_csv.ReadOptions(block_size=BLOCK), arrow_csv.ParseOptions(newlines_in_values=True)
    if not exact:
        head = layout_of(path)
        read.column_names, read.skip_rows = head.different, head.lines
        parse.delimiter, parse.invalid_row_handler = head.delimiter, _invalid_row
        convert = convert or arrow_csv.ConvertOptions()
        convert.decimal_point = head.decimal
    stream = pa.input_stream(str(path), compression="gzip" if is_gzip(path) else None)
    reader = arrow_csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)
    if binary := [column.name for column in reader.schema if pa.types.is_binary(column.type)]:
        raise ValueError(f"column '{binary[0]}' is not text in UTF-8; save it as CSV, UTF-8")
    return reader.schema, iter(reader)


def _invalid_row(row: arrow_csv.InvalidRow) -> str:
    return "skip" if row.text.lstrip().startswith("#") else "error"


# Curves in many small files.


@dataclass
class Curves:
    """What some CSV files hold, by their place among those asked for."""

    tables: list[tuple[pa.Table, np.ndarray]] = field(default_factory=list)  # same columns, and each row's file
    unreadable: dict[int, str] = field(default_factory=dict)  # why nothing was read
    flaws: dict[int, Counter[str]] = field(default_factory=dict)  # what was passed over in files read otherwise


def stream_curves(paths: Sequence[str], types: Mapping[str, pa.DataType]) -> Iterator[tuple[range, Curves]]:
    """`read_curves` of some hundred files at a time, by threads that keep a few pieces ahead; with their places."""
    chunks = deque(range(start, min(start + _FILES, len(paths))) for start in range(0, len(paths), _FILES))
    running: deque[tuple[range, Future[Curves]]] = deque()
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        while chunks or running:
            while chunks and len(running) <= workers:
                chunk = chunks.popleft()
                running.append((chunk, pool.submit(read_curves, [paths[place] for place in chunk], types)))
            chunk, found = running.popleft()
            yield chunk, found.result()


def read_curves(paths: Sequence[str], types: Mapping[str, pa.DataType]) -> Curves:
    """Read many small CSV files with a header and a column `step`; `PATH.gz` is read where PATH is missing.

    The cost of a file is larger than that of some hundred rows: 4,000 files of 400 rows (117 MB) are imported in 6.3 s
    one by one, and in 1.4 s joined (measured; 260 MB of memory both ways). So the rows of files with equal headers are
    joined, parsed at once with types that are known beforehand, and told apart again by counting lines. Whatever that
    cannot read (ragged rows, words among the numbers) is read once more, file by file, slowly and tolerantly. The rows
    come in the order of the files within each table; `types` are those of columns that are not floats.
    """
    found = Curves()
    groups: dict[bytes, dict[int, bytes]] = {}
    for place, path in enumerate(paths):
        try:
            packed = not os.path.exists(path)
            content = gzip.decompress(a_file(f"{path}.gz").read_bytes()) if packed else a_file(path).read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            missing = isinstance(error, FileNotFoundError)
            found.unreadable[place] = "is missing" if missing else f"cannot be read: {error}"
            continue
        header, _, rows = content.partition(b"\n")
        if rows.strip():
            groups.setdefault(header, {})[place] = rows if rows.endswith(b"\n") else rows + b"\n"
        else:
            found.unreadable[place] = "has no row" if header.strip() else "is empty"
    for header, files in groups.items():
        try:
            names = _names(header)
        except ValueError as error:
            found.unreadable |= dict.fromkeys(files, str(error))
            continue
        lines = [rows.count(b"\n") for rows in files.values()]
        table = _parse(names, b"".join(files.values()), types)
        if table is not None and table.num_rows == sum(lines):
            found.tables.append((table, np.repeat(list(files), lines)))
            continue
        for place, rows in files.items():
            single = _parse(names, rows, types)
            if single is None:
                single, flaws = _tolerant(names, rows)
                found.flaws |= {place: flaws} if flaws else {}
            if single.num_rows:
                found.tables.append((single, np.full(single.num_rows, place)))
            else:
                found.unreadable[place] = "has no row that can be read"
    return found


def _names(header: bytes) -> list[str]:
    """The columns; a ValueError says what is wrong with them."""
    try:
        names = [name.strip() for name in next(csv.reader([header.decode("utf-8-sig").strip("\r\n")]), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"has a header that cannot be read: {error}") from error
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ValueError(f"has the column '{twice[0]}' twice")
    if STEP not in names:
        raise ValueError(f"has no column '{STEP}'; its columns are {', '.join(names)}")
    # A column without a name is the index that pandas writes; its name must differ from the others to be read.
    return [name or f"\0{place}" for place, name in enumerate(names)]


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
            return table.set_column(table.column_names.index(STEP), STEP, pa.array(steps.astype(np.int64)))
    return None


def _tolerant(names: list[str], rows: bytes) -> tuple[pa.Table, Counter[str]]:
    """One file row by row: what is no number becomes an empty cell, a row without a step is left out; both counted."""
    flaws, wrong = Counter[str](), Counter[str]()
    kept: list[list[float | None]] = []
    for row in csv.reader(io.StringIO(rows.decode(errors="replace").replace("\0", ""), newline="")):
        if not any(cell.strip() for cell in row):
            continue
        numbers = [_number(cell) for cell in row]
        step = numbers[names.index(STEP)] if len(row) == len(names) else 0.0
        if len(row) != len(names):
            flaws["rows with too many or too few cells"] += 1
        elif step is None or not 0 <= step < _EXACT or step != int(step):
            flaws["rows whose step is no whole number"] += 1
        else:
            kept.append(numbers)
            words = [cell.strip() not in NULLS and number is None for cell, number in zip(row, numbers, strict=True)]
            wrong.update(name for name, is_word in zip(names, words, strict=True) if is_word)
    columns = {}
    for place, name in enumerate(names):
        if name.startswith("\0"):
            continue
        if kept and wrong[name] == len(kept):
            flaws[f"column '{name}', which holds words"] = wrong[name]
            continue
        flaws += Counter({f"cells of '{name}' that are no number": wrong[name]})
        columns[name] = pa.array([row[place] for row in kept], pa.int64() if name == STEP else pa.float64())
    return pa.table(columns), flaws


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
