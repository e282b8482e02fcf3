"""Reading a table of a run folder piece by piece: only the wanted columns, never the whole table in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import Table

BATCH_ROWS = 1_000_000
"""Rows of one piece: some tens of megabytes, and few enough pieces that their overhead does not count. Chosen."""

_TRIAL = "trial_id"
_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table, open.

    Attributes:
        name: its path in the run folder.
        file: its content; whoever reads it closes it.
    """

    name: str
    file: pa.NativeFile


def scan_parts(
    where: str, table: Table, parts: Sequence[Part], columns: Sequence[str], trial_ids: Collection[str] | None
) -> Iterator[pa.RecordBatch]:
    """Read parts one after the other; see `PartedTables.scan`.

    Args:
        where: the run folder as the user named it.
        table: the schema.
        parts: in order; each is closed when it was read, all of them when the reader stops early.
        columns: what to read.
        trial_ids: only the rows of these trials; None = all.

    Yields:
        Record batches with exactly these columns.

    Raises:
        InputError: a part is damaged, breaks the schema, or was removed while it was read.
    """
    wanted = None if trial_ids is None else pa.array(sorted(trial_ids), pa.string())
    try:
        for part in parts:
            with part.file:
                try:
                    yield from _batches(where, table, part, columns, wanted)
                except (pa.ArrowException, OSError) as error:
                    problem = f"{part.name} is not a readable Parquet file, or changed meanwhile: {error}"
                    remedy = f"try again; where that does not help, `bcrit repair {where}` sets it aside"
                    raise InputError(where, [f"{problem}; {remedy}"]) from error
    finally:
        for part in parts:
            part.file.close()


def _batches(
    where: str, table: Table, part: Part, columns: Sequence[str], wanted: pa.Array | None
) -> Iterator[pa.RecordBatch]:
    content = pq.ParquetFile(part.file, read_dictionary=[_TRIAL], pre_buffer=True)
    if problems := _violations(table, part.name, content.schema_arrow, columns):
        raise InputError(where, problems)
    present = [name for name in columns if name in content.schema_arrow.names]
    read = list(dict.fromkeys([*present, _TRIAL]))
    groups = list(range(content.num_row_groups))
    if wanted is not None:
        groups = [group for group in groups if _may_hold(content, group, wanted)]
    required = {column.name for column in table.columns if not column.nullable}
    for batch in content.iter_batches(BATCH_ROWS, row_groups=groups, columns=read):
        empty = [name for name in read if name in required and batch.column(name).null_count]
        if empty:
            rule = f"column '{table.name}.{empty[0]}' must have no empty cells"
            raise InputError(where, [f"{rule}, but some are in {part.name}"])
        names = batch.column(_TRIAL)
        if wanted is not None:
            chosen = pc.is_in(names.dictionary, wanted).take(names.indices)
            batch = batch.filter(chosen)
            if not batch.num_rows:
                continue
        yield pa.RecordBatch.from_arrays([_column(batch, name) for name in columns], names=list(columns))


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of the batch; nulls where the part lacks it."""
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.float64())
    column = batch.column(name)
    return column.cast(_NAME_TYPE) if name == _TRIAL else column


def _may_hold(content: pq.ParquetFile, group: int, wanted: pa.Array) -> bool:
    """Whether a row group can have rows of these trials, from the smallest and largest name in it."""
    place = content.schema_arrow.names.index(_TRIAL)
    statistics = content.metadata.row_group(group).column(place).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    inside = pc.and_(pc.greater_equal(wanted, statistics.min), pc.less_equal(wanted, statistics.max))
    return bool(pc.any(inside).as_py())


def _violations(table: Table, part: str, schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """What is wrong with a part's columns, from its schema alone; further columns must be numbers."""
    found = []
    nullable = {column.name for column in table.columns if column.nullable}
    for field in arrow_schema(table):
        if field.name not in schema.names:
            if field.name in nullable:
                continue
            found.append(f"table '{table.name}' needs the column '{field.name}', but {part} lacks it")
        elif field.name != _TRIAL and schema.field(field.name).type != field.type:
            kind = schema.field(field.name).type
            found.append(f"column '{table.name}.{field.name}' must be {field.type}, but it is {kind} in {part}")
    for name in set(columns) & set(schema.names) - set(table.names):
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            found.append(f"column '{table.name}.{name}' must be a number, but it is {kind} in {part}")
    return found


__all__ = ["BATCH_ROWS", "Part", "scan_parts"]
