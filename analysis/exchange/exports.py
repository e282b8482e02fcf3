"""A run folder in formats for elsewhere, as two plain tables or in the batch_science layout, and the tables back.

Nothing is lost on the way. `trials.csv`, `measurements.csv`, `experiment.yaml`, `environment.json`, and `columns.json`,
which says of every column its type, unit and meaning. Floats are written with as many digits as tell them from their
neighbours, so that they come back bit for bit; an empty cell is no value, `nan` is one.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange.batch_science import EXAMPLES, KEY, MEASUREMENTS_CSV, METADATA, SECONDS, STUDY
from bcrit.analysis.exchange.files import TYPES, open_batches
from bcrit.analysis.exchange.run import ImportedRun, Notes, Row
from bcrit.analysis.records.arrow_tables import decoded
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder
from bcrit.search_spaces.dimensions import Choice, Fixed, Integer, Log, ReverseLog
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace, hyperparameter
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

Format = Literal["csv", "parquet"]
COLUMNS = "columns.json"
# Trials that trained as long as they were meant to are COMPLETE, those stopped or broken before that INCOMPLETE.
_STATUS = {Outcome.REACHED: "COMPLETE", Outcome.EXHAUSTED: "COMPLETE", Outcome.DIVERGED: "INFEASIBLE"}


@contextmanager
def _new_folder(out: str) -> Iterator[Path]:
    """A folder to write into, beside a local place where nothing lies, and moved there when it is whole."""
    place = Path(out).expanduser().absolute()
    if "://" in out:
        raise InputError(out, ["an export is written to a local folder; copy it from there"])
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(out, ["something lies there already; give another place"])
    temporary = place.parent / f".{place.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(out, [f"a folder cannot be made there: {error.strerror}"]) from error
    try:
        yield temporary
        if place.exists():
            place.rmdir()
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_tables(folder: RunFolder, out: str, kind: Format) -> dict[str, int]:
    """Write a run folder as two tables at a free local place: the rows written, by table."""
    text = folder.read_text(EXPERIMENT) if folder.has(EXPERIMENT) else ""
    folder.read_experiment()
    trials, schema = folder.read(TRIALS), _measurement_schema(folder)
    with _new_folder(out) as place:
        (place / EXPERIMENT).write_text(text, encoding="utf-8")
        if folder.has(ENVIRONMENT):
            (place / ENVIRONMENT).write_text(folder.read_text(ENVIRONMENT), encoding="utf-8")
        described = {t.name: _described(t, of) for t, of in ((TRIALS, trials.schema), (MEASUREMENTS, schema))}
        (place / COLUMNS).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        with _writer(place / f"{TRIALS.name}.{kind}", trials.schema) as writer:
            writer.write_table(trials)
        rows = 0
        with _writer(place / f"{MEASUREMENTS.name}.{kind}", schema) as writer:
            for batch in folder.scan(MEASUREMENTS, schema.names):
                writer.write_table(decoded(pa.Table.from_batches([batch])).cast(schema))
                rows += batch.num_rows
    return {TRIALS.name: trials.num_rows, MEASUREMENTS.name: rows}


def _measurement_schema(folder: RunFolder) -> pa.Schema:
    """The columns of a run's measurements: floats where any part has floats."""
    unified = pa.unify_schemas(folder.schemas(MEASUREMENTS), promote_options="permissive")
    return pa.schema([pa.field(f.name, pa.float64() if pa.types.is_null(f.type) else f.type) for f in unified])


def _writer(path: Path, schema: pa.Schema) -> Any:
    return pq.ParquetWriter(path, schema) if path.suffix == ".parquet" else arrow_csv.CSVWriter(path, schema)


def _described(table: Table, schema: pa.Schema) -> list[dict[str, str]]:
    known = {column.name: column for column in (*table.columns, *table.optional)}
    found = []
    for field in schema:
        column = known.get(field.name)
        entry = {"name": field.name, "type": type_name(field.type)}
        if column is not None:
            entry |= {"unit": column.unit, "description": column.description}
        else:
            entry["description"] = f"One of the {table.others}."
        found.append(entry)
    return found


