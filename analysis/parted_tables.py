"""The tables of a run folder as they lie there: in parts.

A part is named by the range of flushes it holds (`000007-000007.parquet`). Compaction writes the union of a range and
removes the parts inside it; a reader ignores parts that lie inside another, so that a kill between the two steps
doubles nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from analysis.arrow_tables import arrow_schema, decoded, violations
from analysis.scan import Part, scan_parts
from search_spaces.problems import InputError
from search_spaces.tables import Table

_LISTINGS = 5  # chosen; parts are joined minutes apart
_SMALL_PART = 4_000_000  # bytes; smaller parts are read at once, larger ones stay open files. Chosen.
_PART = re.compile(r"^(\d{6,})-(\d{6,})\.parquet$")


def part_name(table: Table, first: int, last: int | None = None) -> str:
    """The file of one flush, or of a range of them, relative to the folder."""
    return f"{table.name}/{first:06d}-{first if last is None else last:06d}.parquet"


@dataclass(frozen=True)
class PartedTables:
    """The tables of one folder, to be read; their files are named relative to it.

    Attributes:
        where: the folder as the user named it.
        filesystem: where it lies.
        root: its path there.
    """

    where: str
    filesystem: fs.FileSystem
    root: str

    def parts(self, table: Table) -> list[str]:
        """File names of the parts that count, in order of their flushes."""
        return [name for name, _, _ in self._counting(table)]

    def superseded(self, table: Table) -> list[str]:
        """File names of the parts that lie inside another."""
        counting = set(self.parts(table))
        return [name for name, _, _ in self._listed(table) if name not in counting]

    def joined_name(self, table: Table) -> str | None:
        """The file that all parts that count would be joined to; None where there is nothing to join."""
        counting = self._counting(table)
        return part_name(table, counting[0][1], max(last for _, _, last in counting)) if len(counting) > 1 else None

    def next_number(self, table: Table) -> int:
        """The first flush number that no part holds."""
        return max((last for _, _, last in self._listed(table)), default=-1) + 1

    def _counting(self, table: Table) -> list[tuple[str, int, int]]:
        reach, found = -1, []
        for name, first, last in self._listed(table):
            if last > reach:
                found.append((name, first, last))
            reach = max(reach, last)
        return found

    def _listed(self, table: Table) -> list[tuple[str, int, int]]:
        """All parts with their first and last flush, the longer of two that begin together first."""
        found = []
        for info in self.filesystem.get_file_info(fs.FileSelector(f"{self.root}/{table.name}", allow_not_found=True)):
            if match := _PART.match(info.base_name):
                found.append((f"{table.name}/{info.base_name}", int(match[1]), int(match[2])))
        return sorted(found, key=lambda part: (part[1], -part[2]))

    def read(self, table: Table) -> pa.Table:
        """Read and validate a table.

        Args:
            table: `TRIALS` or `MEASUREMENTS`.

        Returns:
            All rows; an empty table with the schema's columns when nothing was written yet.

        Raises:
            InputError: lists every violation of the schema.
        """
        pieces, problems = [arrow_schema(table).empty_table()], []
        for part in self.opened(table):
            try:
                pieces.append(pq.read_table(part.file))
            except pa.ArrowException as error:
                problems.append(f"{part.name} is not a readable Parquet file: {error}")
            finally:
                part.file.close()
        if not problems:
            try:
                data = pa.concat_tables(pieces, promote_options="permissive")
            except pa.ArrowException as error:
                problems.append(f"the parts of '{table.name}' do not fit together: {error}")
            else:
                problems = violations(table, data)
        if problems:
            raise InputError(self.where, problems)
        return data

    def scan(
        self, table: Table, columns: Sequence[str], trial_ids: Collection[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read a table piece by piece: parts in the order of their flushes.

        Rows of one trial come in the order in which they were written, which is that of their steps in what `bcrit`
        writes; rows of different trials may interleave, and a trial may straddle pieces and parts.

        Args:
            table: `MEASUREMENTS`, or `TRIALS`.
            columns: what to read; `trial_id` comes dictionary-encoded, and a metric that a part lacks as nulls.
            trial_ids: only the rows of these trials; None = all.

        Yields:
            Record batches of at most `analysis.scan.BATCH_ROWS` rows with exactly these columns.

        Raises:
            InputError: a part is damaged, or breaks the schema in its columns' types or empty cells.
        """  # noqa: DOC502 (raised by `scan_parts`)
        yield from scan_parts(self.where, table, self.opened(table), columns, trial_ids)

    def select(self, table: Table, columns: Sequence[str], trial_ids: Collection[str]) -> pa.Table:
        """The rows of a few trials; see `scan`."""
        kinds = {field.name: field.type for field in arrow_schema(table)}
        empty = pa.schema([pa.field(name, kinds.get(name, pa.float64())) for name in columns]).empty_table()
        batches = list(self.scan(table, columns, trial_ids))
        return decoded(pa.Table.from_batches(batches)) if batches else empty

    def column_names(self, table: Table) -> list[str]:
        """Every column that any part of a table has, those of its schema first."""
        found = dict.fromkeys(table.names)
        for part in self.opened(table):
            with part.file:
                found |= dict.fromkeys(pq.read_schema(part.file).names)
        return list(found)

    def opened(self, table: Table) -> list[Part]:
        """Every part that counts, opened at one moment: a running experiment may join parts meanwhile.

        An open file can be read to its end after it was removed; many small parts would be too many open files.

        Raises:
            InputError: they never stood still.
        """
        for _ in range(_LISTINGS):
            opened: list[Part] = []
            try:
                for name in self.parts(table):
                    opened.append(Part(name, self._open(name)))
                return opened
            except FileNotFoundError:  # it was joined with others since the listing; list again
                for part in opened:
                    part.file.close()
        raise InputError(self.where, [f"the parts of '{table.name}' change faster than they can be read; try again"])

    def _open(self, name: str) -> pa.NativeFile:
        file = self.filesystem.open_input_file(f"{self.root}/{name}")
        if file.size() > _SMALL_PART:
            return file
        with file:
            return pa.BufferReader(file.read())


__all__ = ["PartedTables", "part_name"]
