"""How rows lie: in the parts of a run folder's tables, and in the log of this machine on their way there.

A part is named by the range of flushes it holds and by a token, so that no other session gives the same name to other
rows (`000007-000012-1f3a9c.parquet`; older versions wrote no token). Compaction joins parts that stand side by side,
writes down in the new part which ones it replaces, and removes them; a reader passes over parts that another replaces,
so that a kill between the two steps doubles nothing. Where ranges alone decided, a part of another session with the
same numbers would vanish without a word.

The process that runs an experiment writes each row to the log first and at once, and delivers it to the folder's tables
a few seconds later (`bcrit.tuner.uploader`). When it is killed in between, what it had not delivered is still there:
whoever reads the folder on this machine sees these rows too, and the next session delivers them. A log is a folder of
*segments*, each a file of records that begin with their length and checksum. A kill tears at most the last record,
which is then passed over; a segment is removed when the folder has all of it. The log of a local run lies in the run
folder. Of any other run it lies in the user's cache, in a place of the run's own: the same location may hold another
run later, so the moment at which its experiment was written is part of that place.
"""

import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from bcrit.analysis.records.arrow_tables import arrow_schema, joined, unsealed, vouched_for
from bcrit.analysis.records.json_values import loaded
from bcrit.analysis.records.storage import user_cache
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

Rows = Mapping[str, pa.Table]
"""Rows by the name of their table; a table without rows is not there."""

BATCH_ROWS = 1_000_000
"""Rows of one piece: some tens of megabytes, and few enough pieces that their overhead does not count. Chosen."""
GROUP_ROWS = 100_000
"""Rows that are in memory at a time while parts are joined, and of a row group then: some megabytes. Chosen."""
_TRIAL = "trial_id"
_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
_PART = re.compile(r"^(\d{6,})-(\d{6,})(?:-([0-9a-f]{6}))?\.parquet$")
REPLACES = b"bcrit.replaces"
"""Key of a part's metadata under which the names of the parts stand that it replaces, as a JSON list."""
EXPERIMENT_OF = b"bcrit.experiment"
"""The same for the fingerprint of the experiment whose rows it holds."""

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


class ForeignPart(pa.ArrowInvalid):  # type: ignore[misc]  # pyarrow has no types
    """A part of another run."""


DAMAGED = (pa.ArrowException, OSError)
"""What pyarrow raises where a file is damaged: of Parquet's own headers it is an OSError."""


def fault(name: str, error: Exception) -> str:
    """What is wrong with a file of a table that cannot be read."""
    return f"{name} {error}" if isinstance(error, ForeignPart) else f"{name} is not a readable Parquet file: {error}"


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table, open; whoever reads it closes it."""

    name: str  # its path in the run folder
    file: pa.NativeFile
    experiment: str | None = None  # fingerprint of the run's experiment; None where it is not known

    def parquet(self, **how: Any) -> pq.ParquetFile:
        """What it holds; an ArrowException where it is damaged, or of another run, as far as it tells."""
        content = unsealed(self.file, **how)
        told = (content.schema_arrow.metadata or {}).get(EXPERIMENT_OF)
        if None not in (told, self.experiment) and told != self.experiment.encode():  # type: ignore[union-attr]
            raise ForeignPart("belongs to a run of another experiment")
        return content


def parts_of(table: Table, files: Iterable[fs.FileInfo]) -> list[PartFile]:
    """All parts among the files of a table's folder, whether they count or not."""
    found = []
    for info in files:
        if match := _PART.match(info.base_name):
            name, token = f"{table.name}/{info.base_name}", match[3] or ""
            found.append(PartFile(name, int(match[1]), int(match[2]), token, info.size))
    return sorted(found, key=lambda part: (part.first, -part.last, part.name))