def type_name(kind: pa.DataType) -> str:
    """The name of a column's type, as `TYPES` reads it; a column without any value counts as one of floats."""
    return "double" if pa.types.is_null(kind) else str(kind)


def import_tables(source: str, kind: Format) -> ImportedRun:
    """Read what `export_tables` wrote, the run as it was; measurements are read piece by piece while it is written."""
    place = Path(source)
    needed = [EXPERIMENT, COLUMNS, f"{TRIALS.name}.{kind}", f"{MEASUREMENTS.name}.{kind}"]
    if missing := [name for name in needed if not (place / name).is_file()]:
        rule = f"it must be a folder that `bcrit export {kind}` wrote, but it has no {', '.join(missing)}"
        raise InputError(source, [f"{rule}; tables from elsewhere are read by `bcrit import table`"])
    experiment = parse_experiment(read_yaml((place / EXPERIMENT).read_text(encoding="utf-8"), source), source)
    trials = pa.concat_tables(_Pieces(place, TRIALS, kind, source))
    sessions: list[Mapping[str, Any]] = []
    if (place / ENVIRONMENT).is_file():
        try:
            sessions = json.loads((place / ENVIRONMENT).read_text(encoding="utf-8"))["sessions"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(source, [f"{ENVIRONMENT} is damaged: {error}"]) from error
    measured = _Pieces(place, MEASUREMENTS, kind, source)
    return ImportedRun(kind, source, experiment, lambda: trials, measured, Notes(), recorded=True, sessions=sessions)


@dataclass(frozen=True)
class _Pieces:
    """The rows of a table that `export_tables` wrote, at least one piece; every iteration reads the file anew."""

    place: Path
    table: Table
    kind: Format
    source: str

    def __iter__(self) -> Iterator[pa.Table]:
        path = self.place / f"{self.table.name}.{self.kind}"
        convert = None if self.kind == "parquet" else self._convert()
        try:
            schema, batches = open_batches(path, convert)
            if unknown := [name for name in schema.names if convert is not None and name not in convert.column_types]:
                raise InputError(self.source, [f"{COLUMNS} does not describe {', '.join(unknown)} of {path.name}"])
            yield schema.empty_table()
            for batch in batches:
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise InputError(self.source, [f"{path.name} cannot be read: {error}"]) from error

    def _convert(self) -> arrow_csv.ConvertOptions:
        try:
            described = json.loads((self.place / COLUMNS).read_text(encoding="utf-8"))[self.table.name]
            types = {column["name"]: TYPES[column["type"]] for column in described}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(self.source, [f"{COLUMNS} cannot be read: {error}"]) from error
        return arrow_csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        )


def export_batch_science(folder: RunFolder, out: str) -> dict[str, int]:
    """Write a run folder in the batch_science layout (Shallue et al. 2018) at a free local place, the tree's root.

    What the layout lacks stands under keys that readers pass over. A reader of the layout sees the re-runs of a point
    on fresh seeds as further trials of the study.
    """
    experiment = folder.read_experiment()
    trials = folder.read(TRIALS)
    schema = _measurement_schema(folder)
    rows = trials.to_pylist()
    names = [name for name in trials.column_names if name not in TRIALS.names]
    metrics = [name for name in schema.names if name not in MEASUREMENTS.names]
    ours = {
        "experiment": experiment.to_dict(),
        "hyperparameters": {name: type_name(trials.schema.field(name).type) for name in names},
        "metrics": {name: type_name(schema.field(name).type) for name in metrics},
        "sessions": folder.read_environment(),
    }
    with _new_folder(out) as place:
        files: dict[str, Path] = {}
        for batch_size in dict.fromkeys(row["batch_size"] for row in rows):
            of_it = [row for row in rows if row["batch_size"] == batch_size]
            study = sorted(of_it, key=lambda row: (row["stage"] != "search", row["number"], row["trial_id"]))
            path = place.joinpath(*_workload_path(experiment), str(batch_size))
            path.mkdir(parents=True)
            _write_json(path / STUDY, {**_study(experiment, batch_size, study), KEY: ours})
            for number, row in zip(_numbers(study), study, strict=True):
                (path / number).mkdir()
                _write_json(path / number / METADATA, _metadata(experiment, row, number, names))
                files[row["trial_id"]] = path / number / MEASUREMENTS_CSV
        return {TRIALS.name: len(rows), MEASUREMENTS.name: _write_measurements(folder, schema, files)}


