"""Export in the batch_science layout (Shallue et al. 2018); what it lacks stands under keys that readers pass over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange.batch_science.curves import EXAMPLES, SECONDS
from bcrit.analysis.exchange.batch_science.ours import json_cell
from bcrit.analysis.exchange.batch_science.study import configs_of, number_of
from bcrit.analysis.exchange.batch_science.tree import KEY, MEASUREMENTS_CSV, METADATA, STUDY
from bcrit.analysis.exchange.column_types import type_name
from bcrit.analysis.exchange.free_place import new_folder
from bcrit.analysis.exchange.tables.run_tables import measurement_schema
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.dimensions import Choice
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

# Trials that trained as long as they were meant to are COMPLETE, those stopped or broken before that INCOMPLETE.
_STATUS = {Outcome.REACHED: "COMPLETE", Outcome.EXHAUSTED: "COMPLETE", Outcome.DIVERGED: "INFEASIBLE"}


def export_batch_science(folder: RunFolder, out: str) -> dict[str, int]:
    """Write a run folder in the batch_science layout.

    A reader of the layout sees the re-runs of a point on fresh seeds as further trials of the study.

    Args:
        folder: the run.
        out: a free local place; the tree's root.

    Returns:
        Rows written, by table.
    """
    experiment = folder.read_experiment()
    trials = folder.read(TRIALS)
    schema = measurement_schema(folder)
    rows = trials.to_pylist()
    names = [name for name in trials.column_names if name not in TRIALS.names]
    metrics = [name for name in schema.names if name not in MEASUREMENTS.names]
    ours = {
        "experiment": experiment.to_dict(),
        "hyperparameters": {name: type_name(trials.schema.field(name).type) for name in names},
        "metrics": {name: type_name(schema.field(name).type) for name in metrics},
        "sessions": folder.read_environment(),
    }
    with new_folder(out) as place:
        files: dict[str, Path] = {}
        for batch_size in dict.fromkeys(row["batch_size"] for row in rows):
            study = sorted((row for row in rows if row["batch_size"] == batch_size), key=_order)
            path = place.joinpath(*_workload_path(experiment), str(batch_size))
            path.mkdir(parents=True)
            _write_json(path / STUDY, _study(experiment, batch_size, study, ours))
            for number, row in zip(_numbers(study), study, strict=True):
                (path / number).mkdir()
                _write_json(path / number / METADATA, _metadata(experiment, row, number, names))
                files[row["trial_id"]] = path / number / MEASUREMENTS_CSV
        return {TRIALS.name: len(rows), MEASUREMENTS.name: _write_measurements(folder, schema, files)}


def _order(row: Mapping[str, Any]) -> tuple[bool, int, str]:
    return row["stage"] != "search", row["number"], row["trial_id"]


def _numbers(study: list[dict[str, Any]]) -> list[str]:
    """Names of the trial folders, whole numbers: those that the trials came with, or their places from 1."""
    told = [str(row["trial_id"]).rpartition("/")[2] for row in study]
    if all(name.isdecimal() for name in told) and len({int(name) for name in told}) == len(told):
        return told
    return [str(place) for place in range(1, len(study) + 1)]


def _workload_path(experiment: Experiment) -> tuple[str, str, str]:
    """Folders `dataset`, `model`, `optimizer`; a workload that is one word is both of the first two."""
    dataset, _, model = experiment.workload.name.rpartition("/")
    words = (dataset.replace("/", "_") or model, model, experiment.optimizer)
    dataset, model, optimizer = (re.sub(r"[^\w.-]+", "_", word).strip(".") or "unnamed" for word in words)
    return dataset, model, optimizer


def _study(
    experiment: Experiment, batch_size: int, study: list[dict[str, Any]], ours: dict[str, Any]
) -> dict[str, Any]:
    there = {**experiment.imported.names} if experiment.imported else {"lr": "learning_rate"}
    configs = configs_of(experiment.space_at(batch_size))
    complete = [row["steps"] for row in study if _status(row) == "COMPLETE"]
    dataset, model, optimizer = _workload_path(experiment)
    return {
        "batch_size": batch_size,
        "dataset": dataset,
        "early_stopping": any(row["outcome"] in (Outcome.PRUNED, Outcome.CAPPED) for row in study),
        "model": model,
        "optimizer": optimizer,
        "parameter_configs": {there.get(name, name): config for name, config in configs.items()},
        # "The minimum number of training steps for a trial to be considered COMPLETE" (README of the archive).
        "train_steps": min(complete, default=0),
        KEY: ours,
    }


def _status(row: Mapping[str, Any]) -> str:
    return _STATUS.get(Outcome(row["outcome"]), "INCOMPLETE")


def _metadata(experiment: Experiment, row: Mapping[str, Any], number: str, names: list[str]) -> dict[str, Any]:
    there = {**experiment.imported.names} if experiment.imported else {"lr": "learning_rate"}
    space = experiment.space_at(row["batch_size"])
    choices = {hyperparameter(address) for address, axis in space.axes.items() if isinstance(axis, Choice)}
    parameters = {}
    for name in names:
        value = row[name]
        if value is not None:
            numeric = name in choices and isinstance(value, str)
            parameters[there.get(name, name)] = json_cell(number_of(value) if numeric else value)
    return {
        "parameters": parameters,
        "status": _status(row),
        "steps": row["steps"],
        "trial_id": int(number),
        KEY: {name: json_cell(value) for name, value in row.items()},
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_measurements(folder: RunFolder, schema: pa.Schema, files: Mapping[str, Path]) -> int:
    """Append every trial's rows to its file, in the order in which they lie in the run."""
    columns = [name for name in schema.names if name not in ("trial_id", "examples", "train_seconds")]
    ordered = ["trial_id", *columns, "examples", "train_seconds"]
    header = pa.schema([*(pa.field(n, schema.field(n).type) for n in columns), (EXAMPLES, pa.int64()), (SECONDS, "f8")])
    for path in files.values():
        with path.open("wb") as file:
            arrow_csv.write_csv(header.empty_table(), file)
    rows = 0
    for batch in folder.scan(MEASUREMENTS, ordered):
        ids = batch.column("trial_id")
        order = np.argsort(ids.indices.to_numpy(), kind="stable")
        data = pa.Table.from_batches([batch]).take(pa.array(order)).drop_columns(["trial_id"])
        data = data.rename_columns(header.names).cast(header)
        code = ids.indices.to_numpy()[order]
        starts = np.flatnonzero(np.diff(code, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(code)], strict=True):
            trial_id = ids.dictionary[int(code[start])].as_py()
            with files[trial_id].open("ab") as file:
                arrow_csv.write_csv(data.slice(start, end - start), file, arrow_csv.WriteOptions(include_header=False))
        rows += len(code)
    return rows


__all__ = ["export_batch_science"]