def counting(listed: Sequence[PartFile], opened: Callable[[str], pa.NativeFile]) -> list[PartFile]:
    """The parts that no other one replaces; `opened` opens one whose range holds others."""
    gone: set[str] = set()
    for place, whole in enumerate(listed):
        inside = []
        for part in listed[place + 1 :]:
            if part.first > whole.last:
                break
            if part.last <= whole.last:
                inside.append(part)
        if inside and whole.token:
            replaced = _replaced(opened(whole.name))
            gone |= {part.name for part in inside if part.name in replaced}
        else:  # older versions wrote no token: a part replaced all of theirs inside its range
            gone |= {part.name for part in inside if not part.token}
    return [part for part in listed if part.name not in gone]


def _replaced(part: pa.NativeFile) -> set[str]:
    """The names that stand in a part's metadata; of one that is damaged none, which is said by who reads its rows."""
    with part:
        try:
            written = (unsealed(part).schema_arrow.metadata or {}).get(REPLACES)
            return set() if written is None else set(map(str, loaded(written)))
        except (*DAMAGED, ValueError, TypeError):
            return set()


def joinable(parts: Sequence[PartFile], everything: bool) -> list[list[PartFile]]:
    """The parts to be joined, each list into one, which is no larger than a large one.

    Everything is joined but large ones; otherwise only where there are `_TOGETHER` or more of one size class.
    """
    groups: list[list[PartFile]] = [[]]
    for part in parts:
        if sum(other.size for other in groups[-1]) + part.size > _LARGE_PART:
            groups.append([])
        if part.size < _LARGE_PART:
            groups[-1].append(part)
    if everything:
        return [group for group in groups if len(group) > 1]
    latest = groups[-1]  # the only place where parts are added
    for power in sorted({part.size_class for part in latest}):
        begin = next((n for n, p in reversed(list(enumerate(latest))) if p.size_class > power), -1) + 1
        if sum(part.size_class == power for part in latest[begin:]) >= _TOGETHER:
            return [latest[begin:]]
    return []


def whole_part(table: Table, parts: Sequence[PartFile], why: str = "") -> str:
    """The name of the part that parts are joined into: whoever joins the same ones makes the same file."""
    token = hashlib.sha256("".join([why, *(part.name for part in parts)]).encode()).hexdigest()[:6]
    return part_name(table, parts[0].first, max(part.last for part in parts), token)


