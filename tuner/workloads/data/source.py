"""Which data a workload trains on: the option `data`, the files or the name on the hub it means, and their columns."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr

from bcrit.search_spaces.options import Frozen

Count = Annotated[StrictInt, Field(ge=1)]
Share = Annotated[StrictFloat, Field(gt=0, lt=1)]


class DataChoice(Frozen):
    """Where data come from, which part of them trains and which validates.

    A `source` that exists, seen from the working directory, is a file or folder; any other is a name on the hub of
    Hugging Face `datasets`. Nothing is ever validated on a test split, unless `validation` names it.
    """

    source: StrictStr  # path or hub name
    train: StrictStr = "train"  # the split to train on
    # how many examples are held out of the training split, or which share of it; or the name of another split. None =
    # the split `validation` if there is one, else a share that the kind of data chooses
    validation: Count | Share | StrictStr | None = None
    examples: Count | None = None  # use only this many of the training split, the first ones; None = all
    configuration: StrictStr | None = None  # of a data set on the hub that has several
    # of a data set on the hub: branch, tag or commit. None = the one found when it is first read
    revision: StrictStr | None = None
    # read a data set of the hub without first saving it as it is there. For what does not fit on the disk twice, or,
    # with `examples`, even once
    streaming: bool = False
    columns: dict[str, str] = {}  # names of the columns, where they cannot be guessed
    cache: StrictStr | None = None  # folder for the converted data; None = `bcrit` in `$XDG_CACHE_HOME` or `~/.cache`


class ImageChoice(DataChoice):
    """Images and their classes."""

    # scale the shorter side of every image to this many pixels and cut out the middle square; None = images as they
    # are, which must then all have one size
    image_size: Count | None = None
    channels: Literal[1, 3] | None = None  # grey or colour; None = as the first image has


class TextChoice(DataChoice):
    """Text, as one long sequence of tokens."""

    # `characters` (those that occur in the text), `bytes` (of its UTF-8 form), or the path of a JSON file of the
    # library `tokenizers`
    tokenizer: StrictStr = "characters"


@dataclass(frozen=True)
class HubName:
    """Where a data set is on the hub."""

    repository: str  # its full name
    configuration: str | None = None  # which of its configurations; None = its only one
    revision: str | None = None  # branch, tag or commit; None = the main branch


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
    """A file or folder."""

    path: Path  # absolute
    files: tuple[Path, ...]  # all files in it, sorted; hidden ones are left out

    @property
    def key(self) -> list[list[Any]]:
        """What changes when a file does: its path, its size in bytes and when it was last written (ns)."""
        stats = [(file, file.stat()) for file in self.files]
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]

    def with_suffix(self, *suffixes: str) -> tuple[Path, ...]:
        """The files whose names end in one of these."""
        return tuple(file for file in self.files if file.name.lower().endswith(suffixes))


def find_source(choice: DataChoice) -> LocalFiles | HubName:
    """Find what a choice names: files, or a name on the hub.

    Where it looks like a path and nothing is there, or no files, or a broken link, a ValueError says so.
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


USUAL: Final = {
    "image": ("image", "img", "pixels", "images", "jpg", "png"),
    "label": ("label", "labels", "class", "target", "fine_label", "cls", "digit"),
    "text": ("text", "sentence", "content", "document"),
}
"""Names that the columns of data sets on the hub have, the most usual first."""


def find_column(role: str, columns: Iterable[str], chosen: Mapping[str, str], name: str) -> str:
    """The column that plays a role of `USUAL`: the one that the user chose for it, or the first of its usual names.

    Where that is not among the columns, a ValueError lists those of the data set of this name.
    """
    there = list(columns)
    if unknown := sorted(set(chosen) - set(USUAL)):
        raise ValueError(f"'columns' names {', '.join(unknown)}, but what can be named is {', '.join(USUAL)}")
    candidates = [chosen[role]] if role in chosen else list(USUAL[role])
    for candidate in candidates:
        if candidate in there:
            return candidate
    wanted = f"'{chosen[role]}'" if role in chosen else f"for the {role}"
    raise ValueError(
        f"'{name}' has no column {wanted}; its columns are {', '.join(there)}; name the right one with "
        f"'columns: {{{role}: ...}}' in 'data'"
    )
