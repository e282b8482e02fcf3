"""`study.json` of the batch_science layout: the search space of a study, in both directions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.batch_science.tree import KEY, STUDY
from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.spaces import Axis, interval
from bcrit.search_spaces.dimensions import Choice, Fixed, Integer, Log, ReverseLog
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace, hyperparameter

_SCALES = {"LINEAR": "linear", "LOG": "log", "REVERSE_LOG": "reverse_log", "": "linear"}
_OPTIONS = ("DISCRETE", "CATEGORICAL")


@dataclass(frozen=True)
class StudyFile:
    """What a `study.json` says.

    Attributes:
        folder: the study.
        batch_size: training items a step.
        train_steps: steps of a COMPLETE trial; 0 = its trials had a budget of time (README of the archive).
        early_stopping: whether bad trials were stopped early.
        optimizer: its name; None where the file does not tell.
        configs: the search configuration of each hyperparameter, as it stands.
        known: whether the file was there.
        ours: what an export of ours added; None in trees from elsewhere.
    """

    folder: Path
    batch_size: int
    train_steps: int
    early_stopping: bool
    optimizer: str | None
    configs: Mapping[str, Mapping[str, Any]]
    known: bool
    ours: Mapping[str, Any] | None


def read_study(folder: Path, notes: Notes) -> StudyFile:
    """Read a study's file; where it is missing, the folder's name is the batch size and the space is unknown.

    Args:
        folder: the study.
        notes: receives what was missing.

    Returns:
        What it says.

    Raises:
        InputError: the file cannot be read, or contradicts the folder's name.
    """
    name = int(folder.name) if folder.name.isdecimal() else None
    try:
        content = json.loads((folder / STUDY).read_bytes())
    except FileNotFoundError:
        if name is None:
            raise InputError(str(folder), [f"it has no {STUDY}, and its name is not a batch size"]) from None
        notes.add(f"Studies without {STUDY}: batch size from the folder's name, search space unknown", 1, str(folder))
        return StudyFile(folder, name, 0, False, None, {}, False, None)
    except (OSError, ValueError) as error:
        raise InputError(str(folder / STUDY), [f"not readable as JSON: {error}"]) from error
    if not isinstance(content, dict):
        raise InputError(str(folder / STUDY), ["it must hold one JSON object"])
    batch_size: Any = content.get("batch_size", name)
    problems = []
    if not is_count(batch_size) or batch_size < 1:
        problems.append(f"'batch_size' must be a whole number from 1, but it is {batch_size!r}")
    elif name is not None and name != batch_size:
        problems.append(f"'batch_size' is {batch_size}, but the folder is named {name}; mend one of them")
    train_steps, configs = content.get("train_steps", 0), content.get("parameter_configs", {})
    if not is_count(train_steps):
        problems.append(f"'train_steps' must be a whole number, 0 for a budget of time, but it is {train_steps!r}")
    if not isinstance(configs, dict) or not all(isinstance(config, dict) for config in configs.values()):
        problems.append("'parameter_configs' must hold one object a hyperparameter")
    if problems:
        raise InputError(str(folder / STUDY), problems)
    optimizer, ours = content.get("optimizer"), content.get(KEY)
    return StudyFile(
        folder,
        int(batch_size),
        int(train_steps),
        bool(content.get("early_stopping", False)),
        optimizer if isinstance(optimizer, str) else None,
        configs,
        True,
        ours if isinstance(ours, dict) else None,
    )


def is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number from 0; 5.0 is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0 and value == math.floor(value)


def is_choice(config: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter takes one of listed values."""
    return str(config.get("type", "")).upper() in _OPTIONS or "feasible_points" in config


def option_of(value: Any) -> str:
    """A listed value as the name of an option: `0.1` for 0.1, and equal numbers have one name (1 and 1.0)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def axis_of(name: str, config: Mapping[str, Any], study: str, notes: Notes) -> Axis | None:
    """The dimension that a configuration describes; None, with a note, where it describes none.

    Args:
        name: the hyperparameter.
        config: `type`, and `min_value`, `max_value`, `scale` or `feasible_points`.
        study: for the note.
        notes: receives what was not understood.

    Returns:
        The dimension.
    """
    where = f"{study}: {name}"
    if is_choice(config):
        points = config.get("feasible_points")
        options = list(dict.fromkeys(option_of(point) for point in points)) if isinstance(points, list) else []
        if options:
            return Choice.model_validate({"scale": "choice", "options": options})
    low, high = config.get("min_value"), config.get("max_value")
    if isinstance(low, int | float) and isinstance(high, int | float) and math.isfinite(low) and math.isfinite(high):
        if str(config.get("type", "")).upper() == "INTEGER" and int(low) == low and int(high) == high:
            return interval("integer", low, high, where, notes)
        word = str(config.get("scale") or "").upper().removesuffix("_SCALE")
        if word not in _SCALES:
            notes.add(f"Scales that are not known, taken as linear: '{config.get('scale')}'", 1, where)
        return interval(_SCALES.get(word, "linear"), low, high, where, notes)
    notes.add("Search configurations that describe no dimension are left out", 1, where)
    return None


def configs_of(space: SearchSpace) -> dict[str, dict[str, Any]]:
    """A search space as `parameter_configs`; of dimensions with one name under several options the first counts."""
    found: dict[str, dict[str, Any]] = {}
    for address in space.addresses:
        axis = _at(space, address)
        if isinstance(axis, Choice):
            values = [number_of(option) for option in axis.options]
            numeric = all(not isinstance(value, str) for value in values)
            config: dict[str, Any] = {
                "type": "DISCRETE" if numeric else "CATEGORICAL",
                "feasible_points": values if numeric else list(axis.options),
            }
        elif isinstance(axis, Fixed):
            numeric = isinstance(axis.value, int | float)
            config = {"type": "DISCRETE" if numeric else "CATEGORICAL", "feasible_points": [axis.value]}
        else:
            kind = "INTEGER" if isinstance(axis, Integer) else "DOUBLE"
            log = "LOG_SCALE" if isinstance(axis, Log) else "LINEAR_SCALE"
            scale = "REVERSE_LOG_SCALE" if isinstance(axis, ReverseLog) else log
            ends = {"min_value": axis.low, "max_value": axis.high}
            if kind == "INTEGER":
                ends, scale = {end: int(value) for end, value in ends.items()}, ""
            config = {**ends, "scale": scale, "type": kind}
        found.setdefault(hyperparameter(address), config)
    return found


def _at(space: SearchSpace, address: str) -> Axis:
    name, *inner = address.split(".") if address not in space.root else [address]
    axis = space.root[name]
    if not inner:
        return axis
    assert isinstance(axis, Choice)
    return axis.options[inner[0]][inner[1]]


def number_of(option: str) -> float | int | str:
    """The number that an option's name stands for, or the name itself."""
    try:
        value = json.loads(option)
    except ValueError:
        return option
    return value if isinstance(value, int | float) and not isinstance(value, bool) else option


__all__ = ["StudyFile", "axis_of", "configs_of", "is_choice", "is_count", "number_of", "option_of", "read_study"]
