"""Rows as Arrow tables of the schemas on floor 0, and every way in which a table breaks its schema."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.tables import Table

_ARROW = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def arrow_schema(table: Table) -> pa.Schema:
    """The schema's columns with their Arrow types."""
    return pa.schema([pa.field(c.name, _ARROW[c.kind]) for c in table.columns])


def to_arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table with the schema's types; further columns get the type of their values.

    Args:
        table: the schema.
        rows: the rows.

    Returns:
        Columns of the schema first, then the others in order of appearance.
    """
    known = set(table.names)
    others = dict.fromkeys(name for row in rows for name in row if name not in known)
    fields = list(arrow_schema(table))
    for name in others:
        fields.append(pa.field(name, _type_of([row[name] for row in rows if row.get(name) is not None])))
    schema = pa.schema(fields)
    columns = {field.name: [_plain(row.get(field.name), field.type) for row in rows] for field in schema}
    return pa.table(columns, schema=schema)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    for python, arrow in ((str, pa.string()), (bool, pa.bool_()), (int, pa.int64())):
        if values and all(isinstance(value, python) for value in values):
            return arrow
    return pa.float64()


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value) and kind != pa.float64()):
        return None
    return str(value) if pa.types.is_string(kind) else float(value) if kind == pa.float64() else value


def decoded(data: pa.Table) -> pa.Table:
    """The table with dictionary-encoded columns as plain ones, which is how they lie on disk."""
    for place, field in enumerate(data.schema):
        if pa.types.is_dictionary(field.type):
            plain = data[field.name].cast(field.type.value_type)
            data = data.set_column(place, field.name, plain)
    return data


def violations(table: Table, data: pa.Table) -> list[str]:
    """Every way in which data break a table's schema.

    Args:
        table: the schema.
        data: the rows.

    Returns:
        One sentence a violation.
    """
    found = column_violations(table, data)
    if not found and data.num_rows:
        counts = data.group_by(list(table.key)).aggregate([([], "count_all")])["count_all"]
        doubled = pc.sum(pc.greater(counts, 1)).as_py() or 0
        if doubled:
            found.append(f"rows of '{table.name}' must differ in {', '.join(table.key)}, but {doubled} do not")
    return found


def column_violations(table: Table, data: pa.Table) -> list[str]:
    """Every way in which columns break a table's schema: missing, of another type, with empty cells.

    Args:
        table: the schema.
        data: the rows.

    Returns:
        One sentence a violation.
    """
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
