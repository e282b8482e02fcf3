"""Run folders of the Weights & Biases client: `config.yaml`, `wandb-history.jsonl`, `wandb-summary.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.text_files import read_json, read_json_lines, read_text, table_of_rows
from bcrit.analysis.exchange.trackers.run import LoggedRun, flat
from bcrit.analysis.exchange.trackers.wandb_runs import ending_of, times, tracked
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.problems import InputError

_CONFIG, _HISTORY = "config.yaml", "wandb-history.jsonl"
_SUMMARY, _METADATA = "wandb-summary.json", "wandb-metadata.json"
_OWN_KEYS = ("_wandb", "wandb_version")


def read_folders(folder: Path, notes: Notes) -> list[LoggedRun]:
    """Read every run below a folder.

    Args:
        folder: such as `wandb/`, whose sub-folders (or their `files/`) hold the files of one run each.
        notes: for runs without a history: newer clients keep it in a binary file, which is not read.

    Returns:
        The runs, by the names of their folders.

    Raises:
        InputError: there is no run in it, or a file of one is broken.
    """
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError as error:
        raise InputError(str(folder), [f"it cannot be read: {error.strerror}"]) from error
    places = {path.name: path / "files" if (path / "files").is_dir() else path for path in below}
    places = {name: place for name, place in places.items() if (place / _CONFIG).is_file()}
    if not places:
        raise InputError(str(folder), [f"no sub-folder of it (nor its files/) holds {_CONFIG}"])
    return [_read(name, place, notes) for name, place in places.items()]


def _read(name: str, place: Path, notes: Notes) -> LoggedRun:
    config = read_yaml(read_text(place / _CONFIG), str(place / _CONFIG))
    if not isinstance(config, Mapping):
        raise InputError(str(place / _CONFIG), ["a configuration is a mapping of names to 'value'"])
    settings = {str(key): _value(entry) for key, entry in config.items() if key not in _OWN_KEYS}
    summary = _object(place / _SUMMARY)
    rows = read_json_lines(place / _HISTORY) if (place / _HISTORY).is_file() else []
    if not rows:
        notes.add(f"Runs without {_HISTORY} are known by their last values only; export run.history()", 1, name)
        rows = [summary]
    log, broken = tracked(table_of_rows([flat(row) for row in rows]))
    metadata = _object(place / _METADATA)
    state = metadata.get("state") or ("failed" if metadata.get("exitcode") else None)
    outcome, message = ending_of(state)
    return LoggedRun(name, flat(settings), log, broken, outcome, message, *times(rows[-1]))


def _value(entry: Any) -> Any:
    """A setting is written as `{desc: ..., value: ...}`."""
    return entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        InputError: the file holds something else.
    """
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(str(path), ["it is JSON, but not an object of names and values"])
    return content


__all__ = ["read_folders"]
