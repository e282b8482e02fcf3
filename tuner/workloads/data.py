"""Which data a workload trains on: the option `data`, the files or the name on the hub it means, and their rows."""

import importlib
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

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
    """Text, as one long sequence of tokens; or what is tokens already (`.bin`, `.npy`, a column `input_ids`)."""

    # `characters` (those that occur in the text), `bytes` (of its UTF-8 form), or the path of a JSON file of the
    # library `tokenizers`
    tokenizer: StrictStr = "characters"
    # of data that are tokens already: how many kinds there are. None = as many as `tokenizer` has, or `tokenizer.json`
    # beside the data
    vocabulary: Count | None = None


@dataclass(frozen=True)
class HubName:
    """Where a data set is on the hub."""

    repository: str  # its full name
    configuration: str | None = None  # which of its configurations; None = its only one
    revision: str | None = None  # branch, tag or commit; None = the main branch

    @property
    def key(self) -> dict[str, str | None]:
        """What tells its converted data from others."""
        return dict(vars(self))


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
        return [stamp(file) for file in self.files]

    def with_suffix(self, *suffixes: str) -> tuple[Path, ...]:
        """The files whose names end in one of these."""
        return tuple(file for file in self.files if file.name.lower().endswith(suffixes))


def stamp(file: Path) -> list[Any]:
    """Path, size in bytes and when it was last written (ns)."""
    stat = file.stat()
    return [str(file), stat.st_size, stat.st_mtime_ns]


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


def _inside(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


_ENDINGS: Final = tuple(".parquet .pq .arrow .txt .md .log .gz .csv .json .jsonl .bin .npy .zip .tar -ubyte".split())


def _looks_like_a_path(source: str, path: Path) -> bool:
    """A name on the hub is `name` or `owner/name`, without a suffix of a data file.

    `data/mnist` could be one too, but not where there is a folder `data`.
    """
    parts = source.split("/")
    if len(parts) == 2 and path.parent.is_dir():
        return True
    return len(parts) > 2 or parts[0][:1] in ("", ".", "~") or source.lower().endswith(_ENDINGS)


# Everything that is read through the library `datasets`: the hub, Parquet, Arrow, folders of images.

Row = Mapping[str, Any]

TABLES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}
"""What the library calls the files that it is given one by one, by their ending. What it does not know it takes for a
name on the hub."""

_MAGIC: Final = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_JSON_LINE = re.compile(rb'^\s*\{[^\n]*?"(?:text|sentence|content|document|input_ids)"\s*:')


def table_kind(file: Path) -> str | None:
    """What the library calls a file: by its first bytes, then by its ending; None where it is no table."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    for mark, kind in _MAGIC.items():
        if head.startswith(mark):
            return kind
    plain = file.with_suffix("") if file.suffix.lower() == ".gz" else file  # which the library unpacks
    return "json" if _JSON_LINE.match(head) else TABLES.get(plain.suffix.lower())


_IN_FOLDERS = (".tsv", ".ndjson", ".zip", ".tar")  # read there too, and what is compressed, as train.jsonl.gz
_NO_ROWS = "BatchSize must be greater than 0"  # what Arrow says of a Parquet file without any
_SHOWN = 5  # endings in a message
_PATIENCE = 4.0  # seconds for the hub to answer whether it has a data set; chosen, not studied


@dataclass(frozen=True)
class Rows:
    """One split, or its first rows."""

    name: str  # what was opened, for messages
    rows: Any  # every iteration reads them anew; of the library, or mappings
    classes: Mapping[str, int]  # by column, the number of classes, where the data say so
    limit: int | None = None  # only so many; None = all

    def __iter__(self) -> Iterator[Row]:
        """The rows one by one, as the library decodes them; whatever goes wrong there is a ValueError."""
        number = 0
        try:
            for row in islice(self.rows, self.limit):
                yield row
                number += 1
        except Exception as error:  # whatever decoders and file systems raise
            if _NO_ROWS in str(error):
                raise ValueError(f"'{self.name}' cannot be read: a file of it has no rows; remove it") from error
            damaged = self._image(number)
            what = f"row {number} of it, the image '{damaged}', is damaged; mend, fetch or remove it"
            raise ValueError(f"{_unreadable(self.name, error)}; {what if damaged else 'fetch it again'}") from error

    def _image(self, number: int) -> str | None:
        """The file of a row's image, which could not be decoded; None where it is none, or has no name."""
        try:
            import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]

            columns = [name for name, of in self.rows.features.items() if isinstance(of, datasets.Image)]
            raw = self.rows.cast_column(columns[0], datasets.Image(decode=False))
            path = next(islice(iter(raw), number, None))[columns[0]]["path"]
        except Exception:  # it is damaged in another way, or nothing of the library's
            return None
        return None if path is None else str(path)


