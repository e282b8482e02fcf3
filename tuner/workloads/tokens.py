"""Text, from any source, as one long sequence of tokens: bytes, characters, or those of a tokenizer of the user's."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from bcrit.tuner.workloads.cache import Writer, converted
from bcrit.tuner.workloads.data import (
    TABLES,
    HubName,
    LocalFiles,
    Rows,
    TextChoice,
    chosen,
    find_column,
    find_source,
    library,
    open_splits,
    stamp,
    table_kind,
)

_OURS = ("bytes", "characters")  # tokenizers
_PIECE = 1 << 22  # tokens renumbered at a time; chosen, not studied
_CHARACTERS = 1 << 20  # read at a time; chosen, not studied
_SPLIT = re.compile(r"(?:^|[._-])(train|validation|valid|val|dev|test)(?:[._-]|$)", re.IGNORECASE)
_ABOUT = re.compile(r"readme|licen[cs]e", re.IGNORECASE)
_NAMES = {"valid": "validation", "val": "validation", "dev": "validation"}

Texts = Callable[[], Iterator[str | NDArray[Any]]]
"""Reads one split, in pieces that end where a line ends; of what is tokens already, their numbers."""


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
    file = None
    if choice.tokenizer not in _OURS:
        path = Path(choice.tokenizer).expanduser().absolute()
        if not path.is_file():
            raise ValueError(f"'tokenizer' must be characters, bytes or a file, but there is no file '{path}'")
        file = stamp(path)
    beside = _tokenizer_beside(source) if file is None else None
    split = choice.validation if isinstance(choice.validation, str) else None
    key = {
        "kind": "tokens",
        "source": source.key,
        "tokenizer": [choice.tokenizer, file],
        "splits": [choice.train, split, choice.validation is None],
        **choice.model_dump(include={"examples", "columns"}),
    }
    if choice.vocabulary is not None or beside is not None:
        key["vocabulary"] = [choice.vocabulary, beside and stamp(beside)]

    def convert(writer: Writer) -> dict[str, Any]:
        parts = chosen(_splits(source, choice), choice)
        facts = _convert(parts, choice, beside, writer)
        for part in parts:
            if len(writer.written(part)) == 0:
                raise ValueError(f"'{choice.source}' has no text to {'train' if part == 'train' else 'validate'} on")
        return facts

    data = converted(choice.cache, key, convert)
    arrays, facts = data.arrays, data.facts
    return TokenSet(arrays["train"], arrays.get("validation"), facts["n_kinds"], facts["alphabet"])


def _splits(source: LocalFiles | HubName, choice: TextChoice) -> Mapping[str, Texts]:
    """The splits of a text: files that follow each other, or a column of texts, each ended by a line break.

    Plain text files (`.txt`, `.txt.gz`, or a single file that is no table) and tokens (`.bin`, `.npy`) are read without
    any library. A word like `train`, `valid` or `test` in a file's name, between dots, dashes or underscores, says
    which split it is; other files are of the training split. What tells of a folder's data is none of them.
    """
    if isinstance(source, HubName):
        return _of_rows(source, choice)
    stored, files = source.with_suffix(*_STORED), source.with_suffix(".txt", ".txt.gz")
    if source.path.is_dir():
        files = tuple(file for file in files if not _ABOUT.match(file.name))
    if source.path.is_file() and not stored and _is_text(source.path):
        files = source.files
    if stored and (choice.vocabulary is not None or not files):
        files = stored
    tables = [file for file in files if file not in stored and not _is_text(file)]
    if tables and source.path.is_dir():
        raise ValueError(f"'{tables[0]}' is no plain text but a table by its content; name it .jsonl or .parquet")
    if tables or not files:
        return _of_rows(source, choice)
    if choice.examples is not None:
        raise ValueError(f"'examples' counts rows, which plain text like '{choice.source}' has not; remove it")
    splits: dict[str, list[Path]] = {}
    for file in files:
        word = match[1].lower() if len(files) > 1 and (match := _SPLIT.search(file.name)) else "train"
        splits.setdefault(_NAMES.get(word, word), []).append(file)
    if files == stored:
        n_kinds = _vocabulary(choice, _tokenizer_beside(source))
        return {name: partial(_stored, paths, n_kinds) for name, paths in splits.items()}
    return {name: partial(_read, paths) for name, paths in splits.items()}


def _of_rows(source: LocalFiles | HubName, choice: TextChoice) -> Mapping[str, Texts]:
    return {name: partial(_gathered, rows, choice) for name, rows in open_splits(source, choice).items()}


def _is_text(file: Path) -> bool:
    """Whether a file is no table; a.jsonl.gz is one too, if a compressed one."""
    endings = TABLES.keys() - {".txt"}
    return table_kind(file) in (None, "text") and endings.isdisjoint(ending.lower() for ending in file.suffixes)


def _read(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8", newline="") as file:  # newline="" keeps line ends as they are
                while lines := file.readlines(_CHARACTERS):
                    text = "".join(lines)
                    if "\0" in text:
                        raise ValueError("it has NUL bytes, so that it is no text")
                    yield text
        except (OSError, EOFError, zlib.error, ValueError) as error:
            remedy = "it must be whole, and in UTF-8; tokens are read from .bin and .npy, rows from .jsonl and .parquet"
            raise ValueError(f"the text file '{path}' is broken: {error}; {remedy}") from error


_STORED = (".bin", ".npy")
# What llm.c and modded-nanogpt put before the tokens of a .bin: 256 numbers, the first of which says how wide they are.
_HEADERS: Mapping[int, type[np.generic]] = {20240520: np.uint16, 20240801: np.uint32}


def _stored(paths: list[Path], n_kinds: int) -> Iterator[NDArray[Any]]:
    """Tokens as people store them: an array of numpy, or bare numbers of two or four bytes."""
    for path in paths:
        try:
            tokens = open_memmap(path, mode="r").ravel() if path.suffix == ".npy" else _bare(path, n_kinds)
            if tokens.dtype.kind not in "iu":
                raise ValueError(f"tokens are whole numbers, but these are {tokens.dtype}")
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"the tokens in '{path}' cannot be read: {error}") from error
        yield from _pieces(tokens)


def _bare(path: Path, n_kinds: int) -> NDArray[Any]:
    size = path.stat().st_size
    if not size or size % 2:
        raise ValueError(f"a .bin holds numbers of two or four bytes, but it has {size} bytes")
    with path.open("rb") as file:
        head = file.read(_CHARACTERS)
    if kind := _HEADERS.get(int.from_bytes(head[:4], "little")):
        return np.memmap(path, kind, "r", offset=1024)
    with suppress(UnicodeDecodeError):
        if b"\0" not in head and head.decode():
            raise ValueError("it is text by its bytes; name it .txt")
    narrow = np.memmap(path, np.uint16, "r")
    # The upper half of every number is zero only where they are of four bytes.
    wide = size % 4 == 0 and (n_kinds > 1 << 16 or not narrow[1::2].any())
    if not wide:
        return narrow
    numbers = np.memmap(path, np.uint32, "r")
    if len(numbers) % 2 == 0 and not numbers[1::2].any():
        raise ValueError("a .bin holds numbers of two or four bytes, but these seem to have eight; save them as uint32")
    return numbers


def _tokenizer_beside(source: LocalFiles | HubName) -> Path | None:
    """The file of the tokenizer that data lie beside, as Hugging Face names it."""
    if isinstance(source, HubName):
        return None
    path = (source.path if source.path.is_dir() else source.path.parent) / "tokenizer.json"
    return path if path.is_file() else None


def _vocabulary(choice: TextChoice, beside: Path | None) -> int:
    """How many kinds of tokens there are in data that are tokens already."""
    named = choice.tokenizer if choice.tokenizer not in _OURS else beside
    if choice.vocabulary is None and named is None:
        given = f"data: {{source: {choice.source}, vocabulary: N}}"
        remedy = f"give its size, `{given}`, or the file of their tokenizer as 'tokenizer' there"
        raise ValueError(f"'{choice.source}' holds tokens, not text, and their vocabulary is not known; {remedy}")
    return choice.vocabulary or _from_library(str(named))[1]


def _gathered(rows: Rows, choice: TextChoice) -> Iterator[str | NDArray[Any]]:
    lines, length = [], 0
    for number, row in enumerate(replace(rows, limit=choice.examples)):
        text = row[find_column("text", row, choice.columns, rows.name)]
        if isinstance(text, list) and all(type(token) is int for token in text):
            yield np.array(text, np.int64)
            continue
        if not isinstance(text, str):
            raise ValueError(f"text {number} of '{rows.name}' is {text!r:.80}; name the right column with 'columns'")
        lines.append(text + "\n")
        length += len(text)
        if length > _CHARACTERS:
            yield "".join(lines)
            lines, length = [], 0
    if lines:
        yield "".join(lines)


def _convert(parts: Mapping[str, Texts], choice: TextChoice, beside: Path | None, writer: Writer) -> dict[str, Any]:
    pieces, tokenizer = {part: texts() for part, texts in parts.items()}, choice.tokenizer
    first = {part: next(texts, "") for part, texts in pieces.items()}
    whole = {part: chain([first[part]], texts) for part, texts in pieces.items()}
    if isinstance(first["train"], np.ndarray):
        n_kinds = _vocabulary(choice, beside)
        _encode(whole, partial(_checked, n_kinds=n_kinds, source=choice.source), writer)
        return {"n_kinds": n_kinds, "alphabet": ""}
    if choice.vocabulary is not None:
        raise ValueError(f"'vocabulary' is for data that are tokens already, but '{choice.source}' is text; remove it")
    if tokenizer == "characters":
        alphabet = _characters(whole, writer)
        return {"n_kinds": len(alphabet), "alphabet": alphabet}
    if tokenizer == "bytes":
        _encode(whole, lambda text: np.frombuffer(text.encode(), np.uint8), writer)
        return {"n_kinds": 256, "alphabet": ""}
    encode, n_kinds = _from_library(tokenizer)
    _encode(whole, encode, writer)
    return {"n_kinds": n_kinds, "alphabet": ""}


def _checked(tokens: NDArray[Any], n_kinds: int, source: str) -> NDArray[Any]:
    if not 0 <= tokens.min(initial=0) <= tokens.max(initial=0) < n_kinds:
        wrong = tokens.max() if tokens.max() >= n_kinds else tokens.min()
        rule = f"tokens must lie from 0 to {n_kinds - 1}, but '{source}' has {wrong}"
        raise ValueError(f"{rule}; its vocabulary is another, or its numbers are of another width")
    return tokens.astype(_smallest(n_kinds))


def _encode(parts: Mapping[str, Iterable[Any]], encode: Callable[[Any], NDArray[Any]], writer: Writer) -> None:
    """Encode pieces of text, or of tokens; one source has the same kind of them everywhere."""
    for part, pieces in parts.items():
        kind = None
        for piece in pieces:
            kind = kind or type(piece)
            if not isinstance(piece, kind):
                raise ValueError("some rows hold text and others tokens; keep one")
            if len(piece):
                writer.append(part, encode(piece))


def _characters(parts: Mapping[str, Iterable[Any]], writer: Writer) -> str:
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
    tokenizers = library("tokenizers", f"the tokenizer '{path}' needs the library 'tokenizers'")
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
