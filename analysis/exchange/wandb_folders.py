"""What the client of Weights & Biases leaves on disk, read without it.

Older clients write text (`config.yaml`, `wandb-history.jsonl`), newer ones `run-ID.wandb`, which is all that an offline
run has. That file is a log of LevelDB (blocks of 32 KiB, records that may straddle them, each piece with its checksum)
behind seven bytes of the client's own; a record is a `Record` of wandb_internal.proto. Of it these are read: run and
config (the settings), history (one call of `log`), exit. Field numbers as in wandb 0.31.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.files import folders, read_json, read_json_lines, read_text, readable
from bcrit.analysis.exchange.run import Notes
from bcrit.analysis.records.json_values import loaded
from bcrit.search_spaces.load import a_file, read_yaml
from bcrit.search_spaces.problems import InputError

_IDENT, _BLOCK, _PIECE = b":W&B", 1 << 15, struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4
_HISTORY, _CONFIG, _RUN, _EXIT = 2, 5, 17, 18  # of Record
_ITEM, _RUN_CONFIG = 1, 4  # HistoryRecord.item and ConfigRecord.update; RunRecord.config
_KEY, _NESTED_KEY, _VALUE = 1, 2, 16  # of an item; the last is JSON

_CONFIG_FILE, _HISTORY_FILE = "config.yaml", "wandb-history.jsonl"
_SUMMARY_FILE, _METADATA_FILE = "wandb-summary.json", "wandb-metadata.json"
_OWN_KEYS = ("_wandb", "wandb_version")  # of the client in a configuration

WHOLE = "the folder that all run folders lie in, such as wandb/"  # what is to be given

_FIXED = {1: 8, 5: 4}  # bytes of a field of fixed length, by its kind
Fields = list[tuple[int, int | bytes]]


@dataclass
class ClientRun:
    """What is known of one run."""

    name: str = ""  # its folder's
    settings: dict[str, Any] = field(default_factory=dict)  # nested
    rows: list[dict[str, Any]] = field(default_factory=list)  # one a call of `log`, names of nested ones with '/'
    exit_code: int | None = None  # None where the run did not come to its end
    state: str | None = None  # in the client's words


def read_folders(folder: Path, notes: Notes) -> list[ClientRun]:
    """Every run below a folder such as `wandb/`, whose sub-folders (or their `files/`) hold the files of one run each.

    Newer clients keep the history in a binary file, and of an offline run everything. A run without any history is left
    out, unless none has one.
    """
    found, without = list[ClientRun](), list[str]()
    for below in folders(folder):
        place, binary = below / "files" if (below / "files").is_dir() else below, sorted(below.glob("run-*.wandb"))
        if below.is_symlink() or not (binary or (place / _CONFIG_FILE).is_file()):
            continue
        kept = read_offline(binary[0]) if binary else ClientRun()
        if (place / _CONFIG_FILE).is_file():
            config = read_yaml(read_text(place / _CONFIG_FILE), str(place / _CONFIG_FILE))
            if not isinstance(config, Mapping):
                raise InputError(str(place / _CONFIG_FILE), ["a configuration is a mapping of names to 'value'"])
            # A setting is written as `{desc: ..., value: ...}`.
            kept.settings = {
                str(key): entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry
                for key, entry in config.items()
            }
        kept.name, kept.settings = below.name, {k: v for k, v in kept.settings.items() if k not in _OWN_KEYS}
        summary, metadata = _object(place / _SUMMARY_FILE), _object(place / _METADATA_FILE)
        rows = read_json_lines(place / _HISTORY_FILE) if (place / _HISTORY_FILE).is_file() else []
        rows = rows or kept.rows
        without += [] if rows else [below.name]
        kept.rows = rows or [summary]
        kept.state = metadata.get("state") or ("failed" if metadata.get("exitcode") or kept.exit_code else None)
        found.append(kept)
    if not found:
        rule = f"no sub-folder of it (nor its files/) holds {_CONFIG_FILE} or run-ID.wandb"
        raise InputError(str(folder), [f"{rule}; give {WHOLE}"])
    if len(without) < len(found):
        notes.among("Runs without a history were left out, for when they reached the target is unknown", without)
        return [run for run in found if run.name not in without]
    notes.among(f"Runs without {_HISTORY_FILE} are known by their last values only; export run.history()", without)
    return found


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(str(path), ["it is JSON, but not an object of names and values"])
    return content


def read_offline(path: Path) -> ClientRun:
    """Read a file; what a killed process left torn at its end is passed over, damage before that is an InputError."""
    with readable(path):
        content = a_file(path).read_bytes()
    run = ClientRun()
    if _IDENT.startswith(content):  # killed before it wrote anything
        return run
    if not content.startswith(_IDENT):
        raise InputError(str(path), ["it is no file of Weights & Biases; export run.history() instead"])
    try:
        for record in _records(content):
            for kind, body in _fields(record):
                if not isinstance(body, bytes):
                    continue
                if kind == _HISTORY:
                    run.rows.append({"/".join(names): value for names, value in _items(body)})
                elif kind in (_CONFIG, _RUN):
                    configs = [body] if kind == _CONFIG else [v for n, v in _fields(body) if n == _RUN_CONFIG]
                    for names, value in (item for of in configs if isinstance(of, bytes) for item in _items(of)):
                        _put(run.settings, names, value)
                elif kind == _EXIT:
                    run.exit_code = next((v for n, v in _fields(body) if n == 1 and isinstance(v, int)), 0)
    except (ValueError, IndexError, RecursionError) as error:
        remedy = "`wandb sync` it and export run.history() instead"
        raise InputError(str(path), [f"the file is damaged: {error}; {remedy}"]) from error
    return run


def _records(content: bytes) -> Iterator[bytes]:
    place, pieces = len(_IDENT) + 3, list[bytes]()
    while place + _PIECE.size <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _PIECE.size:
            place += left
            continue
        checksum, length, kind = _PIECE.unpack_from(content, place)
        body = content[place + _PIECE.size : place + _PIECE.size + length]
        if length > left - _PIECE.size:
            raise ValueError(f"a length is wrong at byte {place}")
        if len(body) < length or not (checksum or length or kind):
            return  # torn by a kill
        place += _PIECE.size + length
        if zlib.crc32(body, zlib.crc32(bytes([kind]))) != checksum:
            raise ValueError(f"a checksum is wrong before byte {place}")
        pieces = [body] if kind in (_FULL, _FIRST) else [*pieces, body]
        if kind in (_FULL, _LAST):
            yield b"".join(pieces)


def _fields(message: bytes) -> Fields:
    """The fields of a message of protocol buffers: number, and the whole number or the bytes that stand there."""
    found, place = Fields(), 0
    while place < len(message):
        key, place = _varint(message, place)
        value: int | bytes
        if key & 7 == 0:
            value, place = _varint(message, place)
        else:
            length, place = (_FIXED[key & 7], place) if key & 7 in _FIXED else _varint(message, place)
            value, place = message[place : place + length], place + length
        found.append((key >> 3, value))
    return found


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


def _items(message: bytes) -> Iterator[tuple[list[str], Any]]:
    """The path of names and the value of each item."""
    for number, item in _fields(message):
        if number == _ITEM and isinstance(item, bytes):
            parts = [(n, v.decode()) for n, v in _fields(item) if isinstance(v, bytes)]
            names = [v for n, v in parts if n == _NESTED_KEY] or [v for n, v in parts if n == _KEY]
            for value in (v for n, v in parts if n == _VALUE):
                yield names, loaded(value)


def _put(settings: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        inner = settings.setdefault(name, {})
        settings = inner if isinstance(inner, dict) else settings
    settings[names[-1]] = value
