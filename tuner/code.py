"""The user's own code, which a run keeps a copy of.

A workload of the user's (`module:name`) is found in the folder where `bcrit tune` was started. That folder goes into
the run folder as one archive, without what is no code, so that every machine and every later session has the same: a
cluster's workers get it from there as their working directory, and `bcrit resume` imports from it wherever it starts.
"""

import fnmatch
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bcrit.analysis.records.run_folder import CODE, RunFolder
from bcrit.analysis.records.storage import user_cache
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.workloads.places import reach

IGNORE_FILE: Final = ".bcritignore"
IGNORED: Final = (
    ".*", "__pycache__", "*.pyc", "*.egg-info", "runs", "venv", "env", "node_modules", "wandb", "mlruns",
    "lightning_logs", "build", "dist",
)  # fmt: skip
"""Patterns of names that are left out, wherever they stand; `.bcritignore` has more, one a line."""

MOST_BYTES: Final = 50_000_000  # chosen: code is smaller, data are larger, and Ray's own limit is 500 MB
INSTALLED: Final = ("optuna.", "ray.")
"""What the names of searches begin with that need no code of the user's."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP archive holds: the same files give the same archive


@dataclass(frozen=True)
class Code:
    """A packed folder."""

    archive: bytes  # the files as a ZIP archive
    names: tuple[str, ...]  # what is in it
    n_bytes: int  # their size
    # What of the folder was left out; folders end in a slash. Nothing is known of it where the archive lies in a run
    # folder.
    ignored: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """By which it is known again."""
        return hashlib.sha256(self.archive).hexdigest()

    def unpacked(self) -> Path:
        """A folder of this machine with the files, which is made once and kept: `bcrit/code` in the user's cache."""
        cache = user_cache() / "code"
        folder = cache / self.sha256[:16]
        if not folder.exists():
            cache.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=cache))
            with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
                archive.extractall(partial)  # noqa: S202  (our own archive; zipfile keeps members inside)
            try:
                os.rename(partial, folder)
            except OSError:  # another process has just made it
                shutil.rmtree(partial)
        return folder


def is_own(experiment: Experiment) -> bool:
    """Whether an experiment names a class, function or program of the user's: to train, or to search with."""
    search = experiment.search.protocol
    return experiment.workload.own or (":" in search and not search.startswith(INSTALLED))


def pack(folder: Path) -> Code:
    """Pack a folder's files without those that are ignored; the same files give the same bytes.

    More than can be code is an InputError.
    """
    if not folder.is_dir():
        raise InputError(str(folder), ["the code is to be packed, but this is no folder; name the one with the module"])
    files, ignored, size = [], [], 0
    for path, counts in _files(folder, _patterns(folder)):
        if not counts:
            ignored.append(path.relative_to(folder).as_posix() + "/" * path.is_dir())
            continue
        size += path.stat().st_size
        if size > MOST_BYTES:
            problem = f"the code in it is to go along with the run, but there is more than {MOST_BYTES // 10**6} MB"
            remedy = (
                f"start in a folder that holds the code alone, or name what is no code in {IGNORE_FILE}, one a line"
            )
            raise InputError(str(folder), [f"{problem} (the last file was {path.relative_to(folder)}); {remedy}"])
        files.append(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH), path.read_bytes())
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return Code(buffer.getvalue(), names, size, tuple(ignored))


def stored(run: RunFolder) -> Code | None:
    """The code that lies in a run folder; None where there is none. What is damaged is an InputError."""
    if not run.has(CODE):
        return None
    archive, remedy = run.read_bytes(CODE), "bring the code yourself, with --code FOLDER"
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            size = sum(info.file_size for info in opened.infolist())
            if size > MOST_BYTES:
                says = f"{CODE} says that it holds {size / 10**6:,.0f} MB, more than {MOST_BYTES // 10**6} MB of code"
                raise InputError(str(run), [f"{says}; {remedy}"])
            damaged = opened.testzip()
            found = Code(archive, tuple(opened.namelist()), size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(str(run), [f"{CODE} is damaged ({error}); {remedy}"]) from error
    if damaged is not None:
        raise InputError(str(run), [f"{CODE} is damaged, in {damaged}; {remedy}"])
    return found


def to_go_along(folder: RunFolder, new: bool, local: bool) -> tuple[Code | None, list[str]]:
    """The user's code, of the folder where the command was started or as the run has it since it began; and notes.

    A folder with more in it than code is only in the way where the code must travel: to the machines of a cluster.
    """
    if not new:
        return stored(folder), []
    try:
        return pack(Path.cwd()), []
    except InputError as error:
        if not local:
            raise
        return None, [f"no copy of your code is kept, so resume this run from the same folder: {error.problems[0]}"]


def use_code(folder: RunFolder, new: Path | None) -> Code | None:
    """Let the user's module be found as the run has it, before the folder where the command was started.

    The code of the folder `new` takes the place of the run's copy. None for a run without any.
    """
    own = stored(folder) if new is None else pack(new)
    if own is not None:
        reach(own.unpacked())
    return own


def _patterns(folder: Path) -> tuple[str, ...]:
    own = folder / IGNORE_FILE
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    return IGNORED + tuple(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#"))


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    """The files in order of their names, with the folders that are ignored, and whether each counts.

    Links to folders are not followed.
    """
    for parent, folders, names in os.walk(folder):
        here = Path(parent).relative_to(folder)
        ignored = {name for name in (*folders, *names) if _ignored(here / name, patterns)}
        yield from ((Path(parent) / name, False) for name in sorted(ignored))
        folders[:] = sorted(set(folders) - ignored)
        for name in sorted(set(names) - ignored):
            if (path := Path(parent) / name).is_file():
                yield path, True


def _ignored(path: Path, patterns: tuple[str, ...]) -> bool:
    """Whether the name of a file or folder, or its path from the top, is of a pattern."""
    return any(fnmatch.fnmatch(text, pattern) for pattern in patterns for text in (path.name, path.as_posix()))
