"""`metadata.json` of the batch_science layout: the trials of a study, whatever became of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bcrit.analysis.exchange.batch_science.study import StudyFile, is_choice, is_count, option_of
from bcrit.analysis.exchange.batch_science.tree import KEY, METADATA, trial_folders
from bcrit.analysis.exchange.imported_run import Notes, imported_trial
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.outcome import Outcome

# What the statuses of the archive mean here: its COMPLETE trials count, its INFEASIBLE ones count as diverged, its
# INCOMPLETE ones "can usually be ignored" (README of the archive). The latter stay visible and never count.
_STATUSES: Mapping[str, tuple[Outcome | None, str | None]] = {
    "COMPLETE": (None, None),
    "INFEASIBLE": (Outcome.DIVERGED, "INFEASIBLE in the source: training diverged."),
    "INCOMPLETE": (Outcome.FAILED, "INCOMPLETE in the source: not completed for some reason; it does not count."),
}


@dataclass(frozen=True)
class TrialFile:
    """One trial folder.

    Attributes:
        row: its row of the trials table, with empty cells for what its curve tells.
        path: the folder.
        parameters: its hyperparameters by the names of the source.
        ours: what an export of ours added; None in trees from elsewhere.
    """

    row: dict[str, Any]
    path: str
    parameters: Mapping[str, Value]
    ours: Mapping[str, Any] | None


def read_trials(study: StudyFile, notes: Notes) -> list[TrialFile]:
    """Read every trial of a study; one whose metadata cannot be read stays as a failed one that says why.

    Args:
        study: its folder and file.
        notes: receives what was wrong, with counts.

    Returns:
        The trials in order of their numbers.
    """
    found: list[TrialFile] = []
    for name in trial_folders(study.folder):
        path = os.path.join(study.folder, name)
        trial = _read(study, name, path, len(found), notes)
        if trial is not None:
            found.append(trial)
    return found


def _read(study: StudyFile, name: str, path: str, number: int, notes: Notes) -> TrialFile | None:
    trial_id = f"{study.batch_size}/{name}"
    metadata, problem = _metadata(path)
    if metadata is None:
        if problem is None and not os.listdir(path):
            notes.add("Empty folders among the trials are left out", 1, trial_id)
            return None
        problem = problem or f"{METADATA} is missing"
        notes.add(f"Trials whose {METADATA} is missing or broken stand as failed", 1, f"{trial_id}: {problem}")
        row = imported_trial(trial_id, study.batch_size, number, outcome=Outcome.FAILED.value, message=problem)
        return TrialFile(row, path, {}, None)
    status = str(metadata.get("status")).upper()
    outcome, message = _STATUSES.get(status, (Outcome.FAILED, f"unknown status {metadata.get('status')!r}"))
    if status not in _STATUSES:
        notes.add("Trials with an unknown status stand as failed", 1, f"{trial_id}: {message}")
    told = metadata.get("trial_id", name)
    if str(told) != name and not (name.isdecimal() and told == int(name)):
        notes.add("Trials whose 'trial_id' is not their folder's name are named by the folder", 1, trial_id)
    steps = metadata.get("steps")
    if steps is not None and not is_count(steps):
        notes.add("Values of 'steps' that are no whole number: the last evaluation stands instead", 1, trial_id)
        steps = None
    row = imported_trial(
        trial_id,
        study.batch_size,
        number,
        outcome=None if outcome is None else outcome.value,
        message=message,
        steps=None if steps is None else int(steps),
        max_steps=study.train_steps or None,
    )
    ours = metadata.get(KEY)
    return TrialFile(row, path, _parameters(study, metadata, notes, trial_id), ours if isinstance(ours, dict) else None)


def _metadata(path: str) -> tuple[dict[str, Any] | None, str | None]:
    """The file's object, or None and what is wrong with it, or None twice where it is missing."""
    try:
        with open(os.path.join(path, METADATA), "rb") as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError) as error:
        return None, f"{METADATA} is not readable as JSON: {error}"
    return (content, None) if isinstance(content, dict) else (None, f"{METADATA} must hold one JSON object")


def _parameters(study: StudyFile, metadata: Mapping[str, Any], notes: Notes, trial_id: str) -> dict[str, Value]:
    given = metadata.get("parameters", {})
    if not isinstance(given, dict):
        notes.add("'parameters' that are no object are left out", 1, trial_id)
        return {}
    found: dict[str, Value] = {}
    for name, value in given.items():
        if value is None:
            continue
        if is_choice(study.configs.get(name, {})):
            found[name] = option_of(value)
        else:
            found[name] = value if isinstance(value, str | bool | int | float) else json.dumps(value)
    return found


__all__ = ["TrialFile", "read_trials"]
