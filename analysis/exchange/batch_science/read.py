"""Import of the batch_science layout, in which Shallue et al. 2018 published their 168,160 trials.

`dataset/model/optimizer/batch_size/study.json`, and a folder a trial with `metadata.json` and `measurements.csv`
(README of the archive). Each `dataset/model/optimizer` becomes a run, each batch size a study of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.batch_science.curves import TrialCurves
from bcrit.analysis.exchange.batch_science.goals import paper_goal
from bcrit.analysis.exchange.batch_science.ours import recorded_run
from bcrit.analysis.exchange.batch_science.study import StudyFile, axis_of, read_study
from bcrit.analysis.exchange.batch_science.tree import WorkloadFolder, find_workloads
from bcrit.analysis.exchange.batch_science.trials import TrialFile, read_trials
from bcrit.analysis.exchange.hyperparameters import uniform
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes
from bcrit.analysis.exchange.names import hyperparameter_names, renamed
from bcrit.analysis.exchange.spaces import common_space, fitted
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.target import Target

FORMAT = "batch_science"


def import_batch_science(
    source: str, target: Target | None, pattern: str | None = None, first: int | None = None
) -> dict[str, ImportedRun]:
    """Read the studies and trials of a tree; their measurements are read while the run is written.

    Args:
        source: the tree, or a folder in it.
        target: what "reached" means; None = what an export of ours says, or the goal of the paper.
        pattern: only workloads whose `dataset/model/optimizer` fits it.
        first: only the trials up to this many complete ones in each study, as in the paper's figures (100, or 50): the
            fewest steps fall with the number of trials, so that studies compare at equal numbers. None = all.

    Returns:
        One run a workload, by a name for its folder.

    Raises:
        InputError: nothing of the layout is there, a study's file is broken, or a workload has no known goal.
    """
    problems: list[str] = []
    found: dict[str, ImportedRun] = {}
    for workload in find_workloads(Path(source), pattern):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", workload.label.replace("/", "-")).strip("-_")[-80:] or "workload"
        while name in found:
            name += "-2"
        try:
            found[name] = _workload(workload, name, source, target, first)
        except InputError as error:
            problems += error.problems if str(error).startswith(source + ":") else [str(error).replace("\n", " ")]
    if problems:
        raise InputError(source, problems)
    return found


def _workload(
    workload: WorkloadFolder, name: str, source: str, target: Target | None, first: int | None
) -> ImportedRun:
    notes = Notes()
    studies = [read_study(folder, notes) for folder in workload.studies]
    sizes = [study.batch_size for study in studies]
    if twice := sorted({size for size in sizes if sizes.count(size) > 1}):
        raise InputError(source, [f"workload '{workload.label}' has several studies at batch size {twice[0]}"])
    trials = {study.batch_size: _first(read_trials(study, notes), first, study.batch_size, notes) for study in studies}
    if not any(trials.values()):
        raise InputError(source, [f"workload '{workload.label}' has no trial"])
    every = [trial for of_study in trials.values() for trial in of_study]
    recorded = recorded_run(studies, every, source, target, notes)
    if recorded is not None:
        return recorded
    goal = target or paper_goal("/".join(workload.path.parts[-4:]))
    if goal is None:
        raise InputError(
            source, [f"the paper sets no goal for '{workload.label}'; say what counts, --target 'METRIC < NUMBER'"]
        )
    if target is None:
        notes.add(f"The target is the goal that the paper sets this workload: {goal}")
    names = hyperparameter_names(parameter for trial in every for parameter in trial.parameters)
    curves = TrialCurves(every, {}, notes)
    experiment = _experiment(workload, name, source, goal, studies, trials, names, notes)
    rows = [{**trial.row, **_ours(trial, names)} for trial in every]
    _assumptions(studies, notes)
    return ImportedRun(FORMAT, source, experiment, lambda: curves.finish(uniform(rows)), curves, notes)


def _first(trials: list[TrialFile], first: int | None, batch_size: int, notes: Notes) -> list[TrialFile]:
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


def _ours(trial: TrialFile, names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: value for name, value in trial.parameters.items()}


def _experiment(
    workload: WorkloadFolder,
    name: str,
    source: str,
    target: Target,
    studies: Sequence[StudyFile],
    trials: Mapping[int, Sequence[TrialFile]],
    names: Mapping[str, str],
    notes: Notes,
) -> Experiment:
    spaces = {study.batch_size: _space(study, trials[study.batch_size], names, notes) for study in studies}
    steps = [
        trial.row[key] or 0 for of_study in trials.values() for trial in of_study for key in ("steps", "max_steps")
    ]
    dataset_and_model, _, optimizer = workload.label.rpartition("/")
    told = {study.optimizer for study in studies if study.optimizer}
    return Experiment.model_validate(
        {
            "name": name,
            "imported": {"format": FORMAT, "source": source, "spaces": spaces, "names": renamed(names)},
            "workload": {"name": dataset_and_model or workload.label, "options": {}},
            "optimizer": told.pop() if len(told) == 1 else optimizer,
            "batch_sizes": list(spaces),
            "target": target,
            "space": common_space([spaces[study.batch_size] for study in studies if study.configs]),
            "budget": {"steps": max([1, *steps])},
            "search": {
                "protocol": "random",
                "trials": max(1, *(len(of_study) for of_study in trials.values())),
                "stopping": "none",
            },
            "confirm": {"seeds": 0},
            "boundary": {"max_rounds": 0},
        }
    )


def _space(study: StudyFile, trials: Sequence[TrialFile], names: Mapping[str, str], notes: Notes) -> SearchSpace:
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


def _assumptions(studies: Sequence[StudyFile], notes: Notes) -> None:
    notes.add("The layout records no seconds and no seeds: both stand as 0, and time and cost are unknown")
    notes.add("Studies with a budget of time (train_steps 0)", sum(s.known and s.train_steps == 0 for s in studies))
    notes.add("Studies that stopped bad trials early by a rule of their own", sum(s.early_stopping for s in studies))


__all__ = ["FORMAT", "import_batch_science"]
