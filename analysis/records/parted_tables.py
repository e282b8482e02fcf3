"""The tables of a run folder as they lie there: in parts, and in what this machine's log holds beside them.

A part is named by the range of flushes it holds and by a token, so that no other session gives the same name to other
rows (`000007-000012-1f3a9c.parquet`; older versions wrote no token). Compaction joins parts that stand side by side,
writes down in the new part which ones it replaces, and removes them; a reader passes over parts that another replaces,
so that a kill between the two steps doubles nothing. Where ranges alone decided, a part of another session with the
same numbers would vanish without a word.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from bcrit.analysis.records.arrow_tables import arrow_schema, decoded, joined, violations
from bcrit.analysis.records.run_log import Rows, read_log, segments
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

BATCH_ROWS = 1_000_000
"""Rows of one piece: some tens of megabytes, and few enough pieces that their overhead does not count. Chosen."""
_TRIAL = "trial_id"
_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
_LISTINGS = 5  # chosen; parts are joined minutes apart
_SMALL_PART = 4_000_000  # bytes; smaller parts are read at once, larger ones stay open files. Chosen.
_PART = re.compile(r"^(\d{6,})-(\d{6,})(?:-([0-9a-f]{6}))?\.parquet$")
REPLACES = b"bcrit.replaces"
"""Key of a part's metadata under which the names of the parts stand that it replaces, as a JSON list."""

# So many parts of one size class side by side are joined into one of the next: a row is then rewritten once for every
# factor of this by which the number of flushes grows, and a table of n flushes has about 7 log_8 n parts. Chosen.
_TOGETHER = 8
# Parts of this many bytes stay as they are: a reader gains nothing from larger ones, and a run that is resumed often
# would copy them every time. Chosen.
_LARGE_PART = 64_000_000


def part_name(table: Table, first: int, last: int | None = None, token: str = "") -> str:
    """The file of one flush, or of a range of them, relative to the folder."""
    end = first if last is None else last
    return f"{table.name}/{first:06d}-{end:06d}{'-' if token else ''}{token}.parquet"


