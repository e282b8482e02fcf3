"""Rows as Arrow tables of the schemas on floor 0, and every way in which a table breaks its schema."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bcrit.search_spaces.tables import Table

_ARROW = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


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


def column_violations(table: Table, data: pa.Table) -> list[str]:
    """Every way in which columns break a table's schema: missing, of another type, with empty cells."""
    found = []
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
    return found
