"""Where files lie: a folder of a disk or an object store, how a file is put there whole, and patience with a store.

On a local disk a file is whole because it is moved into place; an object store shows an object only when all of it
has arrived, so one PUT straight to the final name is enough. Anything more (markers of folders, a temporary name, a
copy, a multipart upload) is several requests for each of many small files.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self, TypeVar

import pyarrow as pa
from pyarrow import fs

from bcrit.analysis.records.json_values import loaded, plain, restored
from bcrit.search_spaces.load import a_file
from bcrit.search_spaces.problems import InputError

T = TypeVar("T")

PATIENCE = 150.0
"""Seconds for which a single file is tried where an object store is away: twice the minute that a run must bear."""
_FORMAT = 1  # of results that commands store

# What Arrow is told beyond the user's own words. On S3 it would begin a multipart upload for every object, three
# requests where one is enough. Where Google's store does not answer it would try for 15 minutes within one call, which
# nothing interrupts; `patiently` tries between calls.
_OPTIONS = {"s3": "allow_delayed_open=true", "gs": "retry_limit_seconds=15", "gcs": "retry_limit_seconds=15"}
_OBJECT_STORES = {"s3", "gcs", "abfs"}
# Waits between tries double from the first to the longest: a short hiccup costs little, and a store that comes back
# after a long time is used again soon. Chosen.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
# What no waiting mends, as Arrow words it for S3; expired credentials are not among it, because they are renewed.
_FINAL = re.compile(
    "AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|INVALID_SIGNATURE)"
    "|SignatureDoesNotMatch|InvalidAccessKeyId"
)


HALF_WRITTEN = re.compile(r"^\..+\.[0-9a-f]{32}$")
"""What a write to a local folder leaves that was killed."""


def opened(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a local path or a URI, and the path there; nothing needs to lie there."""
    if not location.strip():
        raise InputError("run folder", ["its location is empty; give a path or a URI"])
    if "://" not in location:
        return fs.LocalFileSystem(), str(Path(location).expanduser().absolute())
    option = _OPTIONS.get(location.partition("://")[0], "")
    if option.partition("=")[0] not in location:
        location += ("&" if "?" in location else "?") + option
    try:
        filesystem, root = fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        # S3 is asked for a bucket's region where the location does not say it; then it may be away.
        if isinstance(error, OSError) and "AWS Error" in str(error) and may_pass(error):
            raise
        raise InputError(location, [f"not a location that can be opened: {error}"]) from error
    return filesystem, root.rstrip("/")