@dataclass(frozen=True)
class PartFile:
    """A part as its name tells it, in order of flushes; the longer of two that begin together comes first."""

    name: str  # its path in the run folder
    first: int  # flush
    last: int
    token: str  # of the session that wrote it, or of the parts it was joined from; empty in older versions
    size: int  # bytes

    @property
    def size_class(self) -> int:
        """The power of `_TOGETHER` that its number of flushes lies above: 0 for one flush."""
        flushes, power = self.last - self.first + 1, 0
        while flushes >= _TOGETHER:
            flushes, power = flushes // _TOGETHER, power + 1
        return power


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table, open; whoever reads it closes it."""

    name: str  # its path in the run folder
    file: pa.NativeFile


@dataclass(frozen=True)
class PartedTables:
    """The tables of one folder, to be read; their files are named relative to it."""

    where: str  # the folder as the user named it
    filesystem: fs.FileSystem
    root: str  # its path there
    log: Path | None = None  # the log on this machine whose rows count too

    def parts(self, table: Table) -> list[str]:
        """File names of the parts that count, in order of their flushes."""
        return [part.name for part in self._counting(self.listed(table))]

    def next_number(self, table: Table) -> int:
        """The first flush number that no part holds."""
        return max((part.last for part in self.listed(table)), default=-1) + 1

    def listed(self, table: Table) -> list[PartFile]:
        """All parts that lie there."""
        found = []
        for info in self.filesystem.get_file_info(fs.FileSelector(f"{self.root}/{table.name}", allow_not_found=True)):
            if match := _PART.match(info.base_name):
                name, token = f"{table.name}/{info.base_name}", match[3] or ""
                found.append(PartFile(name, int(match[1]), int(match[2]), token, info.size))
        return sorted(found, key=lambda part: (part.first, -part.last, part.name))

    def _counting(self, listed: Sequence[PartFile]) -> list[PartFile]:
        gone: set[str] = set()
        for place, whole in enumerate(listed):
            inside = []
            for part in listed[place + 1 :]:
                if part.first > whole.last:
                    break
                if part.last <= whole.last:
                    inside.append(part)
            if inside:
                gone |= self._replaced(whole, inside)
        return [part for part in listed if part.name not in gone]

    def _replaced(self, whole: PartFile, inside: Sequence[PartFile]) -> set[str]:
        """Which of the parts inside a part's range it replaces; without tokens, in older versions, all of them."""
        if not whole.token:
            return {part.name for part in inside if not part.token}
        with self._open(whole.name) as file:
            try:
                written = (pq.read_schema(file).metadata or {}).get(REPLACES)
            except pa.ArrowException:
                return set()  # it is damaged, which is said by whoever reads its rows
        names = set() if written is None else set(json.loads(written))
        return {part.name for part in inside if part.name in names}

    def join(self, table: Table, put: Callable[[str, pa.Table], None], *, everything: bool) -> list[str]:
        """Join parts that stand side by side into one; the files that may go, with those that an earlier kill left.

        Everything is joined but large ones; otherwise only where there are `_TOGETHER` or more of one size class.
        """
        listed = self.listed(table)
        counting = self._counting(listed)
        left = {part.name for part in listed} - {part.name for part in counting}
        for run in _runs(counting, everything):
            names, first, last = [part.name for part in run], run[0].first, max(part.last for part in run)
            # Whoever joins the same parts, also in another try after an error, makes the same file.
            token = hashlib.sha256("".join(names).encode()).hexdigest()[:6]
            replaced = {*names, *(p.name for p in listed if p.name in left and first <= p.first and p.last <= last)}
            data = joined([self._read_part(name) for name in names])
            metadata = {REPLACES: json.dumps(sorted(replaced))}
            put(part_name(table, first, last, token), data.replace_schema_metadata(metadata))
            left |= replaced
        return sorted(left)

    def _read_part(self, name: str) -> pa.Table:
        with self._open(name) as file:
            return pq.read_table(file)

    def read(self, table: Table) -> pa.Table:
        """All rows of a table; an InputError lists every violation of its schema."""
        pieces, problems = [arrow_schema(table).empty_table()], []
        for part in self.opened(table):
            try:
                pieces.append(pq.read_table(part.file))
            except (pa.ArrowException, OSError) as error:
                problems.append(f"{part.name} is not a readable Parquet file: {error}")
            finally:
                part.file.close()
        if not problems:
            try:
                data = joined(pieces)
            except pa.ArrowException as error:
                problems.append(f"the parts of '{table.name}' do not fit together: {error}")
            else:
                problems = violations(table, data)
        if problems:
            raise InputError(self.where, [*problems, f"`bcrit repair {self.where}` sets aside what is wrong"])
        return data

    def scan(
        self, table: Table, columns: Sequence[str], trial_ids: Collection[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read a table piece by piece: parts in the order of their flushes.

        Rows of one trial come in the order in which they were written, which is that of their steps in what `bcrit`
        writes; rows of different trials may interleave, and a trial may straddle pieces and parts.

        Record batches of at most `BATCH_ROWS` rows have exactly these columns: `trial_id` comes dictionary-encoded,
        and a metric that a part lacks as nulls. A part that is damaged, or breaks the schema in its columns' types or
        empty cells, is an InputError.
        """
        yield from _scan_parts(self.where, table, self.opened(table), columns, trial_ids)

    def select(self, table: Table, columns: Sequence[str], trial_ids: Collection[str]) -> pa.Table:
        """The rows of a few trials; see `scan`."""
        kinds = {field.name: field.type for field in arrow_schema(table)}
        empty = pa.schema([pa.field(name, kinds.get(name, pa.float64())) for name in columns]).empty_table()
        batches = list(self.scan(table, columns, trial_ids))
        return decoded(pa.Table.from_batches(batches)) if batches else empty

    def schemas(self, table: Table) -> list[pa.Schema]:
        """The table's own schema, then that of every part."""
        found = [arrow_schema(table)]
        for part in self.opened(table):
            with part.file:
                found.append(pq.read_schema(part.file).remove_metadata())
        return found

    def opened(self, table: Table) -> list[Part]:
        """Every part that counts, opened at one moment, and as one more part what the log holds beyond them."""
        # The log comes first: rows that are delivered meanwhile are then in both, not in neither. Trials come before
        # measurements, because that is how to find a finished trial with all of its measurements.
        rows = None if self.log is None else read_log(segments(self.log)).get(table.name)
        if rows is None:
            return self._opened(table)
        finished = {} if table is TRIALS else self._reach(TRIALS, self._opened(TRIALS), rows)
        parts = self._opened(table)
        lacking = _beyond(rows, {**self._reach(table, parts, rows), **dict.fromkeys(finished, math.inf)})
        sink = pa.BufferOutputStream()
        pq.write_table(lacking, sink)
        return [*parts, Part("the log on this machine", pa.BufferReader(sink.getvalue()))]

    def lacking(self, waiting: Rows) -> Rows:
        """Of the rows of a log those that the parts lack: of trials that are not finished in them, and later steps."""
        found = {}
        for table in (MEASUREMENTS, TRIALS):
            if (rows := waiting.get(table.name)) is not None:
                finished = self._reach(TRIALS, self._opened(TRIALS), rows)
                reach = {} if table is TRIALS else self._reach(table, self._opened(table), rows)
                found[table.name] = _beyond(rows, {**reach, **dict.fromkeys(finished, math.inf)})
        return {name: rows for name, rows in found.items() if rows.num_rows}

    def _reach(self, table: Table, parts: Sequence[Part], rows: pa.Table) -> dict[str, float]:
        """How far parts go for each trial that rows are of: its last step, or 0 for a trial without steps."""
        columns, among = list(table.key), pc.unique(rows["trial_id"])
        reach: dict[str, float] = {}
        for part in parts:
            try:
                data = pq.read_table(part.file, columns=columns)
            except pa.ArrowException:
                continue  # it is damaged, which is said by whoever reads its rows
            data = data.filter(pc.is_in(data["trial_id"], among))
            steps = data["step"].to_pylist() if "step" in columns else [0] * data.num_rows
            for trial_id, step in zip(data["trial_id"].to_pylist(), steps, strict=True):
                reach[trial_id] = max(step, reach.get(trial_id, 0))
        return reach

    def _opened(self, table: Table) -> list[Part]:
        """Every part that counts, opened at one moment: a running experiment may join parts meanwhile.

        An open file can be read to its end after it was removed; many small parts would be too many open files.
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


def _scan_parts(
    where: str, table: Table, parts: Sequence[Part], columns: Sequence[str], trial_ids: Collection[str] | None
) -> Iterator[pa.RecordBatch]:
    """Read parts one after the other; each is closed when it was read, all of them when the reader stops early.

    A part that is damaged, breaks the schema, or was removed while it was read is an InputError.
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
    if problems := _part_violations(table, part.name, content.schema_arrow, columns):
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


def _part_violations(table: Table, part: str, schema: pa.Schema, columns: Sequence[str]) -> list[str]:
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


def _beyond(rows: pa.Table, reach: dict[str, float]) -> pa.Table:
    """The rows that go on from where each trial has come to; those of one step, or of one trial, only once."""
    reach = dict(reach)
    steps = rows["step"].to_pylist() if "step" in rows.column_names else [0] * rows.num_rows
    kept = []
    for trial_id, step in zip(rows["trial_id"].to_pylist(), steps, strict=True):
        kept.append(step > reach.get(trial_id, -1))
        if kept[-1]:
            reach[trial_id] = step
    return rows.filter(pa.array(kept, pa.bool_()))


def _runs(parts: Sequence[PartFile], everything: bool) -> list[list[PartFile]]:
    """The parts to be joined, each list into one."""
    groups: list[list[PartFile]] = [[]]
    for part in parts:
        if part.size < _LARGE_PART:
            groups[-1].append(part)
        else:
            groups.append([])
    if everything:
        return [group for group in groups if len(group) > 1]
    latest = groups[-1]  # the only place where parts are added
    for power in sorted({part.size_class for part in latest}):
        begin = next((n for n, p in reversed(list(enumerate(latest))) if p.size_class > power), -1) + 1
        if sum(part.size_class == power for part in latest[begin:]) >= _TOGETHER:
            return [latest[begin:]]
    return []
