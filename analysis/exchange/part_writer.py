"""Writing a table of any length into a run folder in bounded memory: parts of a million rows, written as they come."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from bcrit.analysis.records.parted_tables import part_name
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import Table

# Rows of a part, of which a reader holds one at a time. Chosen, not studied.
PART_ROWS = 1_000_000


class PartWriter(AbstractContextManager["PartWriter"]):
    """Writes tables one after the other into parts of `PART_ROWS` rows; a new part begins when the columns change.

    The folder must not be in use: a part that is being written already has its name.
    """

    def __init__(self, folder: RunFolder, table: Table) -> None:
        """Prepare; nothing is written before the first rows.

        Args:
            folder: a new run folder.
            table: whose rows come.
        """
        self._folder, self._table = folder, table
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._number = self._rows = 0

    def write(self, data: pa.Table) -> None:
        """Add rows.

        Args:
            data: the table's columns, then others; `trial_id` may be a dictionary.
        """
        if not data.num_rows:
            return
        if self._writer is None or data.schema != self._schema or self._rows >= PART_ROWS:
            self._begin(data.schema)
        assert self._writer is not None
        self._writer.write_table(data)
        self._rows += data.num_rows

    def _begin(self, schema: pa.Schema) -> None:
        self.close()
        self._folder.filesystem.create_dir(self._folder.path(self._table.name), recursive=True)
        # Curves repeat no value but the trial's name, and dictionaries of floats only cost time. Without Arrow's own
        # schema in the file, a column that was written from a dictionary is read back as plain strings.
        self._writer = pq.ParquetWriter(
            self._folder.path(part_name(self._table, self._number)),
            schema,
            filesystem=self._folder.filesystem,
            use_dictionary=["trial_id", "train_seconds"],
            store_schema=False,
        )
        self._schema, self._rows = schema, 0
        self._number += 1

    def close(self) -> None:
        """Finish the part that is being written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the last part."""
        self.close()


__all__ = ["PART_ROWS", "PartWriter"]
