"""Import of the batch_science layout, in which Shallue et al. 2018 published their 168,160 trials.

`dataset/model/optimizer/batch_size/study.json`, and a folder a trial with `metadata.json` and `measurements.csv`
(README of the archive). Each `dataset/model/optimizer` becomes a run, each batch size a study of it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.exchange.files import STEP, TYPES, Found, read_curves
from bcrit.analysis.exchange.run import (
    RANDOM_SEARCH,
    Axis,
    ImportedRun,
    Notes,
    Row,
    choice_of,
    common_space,
    fitted,
    foreign_run,
    hyperparameter_names,
    interval,
    metric_names,
    trial_row,
    uniform,
)
from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target

FORMAT = "batch_science"
STUDY = "study.json"
METADATA = "metadata.json"
MEASUREMENTS_CSV = "measurements.csv"
# What an export of ours adds, so that its import gives back the very same run: the layout has no place for seeds,
# stages, outcomes, seconds or the target. They stand under this key of both JSON files, and in these two columns of
# `measurements.csv`; other readers pass over them.
KEY = "bcrit"
EXAMPLES, SECONDS = "bcrit/examples", "bcrit/train_seconds"
_DEPTH = 3  # dataset, model, optimizer
_DEEPEST = 12  # the archive has 5 levels below its root, 6 in its special folders; a loop of links ends here
_SCALES = {"LINEAR": "linear", "LOG": "log", "REVERSE_LOG": "reverse_log", "": "linear"}
_OPTIONS = ("DISCRETE", "CATEGORICAL")
# What the statuses of the archive mean here: its COMPLETE trials count, its INFEASIBLE ones count as diverged, its
# INCOMPLETE ones "can usually be ignored" (README of the archive). The latter stay visible and never count.
_STATUSES: Mapping[str, tuple[Outcome | None, str | None]] = {
    "COMPLETE": (None, None),
    "INFEASIBLE": (Outcome.DIVERGED, "INFEASIBLE in the source: training diverged."),
    "INCOMPLETE": (Outcome.FAILED, "INCOMPLETE in the source: not completed for some reason; it does not count."),
}
# The first pattern that fits counts; folders as in the archive. Goals from the notebook that reproduces the paper's
# figures: figure 1, and figures 3, 5 and 6 for models and subsets that are not in it. `solution_quality` has no goal:
# it asks for the best value under a budget (section 4.8).
_GOALS = (
    ("*solution_quality/*", None),
    ("*mnist_subsets/*", "val/classification_error < 0.02"),
    ("*imagenet_subsets/*", "val/classification_error < 0.3"),
    ("*fashion_mnist/*", "val/classification_error < 0.1"),
    ("*mnist/simple_cnn_*", "val/classification_error < 0.01"),
    ("*mnist/fc_*", "val/classification_error < 0.03"),
    ("*cifar_10/*", "val/classification_error < 0.3"),
    ("*imagenet/resnet_50/*", "val/classification_error < 0.25"),
    ("*imagenet/vgg_11/*", "val/classification_error < 0.35"),
    ("*open_images_v4/*", "val/average_precision > 0.31"),
    ("*lm1b/transformer_base/*", "val/cross_entropy_error < 3.9"),
    ("*lm1b/transformer_*", "val/cross_entropy_error < 4.2"),
    ("*lm1b/lstm/*", "val/cross_entropy_error < 3.9"),
    ("*common_crawl/*", "val/cross_entropy_error < 3.9"),
)


def paper_goal(workload: str) -> Target | None:
    """The goal that the paper sets a workload, `dataset/model/optimizer` as in the archive; None where it sets none.

    >>> print(paper_goal("open_images_v4/resnet_50/nesterov_momentum"))
    val/average_precision > 0.31
    """
    goal = next((goal for pattern, goal in _GOALS if fnmatchcase(workload, pattern)), None)
    return None if goal is None else Target.model_validate(goal)


@dataclass(frozen=True)
class _Study:
    """What a `study.json` says."""

    folder: Path
    batch_size: int
    train_steps: int = 0  # of a COMPLETE trial; 0 = its trials had a budget of time (README of the archive)
    early_stopping: bool = False  # whether bad trials were stopped early
    optimizer: str | None = None  # None where the file does not tell
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # search configuration by hyperparameter
    known: bool = False  # whether the file was there
    ours: Mapping[str, Any] | None = None  # what an export of ours added; None in trees from elsewhere


@dataclass(frozen=True)
class _Trial:
    """One trial folder."""

    row: Row  # of the trials table, with empty cells for what its curve tells
    path: str
    parameters: Mapping[str, Value] = field(default_factory=dict)  # hyperparameters by the names of the source
    ours: Mapping[str, Any] | None = None  # what an export of ours added; None in trees from elsewhere


def import_batch_science(
    source: str, target: Target | None, pattern: str | None = None, first: int | None = None
) -> dict[str, ImportedRun]:
    """Read the studies and trials of a tree; their measurements are read while the run is written. One run a workload.

    `target` None = what an export of ours says, or the goal of the paper. `pattern` picks workloads. `first` takes only
    the trials up to this many complete ones in each study, as in the paper's figures (100, or 50): the fewest steps
    fall with the number of trials, so that studies compare at equal numbers.
    """
    problems: list[str] = []
    found: dict[str, ImportedRun] = {}
    for label, studies in _find_workloads(Path(source), pattern):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", label.replace("/", "-")).strip("-_")[-80:] or "workload"
        while name in found:
            name += "-2"
        try:
            found[name] = _import(label, studies, name, source, target, first)
        except InputError as error:
            problems += error.problems if str(error).startswith(source + ":") else [str(error).replace("\n", " ")]
    if problems:
        raise InputError(source, problems)
    return found


def _find_workloads(source: Path, pattern: str | None) -> list[tuple[str, list[Path]]]:
    """Every workload in a tree or in any folder of it down to a study: its label, its studies by batch size.

    A study is a folder with `study.json`, or one whose folders hold trials; a workload is the folder of its studies.
    Its label is `dataset/model/optimizer`, with the folders above it where the source has them; it, or its last three
    parts, must fit the pattern.
    """
    if not source.is_dir():
        raise InputError(str(source), ["there is no such folder; give the root of the tree, or a workload's folder"])
    studies = _find_studies(source, 0)
    if not studies:
        rule = f"no {STUDY} lies in it; the layout is dataset/model/optimizer/batch_size/{STUDY}"
        raise InputError(str(source), [rule])
    by_workload: dict[Path, list[Path]] = {}
    for study in sorted(studies, key=lambda study: _number_first(study.name)):
        by_workload.setdefault(study.absolute().parent, []).append(study)
    depth = len(source.absolute().parts)
    found = []
    for folder in sorted(by_workload):
        label = "/".join(folder.parts[-max(_DEPTH, len(folder.parts) - depth) :]).lstrip("/")
        if pattern is None or fnmatchcase(label, pattern) or fnmatchcase("/".join(folder.parts[-_DEPTH:]), pattern):
            found.append((label, by_workload[folder]))
    if not found:
        raise InputError(str(source), [f"no workload fits '{pattern}'; {len(by_workload)} are there, such as {label}"])
    return found


def _find_studies(folder: Path, depth: int) -> set[Path]:
    with os.scandir(folder) as entries:
        names = {entry.name: entry.is_dir() for entry in entries}
    if STUDY in names:
        return {folder}
    if METADATA in names or MEASUREMENTS_CSV in names:
        return {folder.parent}
    inner = [name for name, is_folder in names.items() if is_folder and not name.startswith(".") and depth < _DEEPEST]
    return set[Path]().union(*(_find_studies(folder / name, depth + 1) for name in inner))


def _number_first(name: str) -> tuple[int, int, str]:
    """Sorts folders by the number that is their name, others after them by name."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _import(
    label: str, folders: Sequence[Path], name: str, source: str, target: Target | None, first: int | None
) -> ImportedRun:
    notes = Notes()
    studies = [_read_study(folder, notes) for folder in folders]
    sizes = [study.batch_size for study in studies]
    if twice := sorted({size for size in sizes if sizes.count(size) > 1}):
        raise InputError(source, [f"workload '{label}' has several studies at batch size {twice[0]}"])
    trials = {study.batch_size: _first(_read_trials(study, notes), first, study.batch_size, notes) for study in studies}
    every = [trial for of_study in trials.values() for trial in of_study]
    if not every:
        raise InputError(source, [f"workload '{label}' has no trial"])
    recorded = _recorded_run(studies, every, source, target, notes)
    if recorded is not None:
        return recorded
    goal = target or paper_goal("/".join(folders[0].absolute().parts[-5:-1]))
    if goal is None:
        rule = f"the paper sets no goal for '{label}'; say what counts, --target 'METRIC < NUMBER'"
        raise InputError(source, [rule])
    if target is None:
        notes.add(f"The target is the goal that the paper sets this workload: {goal}")
    names = hyperparameter_names(parameter for trial in every for parameter in trial.parameters)
    spaces = {study.batch_size: _space(study, trials[study.batch_size], names, notes) for study in studies}
    rows = [{**trial.row, **_ours(trial, names)} for trial in every]
    notes.add("The layout records no seconds and no seeds: both stand as 0, and time and cost are unknown")
    notes.add("Studies with a budget of time (train_steps 0)", sum(s.known and s.train_steps == 0 for s in studies))
    notes.add("Studies that stopped bad trials early by a rule of their own", sum(s.early_stopping for s in studies))
    curves = TrialCurves(every, {}, notes)
    dataset_and_model, _, optimizer = label.rpartition("/")
    told = {study.optimizer for study in studies if study.optimizer}
    experiment: Row = {
        "name": name,
        "spaces": spaces,
        "steps": [trial.row[key] for trial in every for key in ("steps", "max_steps")],
        "workload": dataset_and_model or label,
        "optimizer": told.pop() if len(told) == 1 else optimizer,
        "target": goal,
        "space": common_space([spaces[study.batch_size] for study in studies if study.configs]),
        **RANDOM_SEARCH,
        "search": {**RANDOM_SEARCH["search"], "trials": max(map(len, trials.values()))},
    }
    return foreign_run(FORMAT, source, notes, lambda: curves.finish(uniform(rows)), curves, names, **experiment)


