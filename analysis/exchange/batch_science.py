"""Import of the batch_science layout, in which Shallue et al. 2018 published their 168,160 trials.

`dataset/model/optimizer/batch_size/study.json`, and a folder a trial with `metadata.json` and `measurements.csv`
(README of the archive). Each `dataset/model/optimizer` becomes a run, each batch size a study of it.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis.exchange import OptionalGoal
from bcrit.analysis.exchange import run as foreign
from bcrit.analysis.exchange.exports import (
    EXAMPLES,
    KEY,
    MEASUREMENTS_CSV,
    METADATA,
    SECONDS,
    STUDY,
    axis_of,
    is_choice,
    option_of,
)
from bcrit.analysis.exchange.files import STEP, stream_curves
from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.analysis.records.json_values import loaded
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.load import a_file, parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target

_DEPTH = 3  # dataset, model, optimizer
_DEEPEST = 12  # the archive has 5 levels below its root, 6 in its special folders; a loop of links ends here
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
class _Trial:
    """One trial folder."""

    row: foreign.Row  # of the trials table, with empty cells for what its curve tells
    path: str  # of its measurements
    parameters: Mapping[str, Value] = field(default_factory=dict)  # hyperparameters by the names of the source
    ours: Any = None  # what an export of ours added; None in trees from elsewhere


@dataclass(frozen=True)
class _Study:
    """What a `study.json` says, and the trials beside it."""

    folder: Path
    batch_size: int
    train_steps: int | None = 0  # of a COMPLETE trial; 0 = a budget of time (README of the archive); None = not told
    early_stopping: bool = False  # whether bad trials were stopped early
    optimizer: str | None = None  # None where the file does not tell
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # search configuration by hyperparameter
    ours: Any = None  # what an export of ours added; None in trees from elsewhere
    trials: list[_Trial] = field(default_factory=list)


def import_batch_science(
    source: Annotated[str, "Root of the tree, or a folder in it.", "SOURCE"],
    target: OptionalGoal = None,
    workload: Annotated[
        str | None, "Only workloads that fit this pattern of dataset/model/optimizer: 'mnist/*/sgd'."
    ] = None,
    first: Annotated[int | None, "Only the first N complete trials of each study (the paper: 100 or 50)."] = None,
) -> list[foreign.ImportedRun]:
    """Import a tree of the layout of Shallue et al. 2018: dataset/model/optimizer/batch_size/trial.

    Every dataset/model/optimizer becomes a run folder. Without --target the goals of the paper are taken.
    """
    if first is not None and first < 1:
        raise InputError("--first", [f"it must be 1 or more, but it is {first}; leave it out to take all trials"])
    problems: list[str] = []
    found: dict[str, foreign.ImportedRun] = {}
    for label, studies in _find_workloads(Path(source), workload):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", label.replace("/", "-")).strip("-_")[-80:] or "workload"
        while name in found:
            name += "-2"
        try:
            found[name] = _import(label, studies, name, source, target, first)
        except InputError as error:
            problems += error.problems if str(error).startswith(source + ":") else [str(error).replace("\n", " ")]
    if problems:
        raise InputError(source, problems)
    return list(found.values())


def _find_workloads(source: Path, pattern: str | None) -> list[tuple[str, list[Path]]]:
    """Every workload in a tree or in any folder of it down to a study: its label, its studies by batch size.

    A study is a folder with `study.json`, or one whose folders hold trials; a workload is the folder of its studies.
    Its label is `dataset/model/optimizer`, with the folders above it where the source has them; it, or its last three
    parts, must fit the pattern.
    """
    if not source.is_dir():
        raise InputError(str(source), ["there is no such folder; give the root of the tree, or a workload's folder"])
    by_workload: dict[Path, list[Path]] = {}
    for study in sorted(_find_studies(source, 0), key=lambda study: _number_first(study.name)):
        by_workload.setdefault(study.absolute().parent, []).append(study)
    if not by_workload:
        layout = f"the layout is dataset/model/optimizer/batch_size/{STUDY}"
        raise InputError(str(source), [f"no {STUDY} lies in it; {layout}"])
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
) -> foreign.ImportedRun:
    notes = foreign.Notes()
    studies = [_read_study(folder, notes) for folder in folders]
    sizes = [study.batch_size for study in studies]
    if twice := sorted({size for size in sizes if sizes.count(size) > 1}):
        raise InputError(source, [f"workload '{label}' has several studies at batch size {twice[0]}"])
    for study in studies:
        _read_trials(study, first, notes)
    trials = [trial for study in studies for trial in study.trials]
    if not trials:
        raise InputError(source, [f"workload '{label}' has no trial"])
    if recorded := _recorded_run(studies, trials, source, target, notes):
        return recorded
    goal = target or paper_goal("/".join(folders[0].absolute().parts[-5:-1]))
    if goal is None:
        raise InputError(source, [f"the paper sets no goal for '{label}'; say what counts, --target 'METRIC < NUMBER'"])
    if target is None:
        notes.add(f"The target is the goal that the paper sets this workload: {goal}")
    names = foreign.hyperparameter_names(parameter for trial in trials for parameter in trial.parameters)
    spaces = {study.batch_size: _space(study, names, notes) for study in studies}
    rows = [{**trial.row, **{names[n]: value for n, value in trial.parameters.items()}} for trial in trials]
    notes.add("The layout records no seconds and no seeds: both stand as 0, and time and cost are unknown")
    notes.add("Studies with a budget of time (train_steps 0)", sum(study.train_steps == 0 for study in studies))
    notes.add("Studies that stopped bad trials early by a rule of their own", sum(s.early_stopping for s in studies))
    dataset_and_model, _, optimizer = label.rpartition("/")
    told = {study.optimizer for study in studies if study.optimizer}
    experiment: foreign.Row = {
        "name": name,
        "workload": dataset_and_model or label,
        "optimizer": told.pop() if len(told) == 1 else optimizer,
        "target": goal,
        "space": foreign.common_space([spaces[study.batch_size] for study in studies if study.configs]),
        "spaces": spaces,
        **foreign.RANDOM_SEARCH,
        "search": {**foreign.RANDOM_SEARCH["search"], "trials": max(len(study.trials) for study in studies)},
    }
    curves = partial(_curves, rows, [trial.path for trial in trials], {}, notes)
    return foreign.foreign_run("batch_science", source, notes, rows, curves, names, **experiment)


def _read_study(folder: Path, notes: foreign.Notes) -> _Study:
    """A study's file; where it is missing, the folder's name is the batch size and the space is unknown."""
    name = int(folder.name) if folder.name.isdecimal() else None
    try:
        content = loaded(a_file(folder / STUDY).read_bytes())
    except FileNotFoundError:
        if name is None:
            raise InputError(str(folder), [f"it has no {STUDY}, and its name is not a batch size"]) from None
        notes.add(f"Studies without {STUDY}: batch size from the folder's name, search space unknown", 1, str(folder))
        return _Study(folder, name, train_steps=None)
    except (OSError, ValueError) as error:
        raise InputError(str(folder / STUDY), [f"not readable as JSON: {error}"]) from error
    if not isinstance(content, dict):
        raise InputError(str(folder / STUDY), ["it must hold one JSON object"])
    batch_size: Any = content.get("batch_size", name)
    train_steps, configs = content.get("train_steps", 0), content.get("parameter_configs", {})
    problems = []
    if not _is_count(batch_size) or batch_size < 1:
        problems.append(f"'batch_size' must be a whole number from 1, but it is {batch_size!r}")
    elif name is not None and name != batch_size:
        problems.append(f"'batch_size' is {batch_size}, but the folder is named {name}; mend one of them")
    if not _is_count(train_steps):
        problems.append(f"'train_steps' must be a whole number, 0 for a budget of time, but it is {train_steps!r}")
    if not isinstance(configs, dict) or not all(isinstance(config, dict) for config in configs.values()):
        problems.append("'parameter_configs' must hold one object a hyperparameter")
    if problems:
        raise InputError(str(folder / STUDY), problems)
    early, told = bool(content.get("early_stopping", False)), content.get("optimizer")
    optimizer = told if isinstance(told, str) else None
    return _Study(folder, int(batch_size), int(train_steps), early, optimizer, configs, content.get(KEY))


def _is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number from 0; 5.0 is one."""
    return type(value) in (int, float) and math.isfinite(value) and value >= 0 and value == math.floor(value)


