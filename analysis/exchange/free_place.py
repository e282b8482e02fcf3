"""A folder for an export: written beside its place and moved there when it is whole."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bcrit.search_spaces.problems import InputError


@contextmanager
def new_folder(out: str) -> Iterator[Path]:
    """Give a folder to write into, and move it to its place at the end.

    Args:
        out: a local path where nothing lies; an empty folder counts as nothing.

    Yields:
        The folder.

    Raises:
        InputError: something lies there, or nothing can be made there.
    """
    place = Path(out).expanduser().absolute()
    if "://" in out:
        raise InputError(out, ["an export is written to a local folder; copy it from there"])
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(out, ["something lies there already; give another place"])
    temporary = place.parent / f".{place.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(out, [f"a folder cannot be made there: {error.strerror}"]) from error
    try:
        yield temporary
        if place.exists():
            place.rmdir()
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


__all__ = ["new_folder"]
