"""A CSV or Parquet file piece by piece, for tables that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

# Bytes of a CSV that are parsed at once, some hundred thousand rows; what the columns hold is told by the first such
# piece where the caller does not say it. Chosen, not studied.
BLOCK = 1 << 23
ROWS = 1 << 18
"""Rows of a piece of Parquet. Chosen."""


def open_batches(path: Path, convert: arrow_csv.ConvertOptions | None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Open a table, Parquet by its ending or else CSV.

    Args:
        path: the file.
        convert: how cells of a CSV are read.

    Returns:
        (the columns, the rows, which are read as they are asked for). Both steps raise `pa.ArrowException` or `OSError`
        where the file is damaged.
    """
    if path.suffix in (".parquet", ".pq"):
        # A pre-buffer would hold every row group that was read until the file is closed.
        content = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        return content.schema_arrow, content.iter_batches(ROWS)
    reader = arrow_csv.open_csv(
        path,
        read_options=arrow_csv.ReadOptions(block_size=BLOCK),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )
    return reader.schema, iter(reader)


__all__ = ["BLOCK", "ROWS", "open_batches"]