def open_splits(source: LocalFiles | HubName, choice: DataChoice) -> dict[str, Rows]:
    """Open a data set; rows are read as they are asked for.

    Local files are never copied by the library, and data on the hub are first saved in the library's own cache unless
    `streaming` is set. No code that comes with a data set is ever run. Where the library is missing or cannot open it,
    a ValueError says so.
    """
    datasets = library("datasets", f"data '{choice.source}' are read with the library 'datasets'")
    name = str(source.path) if isinstance(source, LocalFiles) else source.repository
    if isinstance(source, LocalFiles):
        _refuse_unreadable(source)
    try:
        if isinstance(source, HubName):
            splits = _from_hub(source, choice.streaming)
        elif source.with_suffix("state.json") and source.with_suffix(".arrow"):
            splits = datasets.load_from_disk(str(source.path))
        elif source.path.is_dir():
            splits = datasets.load_dataset(str(source.path), streaming=True)
        else:
            files = {choice.train: str(source.path)}
            splits = datasets.load_dataset(table_kind(source.path), data_files=files, streaming=True)
    except Exception as error:  # whatever the library, its network and its file systems raise
        if isinstance(source, LocalFiles):
            raise ValueError(f"{_unreadable(name, error)}; fetch it again") from error
        raise ValueError(
            f"there is no file or folder '{choice.source}' in '{os.getcwd()}', and as a name on the hub, "
            f"{_unreadable(name, error)}; correct the path or the name, or see that the hub can be reached"
        ) from error
    if not isinstance(splits, dict):  # saved without splits
        splits = {choice.train: splits}
    return {split: Rows(f"{name} ({split})", rows, _classes(rows)) for split, rows in splits.items()}


def library(module: str, said: str, extra: str = "data") -> Any:
    """A module that comes with an extra; where it is not there, a ValueError with what is `said` of it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
        raise ValueError(f"{said}, which {why}; pip install 'bcrit[{extra}]'") from error


def _refuse_unreadable(source: LocalFiles) -> None:
    """Refuse files of which the library would say something else, or ask the hub: of other kinds, or empty."""
    if not any(_readable(file, source) for file in source.files):
        endings = ", ".join(sorted({file.suffix or file.name for file in source.files})[:_SHOWN])
        raise ValueError(
            f"'{source.path}' cannot be read: files must end in {', '.join(TABLES)}, or be images in a folder, but it "
            f"has only {endings}; bring the data into one of these forms"
        )
    if empty := [file for file in source.files if file.suffix.lower() in TABLES and not file.stat().st_size]:
        raise ValueError(f"'{empty[0]}' cannot be read: it is empty; put the data there, or remove the file")


def _readable(file: Path, source: LocalFiles) -> bool:
    """Whether the library may make sense of a file; a single image is no data set."""
    if table_kind(file) is not None:
        return True
    kind = mimetypes.guess_type(file.name)[0] or ""
    endings = {ending.lower() for ending in file.suffixes}
    return source.path.is_dir() and (kind.startswith("image/") or not endings.isdisjoint((*TABLES, *_IN_FOLDERS)))


def _from_hub(source: HubName, streaming: bool) -> Any:
    """A data set of the hub, or where that does not answer, what the library has kept of it.

    Left to itself, the library asks a hub that is out of reach six times, with pauses of 23 s in all.
    """
    import datasets
    import huggingface_hub

    config, unanswered = datasets.config, None
    offline = config.HF_HUB_OFFLINE
    if not offline:
        try:
            huggingface_hub.HfApi(endpoint=config.HF_ENDPOINT).dataset_info(
                source.repository, revision=source.revision, timeout=_PATIENCE
            )
        except Exception as error:  # whatever its network raises: unknown, private, out of reach
            unanswered = error
    config.HF_HUB_OFFLINE = offline or unanswered is not None
    try:
        return datasets.load_dataset(
            source.repository, source.configuration, revision=source.revision, streaming=streaming
        )
    except Exception as error:
        raise (unanswered or error) from None
    finally:
        config.HF_HUB_OFFLINE = offline


def _classes(rows: Any) -> dict[str, int]:
    features = rows.features or {}
    return {column: feature.num_classes for column, feature in features.items() if hasattr(feature, "num_classes")}


def _unreadable(name: str, error: BaseException) -> str:
    cause = error
    while cause.__cause__ is not None:  # the library wraps what happened in what it was doing
        cause = cause.__cause__
    said = " ".join(str(cause).split())[:300]
    return f"the data set '{name}' cannot be read: {type(cause).__name__}: {said}"


Split = TypeVar("Split")


def chosen(splits: Mapping[str, Split], choice: DataChoice) -> dict[str, Split]:
    """The split to `train` on and, unless examples of that one are held out, the one for `validation`."""
    wanted = {"train": choice.train}
    if isinstance(choice.validation, str):
        wanted["validation"] = choice.validation
    elif choice.validation is None and "validation" in splits:
        wanted["validation"] = "validation"
    for name in wanted.values():
        if name not in splits:
            raise ValueError(f"'{choice.source}' has no split '{name}'; its splits are {', '.join(splits)}")
    return {part: splits[name] for part, name in wanted.items()}


USUAL: Final = {
    "image": ("image", "img", "pixels", "images", "jpg", "png"),
    "label": ("label", "labels", "class", "target", "fine_label", "cls", "digit"),
    "text": ("text", "sentence", "content", "document", "input_ids"),
}
"""Names that the columns of data sets on the hub have, the most usual first."""


def find_column(role: str, columns: Iterable[str], named: Mapping[str, str], name: str) -> str:
    """The column that plays a role of `USUAL`: the one that the user named for it, or the first of its usual names.

    Where that is not among the columns, a ValueError lists those of the data set of this name.
    """
    there = list(columns)
    if unknown := sorted(set(named) - set(USUAL)):
        raise ValueError(f"'columns' names {', '.join(unknown)}, but what can be named is {', '.join(USUAL)}")
    for candidate in [named[role]] if role in named else USUAL[role]:
        if candidate in there:
            return candidate
    wanted = f"'{named[role]}'" if role in named else f"for the {role}"
    raise ValueError(
        f"'{name}' has no column {wanted}; its columns are {', '.join(there)}; name the right one with "
        f"'columns: {{{role}: ...}}' in 'data'"
    )
