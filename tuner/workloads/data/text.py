"""Text as pieces of manageable length, from any source, by split."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bcrit.tuner.workloads.data.choice import TextChoice
from bcrit.tuner.workloads.data.columns import find_column
from bcrit.tuner.workloads.data.library import TABLES, Rows, open_splits
from bcrit.tuner.workloads.data.source import HubName, LocalFiles

_PIECE = 1 << 20  # characters at a time; chosen, not studied
_SPLIT = re.compile(r"(?:^|[._-])(train|validation|valid|val|dev|test)(?:[._-]|$)", re.IGNORECASE)
_NAMES = {"valid": "validation", "val": "validation", "dev": "validation"}


@dataclass(frozen=True)
class Texts:
    """One split: files that follow each other, or a column of texts, each ended by a line break."""

    content: tuple[Path, ...] | Rows
    choice: TextChoice

    def __iter__(self) -> Iterator[str]:
        """Pieces that end where a line ends."""
        if isinstance(self.content, Rows):
            yield from _gathered(self.content.limited(self.choice.examples), self.choice)
        else:
            for path in self.content:
                yield from _read(path)


def text_splits(source: LocalFiles | HubName, choice: TextChoice) -> Mapping[str, Texts]:
    """The splits of a text.

    Plain text files (`.txt`, `.txt.gz`, or a single file that is no table) are read without any library. A word like
    `train`, `valid` or `test` in a file's name, between dots, dashes or underscores, says which split it is; other
    files are of the training split.

    Args:
        source: files or a name on the hub.
        choice: how to read them.

    Returns:
        Texts by the split's name.

    Raises:
        ValueError: an option does not fit, or the library cannot open the source.
    """
    files = source.with_suffix(".txt", ".txt.gz") if isinstance(source, LocalFiles) else ()
    if isinstance(source, LocalFiles) and source.path.is_file():
        endings = (ending.lower() for ending in source.path.suffixes)
        if TABLES.keys().isdisjoint(endings):  # a.jsonl.gz is a table too, if a compressed one
            files = source.files
    if not files:
        return {name: Texts(rows, choice) for name, rows in open_splits(source, choice).items()}
    if choice.examples is not None:
        raise ValueError(f"'examples' counts rows, which plain text like '{choice.source}' has not; remove it")
    splits: dict[str, list[Path]] = {}
    for file in files:
        word = match[1].lower() if len(files) > 1 and (match := _SPLIT.search(file.name)) else "train"
        splits.setdefault(_NAMES.get(word, word), []).append(file)
    return {name: Texts(tuple(paths), choice) for name, paths in splits.items()}


def _read(path: Path) -> Iterator[str]:
    try:
        # newline="" keeps line ends as they are.
        with (
            gzip.open(path, "rt", encoding="utf-8", newline="")
            if path.suffix == ".gz"
            else open(path, encoding="utf-8", newline="")
        ) as file:
            while lines := file.readlines(_PIECE):
                yield "".join(lines)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"the text file '{path}' is broken: {error}; it must be whole, and in UTF-8") from error


def _gathered(rows: Rows, choice: TextChoice) -> Iterator[str]:
    lines, length = [], 0
    for number, row in enumerate(rows):
        text = row[find_column("text", row, choice.columns, rows.name)]
        if not isinstance(text, str):
            raise ValueError(f"text {number} of '{rows.name}' is {text!r}; name the right column with 'columns'")
        lines.append(text + "\n")
        length += len(text)
        if length > _PIECE:
            yield "".join(lines)
            lines, length = [], 0
    yield "".join(lines)