def _space(study: _Study, names: Mapping[str, str], notes: foreign.Notes) -> SearchSpace:
    axes, where = {}, f"batch size {study.batch_size}"
    for name, config in study.configs.items():
        axis = axis_of(name, config, where, notes)
        if axis is not None and name in names:
            axes[names[name]] = axis
        elif axis is not None:
            notes.add("Searched hyperparameters that no trial has are left out of the space", 1, f"{where}: {name}")
    counting = [trial.parameters for trial in study.trials if trial.row["outcome"] != Outcome.FAILED.value]
    return foreign.fitted(axes, [{names[n]: value for n, value in of.items()} for of in counting], where, notes)


def _read_trials(study: _Study, first: int | None, notes: foreign.Notes) -> None:
    """Give a study its trials in order of their numbers, numbers first as the published loader takes them.

    Where only the `first` complete ones are wanted, those up to the last of them.
    """
    with os.scandir(study.folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    found = [_read_trial(study, name, notes) for name in sorted(names, key=_number_first)]
    trials = [trial for trial in found if trial is not None]
    complete = [place for place, trial in enumerate(trials) if trial.row["outcome"] is None]
    if first is not None and len(complete) < first:
        few = f"batch size {study.batch_size}: {len(complete)}"
        notes.add("Studies with fewer complete trials than wanted", 1, few)
    elif first is not None:
        left = trials[complete[first - 1] + 1 :]
        notes.add(f"Trials after the first {first} complete ones of their study are left out", len(left))
        trials = trials[: len(trials) - len(left)]
    study.trials.extend(trials)


def _read_trial(study: _Study, name: str, notes: foreign.Notes) -> _Trial | None:
    """A trial; one whose metadata cannot be read stays as a failed one that says why, an empty folder is none."""
    trial_id, folder = f"{study.batch_size}/{name}", os.path.join(study.folder, name)
    path = os.path.join(folder, MEASUREMENTS_CSV)
    try:
        with open(a_file(os.path.join(folder, METADATA)), "rb") as file:
            metadata = loaded(file.read())
        problem = None if isinstance(metadata, dict) else f"{METADATA} must hold one JSON object"
    except FileNotFoundError:
        if not os.listdir(folder):
            notes.add("Empty folders among the trials are left out", 1, trial_id)
            return None
        problem = f"{METADATA} is missing"
    except (OSError, ValueError) as error:
        problem = f"{METADATA} is not readable as JSON: {error}"
    if problem is not None:
        notes.add(f"Trials whose {METADATA} is missing or broken stand as failed", 1, f"{trial_id}: {problem}")
        return _Trial(
            foreign.trial_row(trial_id, study.batch_size, outcome=Outcome.FAILED.value, message=problem), path
        )
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
    given = metadata.get("parameters", {})
    if not isinstance(given, dict):
        notes.add("'parameters' that are no object are left out", 1, trial_id)
        given = {}
    named = {parameter: value for parameter, value in given.items() if value is not None}
    listed = {n for n, v in named.items() if is_choice(study.configs.get(n, {})) or isinstance(v, list | dict)}
    parameters = {n: option_of(v) if n in listed else v for n, v in named.items()}
    known: foreign.Row = {"outcome": None if outcome is None else outcome.value, "message": message}
    known |= {"steps": None if steps is None else int(steps), "max_steps": study.train_steps or None}
    return _Trial(foreign.trial_row(trial_id, study.batch_size, **known), path, parameters, metadata.get(KEY))


def _recorded_run(
    studies: Sequence[_Study], trials: Sequence[_Trial], source: str, target: Target | None, notes: foreign.Notes
) -> foreign.ImportedRun | None:
    """The run of ours that a folder holds; None if it is not ours, was added to, or is asked for another target."""
    first, parts = studies[0].ours, [study.ours for study in studies]
    if not any(parts):
        return None
    if parts != [first] * len(parts) or not all(isinstance(part, dict) for part in [first, *(t.ours for t in trials)]):
        notes.add("An export of bcrit that was changed since: it is read as any other tree")
        return None
    experiment = parse_experiment(first["experiment"], str(studies[0].folder))
    if target is not None and target != experiment.target:
        notes.add(f"An export of bcrit for '{experiment.target}': with another target it is read as any other tree")
        return None
    kinds = {name: pa.type_for_alias(kind) for name, kind in first["hyperparameters"].items()}
    metrics = {name: pa.type_for_alias(kind) for name, kind in first["metrics"].items()}
    columns = {}
    for name, kind in {**{f.name: f.type for f in arrow_schema(TRIALS)}, **kinds}.items():
        cells = [trial.ours.get(name) for trial in trials]
        # What is not finite stands as its name in JSON.
        cells = [float(v) if v is not None and pa.types.is_floating(kind) else v for v in cells]
        columns[name] = pa.array(cells, kind)
    table = pa.table(columns)
    measured = [{name: trial.ours[name] for name in ("trial_id", "batch_size", "outcome")} for trial in trials]
    curves = partial(_curves, measured, [trial.path for trial in trials], metrics, notes)
    sessions = first.get("sessions", [])
    return foreign.ImportedRun("batch_science", source, experiment, lambda: table, curves, notes, True, sessions)


def _curves(
    rows: Sequence[foreign.Row], paths: Sequence[str], types: Mapping[str, pa.DataType], notes: foreign.Notes
) -> Iterator[pa.Table]:
    """Measurements of whole trials; `types` are those of metrics that are no floats.

    A row whose trial has none says so afterwards: what completed but was never measured cannot count.
    """
    for places, found in stream_curves(paths, types):
        some = [rows[place] for place in places]
        for place, why in found.unreadable.items():
            row, which = some[place], f"{some[place]['trial_id']}: {MEASUREMENTS_CSV} {why}"
            if row["outcome"] is None:
                notes.add("Completed trials without measurements stand as failed", 1, which)
                message = f"COMPLETE in the source, but {MEASUREMENTS_CSV} {why}."
                row |= {"outcome": Outcome.FAILED.value, "message": message}
            elif "message" in row:
                notes.add("Trials that did not complete and have no measurements", 1, which)
        for place, flaws in found.flaws.items():
            for flaw, count in flaws.items():
                notes.add(f"{MEASUREMENTS_CSV}: {flaw}, left out", count, some[place]["trial_id"])
        ids, sizes = pa.array([row["trial_id"] for row in some]), np.array([row["batch_size"] for row in some])
        for data, owner in found.tables:
            metrics = [name for name in data.column_names if name not in (STEP, EXAMPLES, SECONDS)]
            examples, seconds = data[STEP].to_numpy() * sizes[owner], np.zeros(len(owner))
            columns = {
                "trial_id": pa.DictionaryArray.from_arrays(pa.array(owner.astype(np.int32)), ids),
                "step": data[STEP],
                "examples": pc.cast(data[EXAMPLES], pa.int64())
                if EXAMPLES in data.column_names
                else pa.array(examples),
                "train_seconds": data[SECONDS] if SECONDS in data.column_names else pa.array(seconds),
            }
            yield pa.table(columns | {here: data[there] for there, here in foreign.metric_names(metrics).items()})
