"""Rows as Arrow tables of the schemas on floor 0, and every way in which a table breaks its schema."""

import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bcrit.search_spaces.tables import MOST, Table

_ARROW = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
_ARROW |= {f"{kind}?": arrow for kind, arrow in _ARROW.items()}


# Rows of a file that says it unpacks to more than both are not read: bytes, and rows, of which one that tells anything
# takes a bit at least. Chosen: what was measured never repeats so much.
_MOST_TIMES, _MOST_BYTES = 1000, 2**30
_MOST_ROWS_A_BYTE, _MOST_ROWS = 8, 1_000_000


def parquet(source: str | Path | pa.NativeFile, **options: Any) -> pq.ParquetFile:
    """A Parquet file, opened; one of few bytes that stands for absurdly many rows is a `pa.ArrowInvalid`.

    So is one in which a column stands twice.
    """
    try:
        opened = pq.ParquetFile(source, **options)
    except UnicodeDecodeError as error:  # where the name of a column was damaged
        raise pa.ArrowInvalid(f"a name in it is not text ({error})") from error
    names = opened.schema_arrow.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise pa.ArrowInvalid(f"its column '{twice}' stands twice")
    facts, size = opened.metadata, source.size() if isinstance(source, pa.NativeFile) else os.path.getsize(source)
    groups = (facts.row_group(place) for place in range(facts.num_row_groups))
    # Eight bytes a cell, and the pages as they are before they are compressed, whichever is more.
    unpacked = sum(max(group.total_byte_size, 8 * group.num_rows * facts.num_columns) for group in groups)
    many = facts.num_rows > max(_MOST_ROWS, _MOST_ROWS_A_BYTE * size)
    if many or unpacked > max(_MOST_BYTES, _MOST_TIMES * size):
        rows = f"{facts.num_rows:,} rows, {unpacked / 2**30:,.0f} GiB, in {size:,} bytes"
        raise pa.ArrowInvalid(f"the file says that it holds {rows}, which nothing measured does; it is not read")
    return opened


def arrow_schema(table: Table) -> pa.Schema:
    """The schema's columns with their Arrow types."""
    return pa.schema([pa.field(c.name, _ARROW[c.kind]) for c in table.columns])


def to_arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table with the schema's types; further columns get the type of their values, null without any.

    Columns of the schema come first, then the others in order of appearance.
    """
    known = {field.name: field for field in arrow_schema(table)}
    schema = pa.schema(
        [
            known.get(name) or pa.field(name, _type_of([row.get(name) for row in rows]))
            for name in dict.fromkeys(chain(known, chain.from_iterable(rows)))
        ]
    )
    try:
        whole = pa.array(rows, pa.struct(list(schema)))
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # cell by cell, at ten times the cost, only where it must be
        return pa.table([[_plain(row.get(f.name), f.type) for row in rows] for f in schema], schema=schema)
    return pa.Table.from_batches([pa.RecordBatch.from_struct_array(whole)], schema)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    found = {type(value) for value in values} - {type(None)}
    if not found:
        return pa.null()
    for python, arrow in ((str, pa.string()), (bool, pa.bool_()), (int, pa.int64())):
        if all(issubclass(kind, python) for kind in found):
            return arrow
    return pa.float64()


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value) and kind != pa.float64()):
        return None
    return str(value) if pa.types.is_string(kind) else float(value) if kind == pa.float64() else value


def joined(pieces: Sequence[pa.Table]) -> pa.Table:
    """Tables one below the other, with the columns of all; a column in which nothing stands is one of floats.

    A column that is text in one and a number in another is an ArrowException.
    """
    data = pa.concat_tables([piece.replace_schema_metadata(None) for piece in pieces], promote_options="permissive")
    floats = [pa.field(f.name, pa.float64() if pa.types.is_null(f.type) else f.type) for f in data.schema]
    return data.cast(pa.schema(floats))


def decoded(data: pa.Table) -> pa.Table:
    """The table with dictionary-encoded columns as plain ones, which is how they lie on disk."""
    for place, field in enumerate(data.schema):
        if pa.types.is_dictionary(field.type):
            plain = data[field.name].cast(field.type.value_type)
            data = data.set_column(place, field.name, plain)
    return data


def violations(table: Table, data: pa.Table) -> list[str]:
    """Every way in which data break a table's schema, a sentence each."""
    found = column_violations(table, data)
    if not found and data.num_rows:
        counts = data.group_by(list(table.key)).aggregate([([], "count_all")])["count_all"]
        doubled = pc.sum(pc.greater(counts, 1)).as_py() or 0
        if doubled:
            found.append(f"rows of '{table.name}' must differ in {', '.join(table.key)}, but {doubled} do not")
    return found


