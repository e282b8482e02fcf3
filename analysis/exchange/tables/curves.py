"""Somebody's table of measurements, one row an evaluation, read twice: to check it whole, then trial after trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.names import metric_names
from bcrit.analysis.exchange.tables.batches import open_batches
from bcrit.analysis.exchange.tables.mapping import SPELLINGS, Mapped, assign, missing_column
from bcrit.analysis.exchange.tables.rows import SHOWN, Row
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

# Empty cells. `nan` is not among them: among numbers it is one, as an outcome it means that training diverged.
NULLS = ["", "NA", "N/A", "null", "NULL", "None"]


class TableCurves:
    """Iterates over tables of measurements of whole trials.

    Where the rows of each trial stand together the memory is that of some hundred thousand rows; where trials
    interleave the table is held whole.
    """

    def __init__(self, path: str, rows: Sequence[Row], mapped: Mapped, target: Target, notes: Notes) -> None:
        """Read the file once and check every row.

        Args:
            path: CSV or Parquet. What the columns of a CSV hold is told by its first 8 MB.
            rows: of the trials table.
            mapped: which column is what.
            target: whose metric must be there.
            notes: receives what was guessed and left out.

        Raises:
            InputError: columns are missing, steps are no whole numbers, or trials have no row.
        """
        self._path = path
        self._sizes = {row["trial_id"]: row["batch_size"] for row in rows}
        try:
            words = dict.fromkeys(trial_names(path, mapped), pa.string())
            schema, _ = open_batches(Path(path), _options(words, []))
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise InputError(path, [f"the table cannot be read: {error}"]) from error
        self._roles, guessed = assign(mapped, schema.names, True, path)
        if problems := [missing_column(role, schema.names) for role in ("trial_id", "step") if role not in self._roles]:
            raise InputError(path, problems)
        if guessed:
            pairs = ", ".join(map(" = ".join, guessed.items()))
            notes.add(f"Columns of the measurements taken by their names: {pairs}")
        free = [name for name in schema.names if name not in self._roles.values()]
        numeric = [name for name in free if _is_number(schema.field(name).type)]
        if left := [name for name in free if name not in numeric]:
            notes.add(f"Columns of the measurements left out because they hold no numbers: {', '.join(left)}")
        self._metrics = metric_names(numeric)
        if target.metric not in self._metrics.values():
            known = ", ".join(self._metrics.values()) or "none"
            raise InputError(path, [f"the target's metric '{target.metric}' is no column; the metrics are {known}"])
        self._together = self._survey()

    def __iter__(self) -> Iterator[pa.Table]:
        """Read.

        Yields:
            Whole trials: columns of the measurements table, then the metrics.
        """
        if not self._together:
            yield pa.concat_tables(self._tables())
            return
        held: list[pa.Table] = []  # rows of the last trial, which may go on
        for data in self._tables():
            ids = data["trial_id"]
            others = np.flatnonzero(pc.not_equal(ids, ids[-1]).to_numpy())
            begin = int(others[-1]) + 1 if len(others) else 0
            goes_on = bool(held) and held[0]["trial_id"][0].as_py() == ids[0].as_py()
            if begin or (held and not goes_on):
                yield pa.concat_tables([*held, data.slice(0, begin)])
                held = []
            held.append(data.slice(begin))
        if held:
            yield pa.concat_tables(held)

    def _survey(self) -> bool:
        """Check every row, and tell whether the rows of each trial stand together.

        Raises:
            InputError: trials have no row in the table of trials.
        """
        strangers: dict[str, None] = {}
        finished, together, last = set[str](), True, None
        for data in self._tables():
            ids = data["trial_id"].combine_chunks().dictionary_encode()
            names, code = ids.dictionary.to_pylist(), ids.indices.to_numpy()
            strangers |= dict.fromkeys(name for name in names if name not in self._sizes)
            for place in np.flatnonzero(np.diff(code, prepend=-1)):
                name = names[code[place]]
                if name != last:
                    together &= name not in finished
                    finished.add(name)
                last = name
        if strangers:
            some = ", ".join(list(strangers)[:SHOWN])
            rule = f"{len(strangers)} trials are not in the table of trials"
            raise InputError(self._path, [f"{rule}: {some}; add their rows"])
        return together

    def _tables(self) -> Iterator[pa.Table]:
        """Rows as they come, in our columns.

        Yields:
            At least one row.

        Raises:
            InputError: a cell cannot be read.
        """
        there = [*self._roles.values(), *self._metrics]
        types = dict.fromkeys(there, pa.float64()) | {self._roles["trial_id"]: pa.string()}
        try:
            _, batches = open_batches(Path(self._path), _options(types, there))
            for batch in batches:
                if batch.num_rows:
                    yield self._ours(batch)
        except (OSError, pa.ArrowException) as error:
            raise InputError(self._path, [f"the table cannot be read: {error}"]) from error

    def _ours(self, batch: pa.RecordBatch) -> pa.Table:
        ids = pc.fill_null(pc.cast(batch.column(self._roles["trial_id"]), pa.string()), "")
        step = _whole(batch.column(self._roles["step"]), self._path)
        place = pc.index_in(ids, value_set=pa.array(list(self._sizes), pa.string()))
        sizes = pa.array(list(self._sizes.values()), pa.int64()).take(place)
        seconds = pa.array(np.zeros(len(step)))
        if "seconds" in self._roles:
            seconds = pc.fill_null(pc.cast(batch.column(self._roles["seconds"]), pa.float64()), 0.0)
        columns = {"trial_id": ids, "step": step, "examples": pc.multiply(step, sizes), "train_seconds": seconds}
        metrics = {ours: pc.cast(batch.column(name), pa.float64()) for name, ours in self._metrics.items()}
        return pa.table(columns | metrics)


def trial_names(path: str, mapped: Mapped) -> list[str]:
    """The columns of a CSV that may hold names of trials, which are words (00012 is not 12).

    Args:
        path: the file; a Parquet file tells its types itself.
        mapped: what the user said.
    """
    if Path(path).suffix in (".parquet", ".pq"):
        return []
    named = mapped.columns.get("trial_id")
    with open(path, "rb") as file:
        header = file.readline().decode("utf-8-sig").strip().split(",")
    columns = [name.strip().strip('"') for name in header]
    return [name for name in columns if name == named or name.lower() in SPELLINGS["trial_id"]]


def _options(types: Mapping[str, pa.DataType], columns: Sequence[str]) -> arrow_csv.ConvertOptions:
    """How cells are read; no columns = all."""
    return arrow_csv.ConvertOptions(
        column_types=types, include_columns=columns, null_values=NULLS, strings_can_be_null=True
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _whole(values: pa.Array, where: str) -> pa.Array:
    try:
        whole = pc.cast(values, pa.int64())
    except pa.ArrowException as error:
        raise InputError(where, [f"'step' must hold whole numbers: {error}"]) from error
    if whole.null_count or pc.any(pc.less(whole, 0)).as_py():
        raise InputError(where, ["'step' must hold whole numbers from 0 and no empty cells"])
    return whole


__all__ = ["NULLS", "TableCurves", "trial_names"]