def gathered(empty: pa.Table, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Rows with the columns of a table without any, in pieces of `GROUP_ROWS` or some more."""
    waiting, count = [empty], 0
    for piece in pieces:
        waiting.append(piece)
        count += piece.num_rows
        if count >= GROUP_ROWS:
            yield joined(waiting)
            waiting, count = [empty], 0
    if count:
        yield joined(waiting)


def replacing(data: pa.Table, names: Iterable[str]) -> pa.Table:
    """Rows with a note of the parts that they replace."""
    return data.replace_schema_metadata({REPLACES: json.dumps(sorted(names))})


def scan_parts(
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
                except DAMAGED as error:
                    problem = f"{fault(part.name, error)}, or it changed meanwhile"
                    remedy = f"try again; where that does not help, `bcrit repair {where}` sets it aside"
                    raise InputError(where, [f"{problem}; {remedy}"]) from error
    finally:
        for part in parts:
            part.file.close()


def _batches(
    where: str, table: Table, part: Part, columns: Sequence[str], wanted: pa.Array | None
) -> Iterator[pa.RecordBatch]:
    content = part.parquet(read_dictionary=[_TRIAL], pre_buffer=True)
    if problems := _part_violations(table, part.name, content.schema_arrow, columns):
        raise InputError(where, problems)
    present = [name for name in columns if name in content.schema_arrow.names]
    read = list(dict.fromkeys([*present, _TRIAL]))
    groups = list(range(content.num_row_groups))
    if wanted is not None and vouched_for(part.file, content):
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
        elif (kind := schema.field(field.name).type) != field.type and not (
            field.name == _TRIAL and kind == pa.dictionary(pa.int32(), field.type)  # as it is read
        ):
            found.append(f"column '{table.name}.{field.name}' must be {field.type}, but it is {kind} in {part}")
    for name in set(columns) & set(schema.names) - set(table.names):
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            found.append(f"column '{table.name}.{name}' must be a number, but it is {kind} in {part}")
    return found


def reach(table: Table, parts: Sequence[Part], rows: pa.Table) -> dict[str, float]:
    """How far parts go for each trial that rows are of: its last step, or 0 for a trial without steps."""
    columns, among = list(table.key), pc.unique(rows["trial_id"])
    found: dict[str, float] = {}
    for part in parts:
        try:
            data = part.parquet().read(columns=columns)
        except DAMAGED:
            continue  # it is damaged, which is said by whoever reads its rows
        data = data.filter(pc.is_in(data["trial_id"], among))
        for trial_id, step in zip(data["trial_id"].to_pylist(), _steps(data), strict=True):
            found[trial_id] = max(step, found.get(trial_id, 0))
    return found


def beyond(rows: pa.Table, reached: Mapping[str, float]) -> pa.Table:
    """The rows that go on from where each trial has come to; those of one step, or of one trial, only once."""
    last, kept = dict(reached), []
    for trial_id, step in zip(rows["trial_id"].to_pylist(), _steps(rows), strict=True):
        kept.append(step > last.get(trial_id, -1))
        if kept[-1]:
            last[trial_id] = step
    return rows.filter(pa.array(kept, pa.bool_()))


def _steps(rows: pa.Table) -> list[int]:
    return rows["step"].to_pylist() if "step" in rows.column_names else [0] * rows.num_rows


_HEAD: Final = struct.Struct("<cII")  # the table, the length and the checksum of what follows
_LETTERS: Final = {b"M": MEASUREMENTS, b"T": TRIALS}
_SUFFIX = ".log"


def log_home(location: str, filesystem: fs.FileSystem, root: str) -> Path:
    """Where on this machine the logs of a location lie, whatever run is there; the folder need not exist.

    The options of a URI may say which server is meant.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        return Path(root) / "wal"
    options = parse_qs(urlsplit(location).query)
    server = options.get("endpoint_override", [os.environ.get("AWS_ENDPOINT_URL", "")])[0]
    name = hashlib.sha256(f"{filesystem.type_name} {server} {root}".encode()).hexdigest()[:16]
    return user_cache() / "wal" / name


def record(table: Table, data: pa.Table) -> bytes:
    """Rows of a table as they stand in a segment."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    content: bytes = sink.getvalue().to_pybytes()
    letter = next(letter for letter, of in _LETTERS.items() if of is table)
    return _HEAD.pack(letter, len(content), zlib.crc32(content)) + content


def begin_segment(log: Path, number: int, token: str) -> BinaryIO:
    """A new segment to write records to; unbuffered, so that a record that was written outlives the process.

    It does not wait for the disk: a kill loses nothing, and a machine that goes down loses trials that run again.
    """
    log.mkdir(parents=True, exist_ok=True)
    return open(log / f"{number:06d}-{token}{_SUFFIX}", "xb", buffering=0)


def segments(log: Path) -> list[Path]:
    """The segments of a log in the order in which they were begun, which is that of their numbers."""
    return sorted(log.glob(f"*{_SUFFIX}")) if log.is_dir() else []


def number_of(segment: Path) -> int:
    """The number that a segment was begun with."""
    return int(segment.name.partition("-")[0])


def read_log(paths: Iterable[Path]) -> Rows:
    """What segments hold; one that was delivered and removed meanwhile is passed over, its rows are in the folder."""
    found: dict[str, list[pa.Table]] = {}
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        for table, data in _records(content):
            found.setdefault(table.name, []).append(data)
    return {name: joined(pieces) for name, pieces in found.items()}


def _records(content: bytes) -> Iterator[tuple[Table, pa.Table]]:
    """The whole records of a segment; the first that is torn ends it."""
    place = 0
    while place + _HEAD.size <= len(content):
        letter, length, checksum = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        body = content[place : place + length]
        place += length
        if letter not in _LETTERS or len(body) < length or zlib.crc32(body) != checksum:
            return
        yield _LETTERS[letter], pa.ipc.open_stream(body).read_all()
