"""Everything that is read through the library `datasets`: the hub, Parquet, Arrow, folders of images."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bcrit.tuner.workloads.data.source import DataChoice, HubName, LocalFiles

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

_IN_FOLDERS = (".tsv", ".ndjson", ".zip", ".tar")  # read there too, and what is compressed, as train.jsonl.gz
_NO_ROWS = "BatchSize must be greater than 0"  # what Arrow says of a Parquet file without any
_SHOWN = 5  # endings in a message
_PATIENCE = 4.0  # seconds for the hub to answer whether it has a data set; chosen, not studied


@dataclass(frozen=True)
class Rows:
    """One split."""

    name: str  # what was opened, for messages
    rows: Iterable[Row]  # every iteration reads them anew
    classes: Mapping[str, int]  # by column, the number of classes, where the data say so

    def __iter__(self) -> Iterator[Row]:
        """The rows one by one, as the library decodes them; whatever goes wrong there is a ValueError."""
        rows = iter(self.rows)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # whatever decoders and file systems raise
                if _NO_ROWS in str(error):
                    raise ValueError(f"'{self.name}' cannot be read: a file of it has no rows; remove it") from error
                raise ValueError(f"{_unreadable(self.name, error)}; fetch it again") from error
            yield row

    def limited(self, count: int | None) -> Rows:
        """Only the first rows."""
        return self if count is None else Rows(self.name, _First(self.rows, count), self.classes)


@dataclass(frozen=True)
class _First:
    rows: Iterable[Row]
    count: int

    def __iter__(self) -> Iterator[Row]:
        return islice(self.rows, self.count)


def open_splits(source: LocalFiles | HubName, choice: DataChoice) -> Mapping[str, Rows]:
    """Open a data set; rows are read as they are asked for.

    Local files are never copied by the library, and data on the hub are first saved in the library's own cache unless
    `streaming` is set. No code that comes with a data set is ever run. Where the library is missing or cannot open it,
    a ValueError says so.
    """
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise ValueError(
            f"data '{choice.source}' are read with the library 'datasets', which is not installed; "
            "pip install 'bcrit[data]'"
        ) from error
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
            splits = datasets.load_dataset(TABLES[source.path.suffix.lower()], data_files=files, streaming=True)
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
    if file.suffix.lower() in TABLES:
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
