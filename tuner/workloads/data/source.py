"""What the word after `source` means: files on this machine, or a data set on the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bcrit.tuner.workloads.data.choice import DataChoice


@dataclass(frozen=True)
class HubName:
    """Where a data set is on the hub.

    Attributes:
        repository: its full name.
        configuration: which of its configurations; None = its only one.
        revision: branch, tag or commit; None = the main branch.
    """

    repository: str
    configuration: str | None = None
    revision: str | None = None


KNOWN: Final = {
    "mnist": HubName("ylecun/mnist"),
    "fashion_mnist": HubName("zalando-datasets/fashion_mnist"),
    "cifar10": HubName("uoft-cs/cifar10"),
    "cifar100": HubName("uoft-cs/cifar100"),
    "svhn": HubName("ufldl-stanford/svhn", configuration="cropped_digits"),
    "imagenet-1k": HubName("ILSVRC/imagenet-1k"),
    # Its own form is a script, which nothing here ever runs; the hub keeps a copy of the data as Parquet.
    "lm1b": HubName("billion-word-benchmark/lm1b", revision="refs/convert/parquet"),
}
"""The data sets of Shallue et al. 2018 and McCandlish et al. 2018 that the hub has, by their short names."""


@dataclass(frozen=True)
class LocalFiles:
    """A file or folder.

    Attributes:
        path: of the file or folder, absolute.
        files: all files in it, sorted; hidden ones are left out.
    """

    path: Path
    files: tuple[Path, ...]

    @property
    def key(self) -> list[list[Any]]:
        """What changes when a file does: its path, its size in bytes and when it was last written (ns)."""
        stats = [(file, file.stat()) for file in self.files]
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]

    def with_suffix(self, *suffixes: str) -> tuple[Path, ...]:
        """The files whose names end in one of these."""
        return tuple(file for file in self.files if file.name.lower().endswith(suffixes))


def find_source(choice: DataChoice) -> LocalFiles | HubName:
    """Find what a choice names.

    Args:
        choice: `source`, and for the hub `configuration` and `revision`.

    Returns:
        The files, or the name on the hub.

    Raises:
        ValueError: it looks like a path and nothing is there, there are no files in it, or one is a broken link.
    """
    path = Path(os.path.expanduser(choice.source)).absolute()  # Path's own raises where there is no such user
    if path.exists():
        files = [path] if path.is_file() else sorted(_inside(path))
        if not files:
            raise ValueError(f"the folder '{path}' has no files in it; put the data there")
        for file in files:
            _refuse_broken_link(file)
        for name in ("configuration", "revision"):
            if getattr(choice, name) is not None:
                raise ValueError(f"'{name}' is for data sets of the hub, but '{choice.source}' is a path; remove it")
        return LocalFiles(path, tuple(files))
    _refuse_broken_link(path)
    if _looks_like_a_path(choice.source, path):
        raise ValueError(f"there is no file or folder '{path}'; put the data there, or correct 'data'")
    known = KNOWN.get(choice.source, HubName(choice.source))
    return HubName(known.repository, choice.configuration or known.configuration, choice.revision or known.revision)


def _refuse_broken_link(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise ValueError(f"'{path}' is a link to '{os.readlink(path)}', where nothing is; mend or remove it")


def _inside(folder: Path) -> list[Path]:
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return found


_ENDINGS: Final = tuple(".parquet .pq .arrow .txt .md .log .gz .csv .json .jsonl .zip .tar -ubyte".split())


def _looks_like_a_path(source: str, path: Path) -> bool:
    """A name on the hub is `name` or `owner/name`, without a suffix of a data file.

    `data/mnist` could be one too, but not where there is a folder `data`.
    """
    parts = source.split("/")
    if len(parts) == 2 and path.parent.is_dir():
        return True
    return len(parts) > 2 or parts[0][:1] in ("", ".", "~") or source.lower().endswith(_ENDINGS)
