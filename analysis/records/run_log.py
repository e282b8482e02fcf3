"""The log of a run: rows on this machine's own disk that count already and are on their way to the run folder.

The process that runs an experiment writes each row here first and at once, and delivers it to the folder's tables a
few seconds later (`bcrit.tuner.uploader`). When it is killed in between, what it had not delivered is still here:
whoever reads the folder on this machine sees these rows too, and the next session delivers them.

A log is a folder of *segments*, each a file of records that begin with their length and checksum. A kill tears at most
the last record, which is then passed over; a segment is removed when the folder has all of it. The log of a local run
lies in the run folder. Of any other run it lies in the user's cache, in a place of the run's own: the same location
may hold another run later, so the moment at which its experiment was written is part of that place.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
from pyarrow import fs

from bcrit.analysis.records.arrow_tables import joined
from bcrit.analysis.records.storage import user_cache
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

Rows = Mapping[str, pa.Table]
"""Rows by the name of their table; a table without rows is not there."""

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
