"""Converted data on disk: raw arrays that every process maps into memory, so that a machine holds them once."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FORMAT: Final = 1
"""Part of every key: raised when the same source is to be converted differently."""

_CONTENTS = "contents.json"


@dataclass(frozen=True)
class Converted:
    """Data in their converted form."""

    # by name, mapped into memory: nothing is read before it is used, and processes share what is. They can be written
    # to, which changes this process' copy of a page and never the file
    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]  # what else is known of the data, as plain JSON data


@dataclass(frozen=True)
class Writer:
    """Writes arrays piece by piece, so that what is converted need not fit into memory."""

    folder: Path
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)  # dtype and shape of each array so far

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows, shape (n, ...), to an array; all of an array's rows have one shape and type."""
        about = self.contents.setdefault(name, {"dtype": rows.dtype.str, "shape": [0, *rows.shape[1:]]})
        assert about["dtype"] == rows.dtype.str and about["shape"][1:] == list(rows.shape[1:])
        with open(self.folder / f"{name}.bin", "ab") as file:
            file.write(np.ascontiguousarray(rows).data)
        about["shape"][0] += len(rows)

    def written(self, name: str) -> NDArray[Any]:
        """What was appended to an array so far, mapped into memory; empty where nothing was."""
        return _mapped(self.folder, name, self.contents[name]) if name in self.contents else np.empty(0, np.uint8)

    def drop(self, name: str) -> None:
        """Remove an array that was needed on the way only."""
        del self.contents[name]
        (self.folder / f"{name}.bin").unlink()


def converted(cache: str | None, key: Mapping[str, Any], convert: Callable[[Writer], Mapping[str, Any]]) -> Converted:
    """Data from the cache's folder (None = the user's); converted first where they are not there yet.

    The key is all that decides what the converted data are, as plain JSON data; `convert` writes the arrays and returns
    the facts. Any number of processes may ask at once: one converts while the others wait, and what it made appears
    whole or not at all. A process that is killed while it converts leaves nothing that another would use. Where the
    folder cannot be written to, or what is in it was changed, a ValueError says so.
    """
    key = {"format": FORMAT, **key}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder(cache)
    if not (folder / name).exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder / f"{name}.lock"):
                if not (folder / name).exists():
                    _make(folder, name, key, convert)
        except OSError as error:
            raise ValueError(
                f"the converted data must be kept in a folder, but '{folder}' fails with {error}; choose one with the "
                "option 'cache' of 'data'"
            ) from error
    folder /= name
    try:
        contents = json.loads((folder / _CONTENTS).read_text())
        arrays = {array: _mapped(folder, array, about) for array, about in contents["arrays"].items()}
        return Converted(arrays, contents["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the converted data in '{folder}' were changed ({error}); remove that folder") from error


def cache_folder(cache: str | None) -> Path:
    """Where converted data are kept: the folder given, or the user's by the XDG base directory specification."""
    if cache is not None:
        return Path(cache).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "bcrit"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock, then hold it; the system lets go of it if this process dies."""
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, name: str, key: Mapping[str, Any], convert: Callable[[Writer], Mapping[str, Any]]) -> None:
    for left in folder.glob(f"{name}.*.partial"):  # of a process that was killed: we hold the lock, no other is at it
        shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".partial", dir=folder))
    writer = Writer(partial)
    try:
        contents = {"key": key, "facts": convert(writer), "arrays": writer.contents}
        (partial / _CONTENTS).write_text(json.dumps(contents, indent=1))
        partial.chmod(0o755)  # made for its owner alone, but a cache may be shared
        try:
            os.rename(partial, folder / name)
        except OSError:
            if not (folder / name).exists():
                raise
            # Locks do nothing on some network file systems: another process was faster, and made the same.
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mapped(folder: Path, name: str, about: Mapping[str, Any]) -> NDArray[Any]:
    path, dtype, shape = folder / f"{name}.bin", np.dtype(about["dtype"]), tuple(about["shape"])
    expected = dtype.itemsize * int(np.prod(shape, dtype=object))
    if path.stat().st_size != expected:
        raise ValueError(f"'{path.name}' has {path.stat().st_size} bytes instead of {expected}")
    if expected == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    # Copy on write: PyTorch has no tensors that are read-only, and warns of arrays that are.
    return np.memmap(path, dtype=dtype, mode="c", shape=shape)
