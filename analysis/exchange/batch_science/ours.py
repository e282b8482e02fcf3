"""What an export of ours adds to the batch_science layout, so that its import gives back the very same run.

The layout has no place for seeds, stages, outcomes, seconds or the target. They stand under one key, `bcrit`, of
`study.json` and `metadata.json`, and in two more columns of `measurements.csv`; other readers pass over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bcrit.analysis.exchange.batch_science.curves import TrialCurves
from bcrit.analysis.exchange.batch_science.study import StudyFile
from bcrit.analysis.exchange.batch_science.trials import TrialFile
from bcrit.analysis.exchange.column_types import TYPES
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes
from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target


def recorded_run(
    studies: Sequence[StudyFile], trials: Sequence[TrialFile], source: str, target: Target | None, notes: Notes
) -> ImportedRun | None:
    """The run of ours that a workload's folder holds.

    Args:
        studies: its studies.
        trials: all their trials.
        source: the tree, for the record.
        target: what the user asked for.
        notes: receives why a run of ours is read as any other.

    Returns:
        The run; None if the folder is from elsewhere, was added to, or is asked for another target.
    """
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
    hyperparameters = {name: TYPES[kind] for name, kind in first["hyperparameters"].items()}
    metrics = {name: TYPES[kind] for name, kind in first["metrics"].items()}
    schema = pa.schema([*arrow_schema(TRIALS), *(pa.field(name, kind) for name, kind in hyperparameters.items())])
    rows = [trial.ours or {} for trial in trials]
    table = pa.table(
        {field.name: pa.array([cell(row.get(field.name), field.type) for row in rows], field.type) for field in schema}
    )
    names = [dict(trial.row, trial_id=row["trial_id"]) for trial, row in zip(trials, rows, strict=True)]
    renamed = [TrialFile(row, trial.path, {}, None) for row, trial in zip(names, trials, strict=True)]
    curves = TrialCurves(renamed, metrics, notes)
    sessions = first.get("sessions", [])
    return ImportedRun(
        "batch_science", source, experiment, lambda: table, curves, notes, recorded=True, sessions=sessions
    )


def json_cell(value: Any) -> Any:
    """A cell as JSON holds it: what is not finite as its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def cell(value: Any, kind: pa.DataType) -> Any:
    """The inverse of `json_cell`."""
    return float(value) if value is not None and pa.types.is_floating(kind) else value


__all__ = ["cell", "json_cell", "recorded_run"]