def user_cache() -> Path:
    """The user's folder for what bcrit keeps on this machine (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bcrit"


def is_object_store(filesystem: fs.FileSystem) -> bool:
    """Whether files appear there whole, and folders are only a part of their names."""
    return filesystem.type_name in _OBJECT_STORES


def put(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    if is_object_store(filesystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
    parent, _, stem = path.rpartition("/")
    filesystem.create_dir(parent, recursive=True)
    temporary = f"{parent}/.{stem}.{uuid.uuid4().hex}"
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(temporary) as stream:
            stream.write(content)
        filesystem.move(temporary, path)
        return
    # On the disk before it has its name, and the name before anything that follows from it: a machine that goes down
    # leaves no file that is there and empty.
    with open(temporary, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def patiently(action: Callable[[], T], seconds: float, wait: Callable[[float], object] = time.sleep) -> T:
    """Do something with a store; where the store is away, do it again until it is back.

    The action must be right to do twice, since what failed may have been done all the same. The error is raised after
    so many seconds, and at once where no waiting mends it. What `wait` raises ends the tries too.
    """
    until, pause = time.monotonic() + seconds, _FIRST_WAIT
    while True:
        try:
            return action()
        except OSError as error:
            if not may_pass(error) or time.monotonic() + pause > until:
                raise
        wait(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_WAIT)


def may_pass(error: OSError) -> bool:
    """Whether it is the disk's or the store's fault, and waiting may mend it; else what was named is wrong."""
    named = FileNotFoundError | FileExistsError | PermissionError | NotADirectoryError | IsADirectoryError
    refused = error.errno == errno.EINVAL  # what is no file, too (`search_spaces.load.a_file`)
    return not isinstance(error, named) and not refused and not _FINAL.search(str(error))


@dataclass(frozen=True)
class Place:
    """A folder on a local path or on any file system that pyarrow reaches by URI (`s3://bucket/run`), and its files."""

    location: str  # as the user named it
    filesystem: fs.FileSystem
    root: str  # its path there
    # Seconds for which a read is tried again where a store is away; a disk of this machine is tried once.
    patience: float = 0.0

    @classmethod
    def at(cls, location: str | Path, patience: float = 0.0) -> Self:
        """Name a folder, which need not exist; a URI of no known file system is an InputError."""
        text = str(location)
        return cls(text, *opened(text), patience=patience)

    def __str__(self) -> str:
        return self.location

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a file in the folder; a name that leads out of it is refused."""
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"a file of a run folder lies inside it, but {name!r} leads out of it")
        return f"{self.root}/{name}"

    def address(self, name: str) -> str:
        """A file of the folder as the user would name it; options of a URI come last."""
        place, question, options = self.location.partition("?")
        return f"{place.rstrip('/')}/{name}{question}{options}"

    def has(self, name: str) -> bool:
        """Whether the folder has this file or sub-folder."""
        return bool(self._info(self.path(name)).type != fs.FileType.NotFound)

    def _info(self, of: str | fs.FileSelector) -> Any:
        """What the store says of a path, or of all that lies in a folder."""
        return self._asked(lambda: self.filesystem.get_file_info(of))

    def _asked(self, read: Callable[[], T]) -> T:
        return patiently(read, 0 if self.is_local else self.patience)

    def creatable(self) -> bool:
        """Whether a local folder can be made here; of other file systems only trying tells."""
        if not self.is_local:
            return True
        existing = next(parent for parent in [Path(self.root), *Path(self.root).parents] if parent.exists())
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)

    def read_text(self, name: str) -> str:
        """Read a text file of the folder; an InputError where it is none."""
        try:
            return self.read_bytes(name).decode()
        except UnicodeDecodeError as error:
            raise InputError(self.path(name), [f"the file is damaged: {error}; put it back as it was"]) from error

    def read_bytes(self, name: str) -> bytes:
        """Read a file of the folder as it is."""
        return self._asked(lambda: self._content(self.path(name)))

    def _content(self, path: str) -> bytes:
        if self.is_local:
            a_file(path)
        with self.filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())

    def write_bytes(self, name: str, content: bytes, patience: float = PATIENCE) -> None:
        """Write a file whole or not at all.

        Where a store is away, it is tried again for `patience` seconds; a disk of this machine is tried once.
        """
        path = self.path(name)
        patiently(lambda: put(self.filesystem, path, content), 0 if self.is_local else patience)

    def write_json(self, name: str, content: Mapping[str, Any], patience: float = PATIENCE) -> None:
        """Write an object as JSON; NaN and infinity are refused."""
        self.write_bytes(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(), patience)

    def write_result(self, name: str, found: Any, patience: float = PATIENCE) -> None:
        """Store what a command measured, a dataclass, as JSON with the number of its format; see `write_bytes`."""
        self.write_json(name, {"format": _FORMAT, **plain(found)}, patience)

    def read_result(self, name: str, kind: type[T]) -> T | None:
        """A result as it was stored in the file, which has the name of its command; None where nothing was.

        A damaged file, or another number of its format, is an InputError.
        """
        if not self.has(name):
            return None
        try:
            facts = loaded(self.read_text(name))
            found = facts.pop("format")
            if found == _FORMAT:
                return restored(kind, facts)
            why = f"its format is {found}, not {_FORMAT}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = str(error)
        remedy = f"remove the file; `bcrit {PurePosixPath(name).stem}` makes it again"
        raise InputError(self.path(name), [f"what was measured cannot be read: {why}; {remedy}"])