def _numbers(study: Sequence[Row]) -> list[str]:
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


def _names_there(experiment: Experiment) -> Mapping[str, str]:
    return experiment.imported.names if experiment.imported else {"lr": "learning_rate"}


def _study(experiment: Experiment, batch_size: int, study: Sequence[Row]) -> Row:
    there = _names_there(experiment)
    complete = [row["steps"] for row in study if _status(row) == "COMPLETE"]
    dataset, model, optimizer = _workload_path(experiment)
    configs = configs_of(experiment.space_at(batch_size))
    return {
        "batch_size": batch_size,
        "dataset": dataset,
        "early_stopping": any(row["outcome"] in (Outcome.PRUNED, Outcome.CAPPED) for row in study),
        "model": model,
        "optimizer": optimizer,
        "parameter_configs": {there.get(name, name): config for name, config in configs.items()},
        # "The minimum number of training steps for a trial to be considered COMPLETE" (README of the archive).
        "train_steps": min(complete, default=0),
    }


def _status(row: Row) -> str:
    return _STATUS.get(Outcome(row["outcome"]), "INCOMPLETE")


def configs_of(space: SearchSpace) -> dict[str, Row]:
    """A search space as `parameter_configs`; of dimensions with one name under several options the first counts."""
    found: dict[str, Row] = {}
    for address, axis in space.dimensions.items():
        if isinstance(axis, Choice | Fixed):
            points = [_number_of(option) for option in axis.options] if isinstance(axis, Choice) else [axis.value]
            numeric = all(not isinstance(value, str) for value in points)
            if isinstance(axis, Choice) and not numeric:
                points = list(axis.options)
            config: Row = {"type": "DISCRETE" if numeric else "CATEGORICAL", "feasible_points": points}
        elif isinstance(axis, Integer):
            config = {"min_value": int(axis.low), "max_value": int(axis.high), "scale": "", "type": "INTEGER"}
        else:
            scale = {Log: "LOG_SCALE", ReverseLog: "REVERSE_LOG_SCALE"}.get(type(axis), "LINEAR_SCALE")
            config = {"min_value": axis.low, "max_value": axis.high, "scale": scale, "type": "DOUBLE"}
        found.setdefault(hyperparameter(address), config)
    return found


def _number_of(option: str) -> float | int | str:
    """The number that an option's name stands for, or the name itself."""
    try:
        value = json.loads(option)
    except ValueError:
        return option
    return value if isinstance(value, int | float) and not isinstance(value, bool) else option


def _metadata(experiment: Experiment, row: Row, number: str, names: Sequence[str]) -> Row:
    there = _names_there(experiment)
    axes = experiment.space_at(row["batch_size"]).axes
    choices = {hyperparameter(address) for address, axis in axes.items() if isinstance(axis, Choice)}
    given = {name: row[name] for name in names if row[name] is not None}
    given = {n: _number_of(v) if n in choices and isinstance(v, str) else v for n, v in given.items()}
    return {
        "parameters": {there.get(name, name): json_cell(value) for name, value in given.items()},
        "status": _status(row),
        "steps": row["steps"],
        "trial_id": int(number),
        KEY: {name: json_cell(value) for name, value in row.items()},
    }


def json_cell(value: Any) -> Any:
    """A cell as JSON holds it: what is not finite as its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, content: Row) -> None:
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


EXPORTS: Final[Mapping[str, Callable[[RunFolder, str], dict[str, int]]]] = {
    "csv": partial(export_tables, kind="csv"),
    "parquet": partial(export_tables, kind="parquet"),
    "batch_science": export_batch_science,
}
