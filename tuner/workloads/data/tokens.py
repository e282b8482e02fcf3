"""Text, from any source, as one long sequence of tokens: bytes, characters, or those of a tokenizer of the user's."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.workloads.data.cache import Writer, converted
from bcrit.tuner.workloads.data.library import TABLES, Rows, open_splits
from bcrit.tuner.workloads.data.source import HubName, LocalFiles, TextChoice, find_column, find_source

_PIECE = 1 << 22  # tokens renumbered at a time; chosen, not studied
_CHARACTERS = 1 << 20  # read at a time; chosen, not studied
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
            while lines := file.readlines(_CHARACTERS):
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
        if length > _CHARACTERS:
            yield "".join(lines)
            lines, length = [], 0
    yield "".join(lines)


@dataclass(frozen=True)
class TokenSet:
    """Tokens to train and to validate on, mapped into memory."""

    train: NDArray[Any]  # (n,), whole numbers below `n_kinds`
    # None where the source has no split for it, so that the end of `train` is held out
    validation: NDArray[Any] | None
    n_kinds: int  # size of the vocabulary
    alphabet: str  # the characters in the order of their numbers; empty unless tokens are characters


def load_tokens(choice: TextChoice) -> TokenSet:
    """The tokens that a choice names; converted at the first use on a machine, mapped into memory ever after.

    Where text or tokenizer are missing, broken or not what the choice says, a ValueError says so.
    """
    source = find_source(choice)
    tokenizer = [choice.tokenizer, _file_of(choice.tokenizer)]
    split = choice.validation if isinstance(choice.validation, str) else None
    key = {
        "kind": "tokens",
        "source": source.key if isinstance(source, LocalFiles) else vars(source),
        "tokenizer": tokenizer,
        "splits": [choice.train, split, choice.validation is None],
        **choice.model_dump(include={"examples", "columns"}),
    }

    def convert(writer: Writer) -> dict[str, Any]:
        splits = text_splits(source, choice)
        wanted = {"train": choice.train}
        if split is not None or (choice.validation is None and "validation" in splits):
            wanted["validation"] = split or "validation"
        for name in wanted.values():
            if name not in splits:
                raise ValueError(f"'{choice.source}' has no split '{name}'; its splits are {', '.join(splits)}")
        facts = _convert({part: splits[name] for part, name in wanted.items()}, choice.tokenizer, writer)
        for part in wanted:
            if len(writer.written(part)) == 0:
                raise ValueError(f"'{choice.source}' has no text to {'train' if part == 'train' else 'validate'} on")
        return facts

    data = converted(choice.cache, key, convert)
    arrays, facts = data.arrays, data.facts
    return TokenSet(arrays["train"], arrays.get("validation"), facts["n_kinds"], facts["alphabet"])


def _file_of(tokenizer: str) -> list[Any] | None:
    if tokenizer in ("bytes", "characters"):
        return None
    path = Path(tokenizer).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"'tokenizer' must be characters, bytes or a file, but there is no file '{path}'")
    return [str(path), path.stat().st_size, path.stat().st_mtime_ns]


def _convert(parts: dict[str, Texts], tokenizer: str, writer: Writer) -> dict[str, Any]:
    if tokenizer == "bytes":
        _encode(parts, lambda text: np.frombuffer(text.encode(), np.uint8), writer)
        return {"n_kinds": 256, "alphabet": ""}
    if tokenizer == "characters":
        alphabet = _characters(parts, writer)
        return {"n_kinds": len(alphabet), "alphabet": alphabet}
    encode, n_kinds = _from_library(tokenizer)
    _encode(parts, encode, writer)
    return {"n_kinds": n_kinds, "alphabet": ""}


def _encode(parts: dict[str, Texts], encode: Callable[[str], NDArray[Any]], writer: Writer) -> None:
    for part, texts in parts.items():
        for text in filter(None, texts):
            writer.append(part, encode(text))


def _characters(parts: dict[str, Texts], writer: Writer) -> str:
    """Write characters by their rank among all that occur; code points are kept on the way, to read the text once."""
    points = {f"{part}_points": texts for part, texts in parts.items()}
    _encode(points, lambda text: np.frombuffer(text.encode("utf-32-le"), "<u4"), writer)
    written = {part: writer.written(f"{part}_points") for part in parts}
    kinds = [np.unique(piece) for whole in written.values() for piece in _pieces(whole)]
    known = np.unique(np.concatenate(kinds)) if kinds else np.empty(0, "<u4")
    for part, whole in written.items():
        for piece in _pieces(whole):
            writer.append(part, np.searchsorted(known, piece).astype(_smallest(len(known))))
        if len(whole):
            writer.drop(f"{part}_points")
    return "".join(map(chr, known))


def _pieces(whole: NDArray[Any]) -> Iterable[NDArray[Any]]:
    return (whole[start : start + _PIECE] for start in range(0, len(whole), _PIECE))


def _from_library(path: str) -> tuple[Callable[[str], NDArray[Any]], int]:
    try:
        import tokenizers  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ValueError(
            f"the tokenizer '{path}' needs the library 'tokenizers', which is not installed; pip install 'bcrit[data]'"
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(Path(path).expanduser()))
    except Exception as error:  # the library raises plain exceptions
        raise ValueError(
            f"the tokenizer '{path}' cannot be read: {error}; it must be a JSON file of the library 'tokenizers'"
        ) from error
    n_kinds = tokenizer.get_vocab_size()
    dtype = _smallest(n_kinds)
    return lambda text: np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype), n_kinds


def _smallest(n_kinds: int) -> type[np.generic]:
    """The smallest type for numbers below `n_kinds` that PyTorch can index and move on every device."""
    return np.uint8 if n_kinds <= 256 else np.int16 if n_kinds <= 1 << 15 else np.int32