def _first(trials: list[_Trial], first: int | None, batch_size: int, notes: Notes) -> list[_Trial]:
    """The trials up to the last of the first complete ones that are wanted."""
    if first is None:
        return trials
    complete = [place for place, trial in enumerate(trials) if trial.row["outcome"] is None]
    if len(complete) < first:
        notes.add("Studies with fewer complete trials than wanted", 1, f"batch size {batch_size}: {len(complete)}")
        return trials
    kept = trials[: complete[first - 1] + 1]
    notes.add(f"Trials after the first {first} complete ones of their study are left out", len(trials) - len(kept))
    return kept


def _ours(trial: _Trial, names: Mapping[str, str]) -> Row:
    return {names[name]: value for name, value in trial.parameters.items()}


def _read_study(folder: Path, notes: Notes) -> _Study:
    """A study's file; where it is missing, the folder's name is the batch size and the space is unknown."""
    name = int(folder.name) if folder.name.isdecimal() else None
    try:
        content = json.loads((folder / STUDY).read_bytes())
    except FileNotFoundError:
        if name is None:
            raise InputError(str(folder), [f"it has no {STUDY}, and its name is not a batch size"]) from None
        notes.add(f"Studies without {STUDY}: batch size from the folder's name, search space unknown", 1, str(folder))
        return _Study(folder, name)
    except (OSError, ValueError) as error:
        raise InputError(str(folder / STUDY), [f"not readable as JSON: {error}"]) from error
    if not isinstance(content, dict):
        raise InputError(str(folder / STUDY), ["it must hold one JSON object"])
    batch_size: Any = content.get("batch_size", name)
    problems = []
    if not _is_count(batch_size) or batch_size < 1:
        problems.append(f"'batch_size' must be a whole number from 1, but it is {batch_size!r}")
    elif name is not None and name != batch_size:
        problems.append(f"'batch_size' is {batch_size}, but the folder is named {name}; mend one of them")
    train_steps, configs = content.get("train_steps", 0), content.get("parameter_configs", {})
    if not _is_count(train_steps):
        problems.append(f"'train_steps' must be a whole number, 0 for a budget of time, but it is {train_steps!r}")
    if not isinstance(configs, dict) or not all(isinstance(config, dict) for config in configs.values()):
        problems.append("'parameter_configs' must hold one object a hyperparameter")
    if problems:
        raise InputError(str(folder / STUDY), problems)
    optimizer = content.get("optimizer")
    optimizer = optimizer if isinstance(optimizer, str) else None
    early, ours = bool(content.get("early_stopping", False)), _object(content.get(KEY))
    return _Study(folder, int(batch_size), int(train_steps), early, optimizer, configs, True, ours)