def _may_be_other(table: Table, kind: pa.DataType) -> bool:
    """Whether a column beyond a table's own may be of this type."""
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)
    word = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
    return number or (table.others != "metrics" and (word or pa.types.is_dictionary(kind)))


def column_violations(table: Table, data: pa.Table) -> list[str]:
    """Every way in which columns break a table's schema: missing, of another type, with empty cells."""
    found = []
    for field in data.schema:
        if field.name not in table.known and not _may_be_other(table, field.type):
            kind = "a number" if table.others == "metrics" else "a number or a word"
            found.append(f"column '{table.name}.{field.name}' must be {kind}, but it is {field.type}")
    for column in table.columns:
        if column.name not in data.column_names:
            if not column.nullable:  # a table written before there was such a column lacks it
                found.append(f"table '{table.name}' needs the column '{column.name}' ({column.description})")
            continue
        values, wanted = data[column.name], _ARROW[column.kind]
        if values.type != wanted and not (values.type == pa.null() and column.nullable):
            found.append(f"column '{table.name}.{column.name}' must be {wanted}, but it is {values.type}")
        if values.null_count and not column.nullable:
            found.append(f"column '{table.name}.{column.name}' must have no empty cells, but {values.null_count} are")
        if values.type != wanted:
            continue
        if column.words and (strange := set(pc.unique(values).to_pylist()) - {None, *column.words}):
            known = f"one of {', '.join(column.words)}"
            found.append(f"column '{table.name}.{column.name}' must hold {known}, but it has '{min(strange):.60}'")
        if column.least is not None and len(values) > values.null_count:
            ends = pc.min_max(values).as_py()
            if not column.least <= ends["min"] <= ends["max"] < MOST:
                wrong = ends["min"] if ends["min"] < column.least else ends["max"]
                rule = f"must lie from {column.least} to {MOST:g}"
                found.append(f"column '{table.name}.{column.name}' {rule}, but it has {wrong}")
    return found


# Parquet's own checksums cover the pages, not what lies around them: their headers, and the footer with names, types
# and statistics. So the whole file has one more, in the footer's metadata, where other readers pass over it: CRC-32 of
# the file with zeros in its place. Files of older versions have neither.
CHECKSUM = b"bcrit.crc32"
_ZEROS = b"00000000"


def sealed(schema: pa.Schema, pieces: Iterable[pa.Table]) -> bytes:
    """A table as a file, a row group each piece; pieces have the columns of the schema."""
    sink = pa.BufferOutputStream()
    schema = schema.with_metadata({**(schema.metadata or {}), CHECKSUM: _ZEROS})
    with pq.ParquetWriter(sink, schema, write_page_checksum=True) as writer:
        for piece in pieces:
            writer.write_table(piece)
    content = memoryview(sink.getvalue())
    place = _place(content)
    return b"".join([content[:place], _checksum(content, place), content[place + len(_ZEROS) :]])


_AT_HAND = (pa.BufferReader, pa.MemoryMappedFile)


def vouched_for(file: pa.NativeFile, content: pq.ParquetFile) -> bool:
    """Whether the footer of an unsealed file was compared with a checksum: where it is damaged, Arrow ends the process.

    It does where statistics are asked for; reading pages is an exception.
    """
    return isinstance(file, _AT_HAND) and CHECKSUM in (content.schema_arrow.metadata or {})


def unsealed(file: pa.NativeFile, **how: Any) -> pq.ParquetFile:
    """A file opened with options of `ParquetFile`; where it was damaged, that or reading it is an ArrowException.

    A file in memory, or mapped into it, is compared as a whole; one that is read from elsewhere page for page.
    """
    if at_hand := isinstance(file, _AT_HAND):
        file.seek(0)
        content = memoryview(file.read_buffer())
        place = _place(content)
        if place and content[place : place + len(_ZEROS)] != _checksum(content, place):
            raise pa.ArrowInvalid("its checksum is wrong, so that it was damaged")
    try:
        return parquet(file, page_checksum_verification=not at_hand, **how)
    except KeyError as error:  # a column that `how` names
        raise pa.ArrowInvalid(f"it has no column {error}") from error


def _place(content: memoryview) -> int:
    """Where in a file its checksum stands, from its footer, whose length stands before the last four bytes; or 0."""
    begin = max(0, len(content) - 8 - int.from_bytes(content[-8:-4], "little"))
    found = bytes(content[begin:]).rfind(CHECKSUM)
    # Between the key and its value their kind and length, as Thrift writes them.
    return begin + found + len(CHECKSUM) + 2 if found >= 0 else 0


def _checksum(content: memoryview, place: int) -> bytes:
    before = zlib.crc32(_ZEROS, zlib.crc32(content[:place]))
    return b"%08x" % zlib.crc32(content[place + len(_ZEROS) :], before)
