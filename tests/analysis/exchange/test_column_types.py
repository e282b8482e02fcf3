"""Every type that a column of ours may have goes out as a name and comes back."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bcrit.analysis.arrow_tables import arrow_schema
from bcrit.analysis.exchange.exports import type_name
from bcrit.analysis.exchange.files import TYPES
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table


@pytest.mark.parametrize("table", [TRIALS, MEASUREMENTS], ids=lambda table: table.name)
def test_types_of_a_table_out_and_back_are_the_same(table: Table) -> None:
    assert all(TYPES[type_name(field.type)] == field.type for field in arrow_schema(table))


def test_a_column_without_any_value_is_one_of_floats() -> None:
    assert TYPES[type_name(pa.null())] == pa.float64()
