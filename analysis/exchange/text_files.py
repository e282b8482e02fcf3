"""Reading the text files of others: every fault is one message that names the file, and nothing in them is run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bcrit.search_spaces.problems import InputError


def read_text(path: Path) -> str:
    """Read a text file.

    Args:
        path: UTF-8, with or without byte order mark.

    Returns:
        Its text.

    Raises:
        InputError: it is not there, or no text, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(path), [f"it is not text in UTF-8 (byte {error.start})"]) from error
    except (OSError, ValueError) as error:
        raise InputError(str(path), [f"it cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    if not text.strip():
        raise InputError(str(path), ["the file is empty"])
    return text


def read_json(path: Path) -> Any:
    """Read a JSON file; `NaN` and `Infinity`, which trackers write, are read as the floats.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """  # noqa: DOC502  (raised below)
    return _parsed(read_text(path), str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object a line.

    The last line may be cut off, as a killed process leaves it; it is then left out.

    Args:
        path: the file; an empty one holds no object.

    Returns:
        The objects.

    Raises:
        InputError: it cannot be read, or a line before the last is not a JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(str(path), [f"it cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
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
    """Read a table as it is written: a CSV's cells as texts, empty ones as None; Parquet with its own types.

    Args:
        path: `.parquet`, or a CSV whose first row names the columns.

    Returns:
        One row a line.

    Raises:
        InputError: it cannot be read, or has no column.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _with_words(pd.read_parquet(path))
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' and Arrow's own errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), [f"it cannot be read as a table: {reason}"]) from error
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
    """The numeric columns of what was logged.

    Args:
        cells: one row a report; None where a column was not reported, a word where its value was not finite.

    Returns:
        (numbers as floats, NaN where nothing finite was reported; columns whose last report was not finite). Columns
        of texts or truth values are left out.
    """
    columns, broken = {}, set()
    for name in cells.columns:
        given = cells[name].dropna()
        if given.empty or given.map(lambda value: isinstance(value, bool | list | dict)).any():
            continue
        numbers = pd.to_numeric(given, errors="coerce").astype(float)
        finite = numbers.map(math.isfinite)
        words = given[~finite].map(lambda value: str(value).strip().lower().lstrip("+-") in _NOT_FINITE)
        if not words.all():
            continue
        columns[str(name)] = numbers.where(finite).reindex(cells.index)
        if not finite.iloc[-1]:
            broken.add(str(name))
    return pd.DataFrame(columns, index=cells.index, dtype=float), frozenset(broken)


_NOT_FINITE = {"nan", "inf", "infinity"}

__all__ = ["metrics", "read_cells", "read_json", "read_json_lines", "read_text", "table_of_rows"]
