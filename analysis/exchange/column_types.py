"""The types of columns by name, as exports write them down and imports read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

TYPES: Final[Mapping[str, pa.DataType]] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}


def type_name(kind: pa.DataType) -> str:
    """The name of a column's type; a column without any value counts as one of floats."""
    return "double" if pa.types.is_null(kind) else str(kind)


__all__ = ["TYPES", "type_name"]
