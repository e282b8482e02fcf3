"""A table of the report: rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcrit.analysis.report.labels import value_text


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        head: names of the columns.
        rows: cells, as many as the head has names.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the columns of its first row; numbers are shown with three digits, None and NaN as a dash."""
    return Table(
        tuple(rows[0]) if rows else (), tuple(tuple(value_text(cell) for cell in row.values()) for row in rows)
    )


__all__ = ["Table", "table_of"]