def _object(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None


def _is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number from 0; 5.0 is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0 and value == math.floor(value)


def _space(study: _Study, trials: Sequence[_Trial], names: Mapping[str, str], notes: Notes) -> SearchSpace:
    where = f"batch size {study.batch_size}"
    axes = {}
    for name, config in study.configs.items():
        axis = axis_of(name, config, where, notes)
        if axis is not None and name in names:
            axes[names[name]] = axis
        elif axis is not None:
            notes.add("Searched hyperparameters that no trial has are left out of the space", 1, f"{where}: {name}")
    points = [_ours(trial, names) for trial in trials if trial.row["outcome"] != Outcome.FAILED.value]
    return fitted(axes, points, where, notes)


def axis_of(name: str, config: Mapping[str, Any], study: str, notes: Notes) -> Axis | None:
    """The dimension that `type`, and `min_value`, `max_value`, `scale` or `feasible_points` describe; else None."""
    where = f"{study}: {name}"
    points = config.get("feasible_points")
    if _is_choice(config) and isinstance(points, list) and points:
        return choice_of(map(_option, points))
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


def _is_choice(config: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter takes one of listed values."""
    return str(config.get("type", "")).upper() in _OPTIONS or "feasible_points" in config


def _option(value: Any) -> str:
    """A listed value as the name of an option: `0.1` for 0.1, and equal numbers have one name (1 and 1.0)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _read_trials(study: _Study, notes: Notes) -> list[_Trial]:
    """Every trial of a study in order of their numbers, numbers first as the published loader takes them.

    One whose metadata cannot be read stays as a failed one that says why.
    """
    with os.scandir(study.folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    found: list[_Trial] = []
    for name in sorted(names, key=_number_first):
        trial = _read_trial(study, name, len(found), notes)
        if trial is not None:
            found.append(trial)
    return found


def _read_trial(study: _Study, name: str, number: int, notes: Notes) -> _Trial | None:
    trial_id, path = f"{study.batch_size}/{name}", os.path.join(study.folder, name)
    try:
        with open(os.path.join(path, METADATA), "rb") as file:
            metadata = json.loads(file.read())
        problem = None if isinstance(metadata, dict) else f"{METADATA} must hold one JSON object"
    except FileNotFoundError:
        if not os.listdir(path):
            notes.add("Empty folders among the trials are left out", 1, trial_id)
            return None
        problem = f"{METADATA} is missing"
    except (OSError, ValueError) as error:
        problem = f"{METADATA} is not readable as JSON: {error}"
    if problem is not None:
        notes.add(f"Trials whose {METADATA} is missing or broken stand as failed", 1, f"{trial_id}: {problem}")
        failed = trial_row(trial_id, study.batch_size, number=number, outcome=Outcome.FAILED.value, message=problem)
        return _Trial(failed, path)
    status = str(metadata.get("status")).upper()
    outcome, message = _STATUSES.get(status, (Outcome.FAILED, f"unknown status {metadata.get('status')!r}"))
    if status not in _STATUSES:
        notes.add("Trials with an unknown status stand as failed", 1, f"{trial_id}: {message}")
    told = metadata.get("trial_id", name)
    if str(told) != name and not (name.isdecimal() and told == int(name)):
        notes.add("Trials whose 'trial_id' is not their folder's name are named by the folder", 1, trial_id)
    steps = metadata.get("steps")
    if steps is not None and not _is_count(steps):
        notes.add("Values of 'steps' that are no whole number: the last evaluation stands instead", 1, trial_id)
        steps = None
    row = trial_row(
        trial_id,
        study.batch_size,
        number=number,
        outcome=None if outcome is None else outcome.value,
        message=message,
        steps=None if steps is None else int(steps),
        max_steps=study.train_steps or None,
    )
    given = metadata.get("parameters", {})
    if not isinstance(given, dict):
        notes.add("'parameters' that are no object are left out", 1, trial_id)
        given = {}
    parameters = {name: _parameter(study, name, value) for name, value in given.items() if value is not None}
    return _Trial(row, path, parameters, _object(metadata.get(KEY)))


def _parameter(study: _Study, name: str, value: Any) -> Value:
    if _is_choice(study.configs.get(name, {})):
        return _option(value)
    return value if isinstance(value, str | bool | int | float) else json.dumps(value)


def _recorded_run(
    studies: Sequence[_Study], trials: Sequence[_Trial], source: str, target: Target | None, notes: Notes
) -> ImportedRun | None:
    """The run of ours that a folder holds; None if it is not ours, was added to, or is asked for another target."""
    told = [study.ours for study in studies]
    if not any(told):
        return None
    first = told[0]
    if first is None or any(ours != first for ours in told) or any(trial.ours is None for trial in trials):
        notes.add("An export of bcrit that was changed since: it is read as any other tree")
        return None
    experiment = parse_experiment(first["experiment"], str(studies[0].folder))
    if target is not None and target != experiment.target:
        notes.add(f"An export of bcrit for '{experiment.target}': with another target it is read as any other tree")
        return None
    kinds = {field.name: field.type for field in arrow_schema(TRIALS)}
    kinds |= {name: TYPES[kind] for name, kind in first["hyperparameters"].items()}
    rows = [trial.ours or {} for trial in trials]
    table = pa.table(
        {name: pa.array([_cell(row.get(name), kind) for row in rows], kind) for name, kind in kinds.items()}
    )
    named = [_Trial({**t.row, "trial_id": row["trial_id"]}, t.path) for t, row in zip(trials, rows, strict=True)]
    curves = TrialCurves(named, {name: TYPES[kind] for name, kind in first["metrics"].items()}, notes)
    sessions = first.get("sessions", [])
    return ImportedRun(FORMAT, source, experiment, lambda: table, curves, notes, recorded=True, sessions=sessions)


def _cell(value: Any, kind: pa.DataType) -> Any:
    """A cell from JSON, in which what is not finite stands as its name (`exports.json_cell`)."""
    return float(value) if value is not None and pa.types.is_floating(kind) else value


# Files that are parsed as one: at the archive's 426 rows a trial about 10 MB, enough that the cost of a call does not
# count and little enough that some of them fit into memory at once. Chosen; from 64 to 1024 it makes no difference.
_FILES = 256


class TrialCurves:
    """Iterates over measurements of whole trials; afterwards `finish` says in their rows what could not be read.

    Threads read some hundred files at a time, a few chunks ahead of what is asked for. `types` are those of metrics
    that are not floats.
    """

    def __init__(self, trials: Sequence[_Trial], types: Mapping[str, pa.DataType], notes: Notes) -> None:
        self._trials, self._types, self._notes = trials, types, notes
        self._unreadable: dict[str, str] = {}

    def __iter__(self) -> Iterator[pa.Table]:
        chunks = deque(self._trials[start : start + _FILES] for start in range(0, len(self._trials), _FILES))
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            running: deque[tuple[Sequence[_Trial], Future[Found]]] = deque()
            while chunks or running:
                while chunks and len(running) <= workers:
                    chunk = chunks.popleft()
                    paths = [f"{trial.path}/{MEASUREMENTS_CSV}" for trial in chunk]
                    running.append((chunk, pool.submit(read_curves, paths, self._types)))
                trials, found = running.popleft()
                yield from self._tables(trials, found.result())

    def _tables(self, trials: Sequence[_Trial], found: Found) -> Iterator[pa.Table]:
        for index, why in found.unreadable.items():
            self._unreadable[trials[index].row["trial_id"]] = f"{MEASUREMENTS_CSV} {why}"
        for index, flaws in found.flaws.items():
            for flaw, count in flaws.items():
                self._notes.add(f"{MEASUREMENTS_CSV}: {flaw}, left out", count, trials[index].row["trial_id"])
        ids = pa.array([trial.row["trial_id"] for trial in trials])
        sizes = np.array([trial.row["batch_size"] for trial in trials])
        for data, owner in found.tables:
            step = data[STEP].to_numpy()
            columns = {
                "trial_id": pa.DictionaryArray.from_arrays(pa.array(owner.astype(np.int32)), ids),
                "step": data[STEP],
                "examples": pa.array(step * sizes[owner]),
                "train_seconds": pa.array(np.zeros(len(step))),
            }
            if EXAMPLES in data.column_names:
                columns["examples"] = pc.cast(data[EXAMPLES], pa.int64())
            if SECONDS in data.column_names:
                columns["train_seconds"] = data[SECONDS]
            metrics = [name for name in data.column_names if name not in (STEP, EXAMPLES, SECONDS)]
            yield pa.table(columns | {here: data[there] for there, here in metric_names(metrics).items()})

    def finish(self, trials: pa.Table) -> pa.Table:
        """Mark the trials without measurements: what completed but was never measured cannot count."""
        if not self._unreadable:
            return trials
        rows = trials.select(["trial_id", "outcome", "message"]).to_pylist()
        for row in rows:
            why = self._unreadable.get(row["trial_id"])
            which = f"{row['trial_id']}: {why}"
            if why is not None and row["outcome"] is None:
                self._notes.add("Completed trials without measurements stand as failed", 1, which)
                row |= {"outcome": Outcome.FAILED.value, "message": f"COMPLETE in the source, but {why}."}
            elif why is not None:
                self._notes.add("Trials that did not complete and have no measurements", 1, which)
        for name in ("outcome", "message"):
            place, values = trials.column_names.index(name), pa.array([row[name] for row in rows], pa.string())
            trials = trials.set_column(place, trials.schema.field(name), values)
        return trials
