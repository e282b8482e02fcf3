"""A run folder in formats for elsewhere, as two plain tables or in the batch_science layout, and the tables back.

Nothing is lost on the way. `trials.csv`, `measurements.csv`, `experiment.yaml`, `environment.json`, and `columns.json`,
which says of every column its type, unit and meaning. Floats are written with as many digits as tell them from their
neighbours, so that they come back bit for bit; an empty cell is no value, `nan` is one.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange import Exported
from bcrit.analysis.exchange.files import is_parquet, open_batches, read_text
from bcrit.analysis.exchange.run import Axis, ImportedRun, Notes, Row, choice_of, interval
from bcrit.analysis.records.arrow_tables import decoded
from bcrit.analysis.records.json_values import loaded
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder
from bcrit.search_spaces.dimensions import Choice, Fixed, Integer, Log, ReverseLog
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.outcome import STUDY as STUDIED
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace, hyperparameter
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

COLUMNS = "columns.json"
# The batch_science layout.
STUDY = "study.json"
METADATA = "metadata.json"
MEASUREMENTS_CSV = "measurements.csv"
# What an export of ours adds, so that its import gives back the very same run: the layout has no place for seeds,
# stages, outcomes, seconds or the target. They stand under this key of both JSON files, and in these two columns of
# `measurements.csv`; other readers pass over them.
KEY = "bcrit"
EXAMPLES, SECONDS = "bcrit/examples", "bcrit/train_seconds"
_SCALES = {"LINEAR": "linear", "LOG": "log", "REVERSE_LOG": "reverse_log", "": "linear"}
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
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent)
    except OSError as error:
        raise InputError(out, [f"a folder cannot be made there: {error.strerror}"]) from error
    with temporary as holder:
        whole = Path(holder) / place.name
        whole.mkdir()
        yield whole
        if place.exists():
            place.rmdir()
        whole.rename(place)


def _measurement_schema(folder: RunFolder) -> pa.Schema:
    """The columns of a run's measurements: floats where any part has floats."""
    try:
        unified = pa.unify_schemas(folder.schemas(MEASUREMENTS), promote_options="permissive")
    except pa.ArrowException as error:
        why = f"the parts of '{MEASUREMENTS.name}' do not fit together: {error}"
        raise InputError(str(folder), [f"{why}; `bcrit repair {folder}` sets aside what is wrong"]) from error
    return pa.schema([pa.field(f.name, pa.float64() if pa.types.is_null(f.type) else f.type) for f in unified])


def type_name(kind: pa.DataType) -> str:
    """The name of a column's type, as Arrow reads it; a column without any value counts as one of floats."""
    return "double" if pa.types.is_null(kind) else str(kind)


def export_tables(folder: RunFolder, out: str, kind: str, safe_cells: bool = False) -> dict[str, int]:
    """Write a run folder as two tables at a free local place: the rows written, by table.

    With `safe_cells` text that a spreadsheet would run as a formula begins with an apostrophe, also when it is read
    back.
    """
    text = folder.read_text(EXPERIMENT) if folder.has(EXPERIMENT) else ""
    folder.read_experiment()
    trials, schema = folder.read(TRIALS), _measurement_schema(folder)
    measured = folder.scan(MEASUREMENTS, schema.names, set(trials["trial_id"].to_pylist()))  # not of what was stopped
    content = {
        TRIALS: (trials.schema, iter([trials])),
        MEASUREMENTS: (schema, (decoded(pa.Table.from_batches([batch])).cast(schema) for batch in measured)),
    }
    if safe_cells:
        content = {
            table: (_safe(columns.empty_table()).schema, map(_safe, pieces))
            for table, (columns, pieces) in content.items()
        }
    described, rows = {}, {}
    with _new_folder(out) as place:
        (place / EXPERIMENT).write_text(text, encoding="utf-8")
        if folder.has(ENVIRONMENT):
            (place / ENVIRONMENT).write_text(folder.read_text(ENVIRONMENT), encoding="utf-8")
        for table, (columns, pieces) in content.items():
            described[table.name], rows[table.name] = [_described(table, column) for column in columns], 0
            path = place / f"{table.name}.{kind}"
            with pq.ParquetWriter(path, columns) if is_parquet(path) else arrow_csv.CSVWriter(path, columns) as writer:
                for piece in pieces:
                    writer.write_table(piece)
                    rows[table.name] += piece.num_rows
        (place / COLUMNS).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return rows


def _safe(data: pa.Table) -> pa.Table:
    """The table with an apostrophe before texts, and names of columns, that begin as a formula does."""
    formula, plain = r"^([=+@\t\r-])", r"'\1"
    for place, field in enumerate(data.schema):
        if pa.types.is_string(field.type):
            data = data.set_column(place, field, pc.replace_substring_regex(data[place], formula, plain))
    return data.rename_columns([re.sub(formula, plain, name) for name in data.column_names])


def _described(table: Table, column: pa.Field) -> dict[str, str]:
    known = next((of for of in (*table.columns, *table.optional) if of.name == column.name), None)
    meaning = {"unit": known.unit, "description": known.description} if known else {}
    other = {"description": f"One of the {table.others}."}
    return {"name": column.name, "type": type_name(column.type), **(meaning or other)}


def import_csv(source: Exported) -> ImportedRun:
    """Import what `bcrit export csv` wrote: the same run again."""
    return import_tables(source, "csv")


def import_parquet(source: Exported) -> ImportedRun:
    """Import what `bcrit export parquet` wrote: the same run again."""
    return import_tables(source, "parquet")


def import_tables(source: str, kind: str) -> ImportedRun:
    """Read what `export_tables` wrote, the run as it was; measurements are read piece by piece while it is written."""
    place = Path(source)
    needed = [EXPERIMENT, COLUMNS, f"{TRIALS.name}.{kind}", f"{MEASUREMENTS.name}.{kind}"]
    if missing := [name for name in needed if not (place / name).is_file()]:
        rule = f"it must be a folder that `bcrit export {kind}` wrote, but it has no {', '.join(missing)}"
        raise InputError(source, [f"{rule}; tables from elsewhere are read by `bcrit import table`"])
    experiment = parse_experiment(read_yaml(read_text(place / EXPERIMENT), source), source)
    trials = pa.concat_tables(_our_pieces(place, TRIALS, kind, source))
    sessions: list[Mapping[str, Any]] = []
    if (place / ENVIRONMENT).is_file():
        try:
            sessions = [dict(session) for session in loaded((place / ENVIRONMENT).read_bytes())["sessions"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(source, [f"{ENVIRONMENT} is damaged: {error}"]) from error
    measured = partial(_our_pieces, place, MEASUREMENTS, kind, source)
    return ImportedRun(kind, source, experiment, lambda: trials, measured, Notes(), recorded=True, sessions=sessions)


def _our_pieces(place: Path, table: Table, kind: str, source: str) -> Iterator[pa.Table]:
    """The rows of a table that `export_tables` wrote, at least one piece."""
    path, types, convert = place / f"{table.name}.{kind}", {}, None
    if kind == "csv":
        try:
            described = loaded((place / COLUMNS).read_bytes())[table.name]
            types = {column["name"]: pa.type_for_alias(column["type"]) for column in described}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(source, [f"{COLUMNS} cannot be read: {error}"]) from error
        convert = arrow_csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        )
    try:
        schema, batches = open_batches(path, convert, exact=True)
        if unknown := [name for name in schema.names if convert and name not in types]:
            raise InputError(source, [f"{COLUMNS} does not describe {', '.join(unknown)} of {path.name}"])
        yield schema.empty_table()
        for batch in batches:
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(source, [f"{path.name} cannot be read: {error}"]) from error


def export_batch_science(folder: RunFolder, out: str) -> dict[str, int]:
    """Write a run folder in the batch_science layout (Shallue et al. 2018) at a free local place, the tree's root.

    What the layout lacks stands under keys that readers pass over. A reader of the layout sees the re-runs of a point
    on fresh seeds as further trials of the study.
    """
    experiment = folder.read_experiment()
    trials, schema = folder.read(TRIALS), _measurement_schema(folder)
    rows = [row for row in trials.to_pylist() if row["stage"] in STUDIED]
    if not rows:
        raise InputError(str(folder), ["no trial of it has ended; `bcrit export csv` writes a run that has only begun"])
    names = TRIALS.beside(trials.column_names)
    metrics = [name for name in schema.names if name not in MEASUREMENTS.names]
    ours = {
        "experiment": experiment.to_dict(),
        "hyperparameters": {name: type_name(trials.schema.field(name).type) for name in names},
        "metrics": {name: type_name(schema.field(name).type) for name in metrics},
        "sessions": folder.read_environment(),
    }
    there = experiment.imported.names if experiment.imported else {"lr": "learning_rate"}
    # A workload that is one word is both data set and model.
    data, _, model = experiment.workload.name.rpartition("/")
    words = (data.replace("/", "_") or model, model, experiment.optimizer)
    data, model, optimizer = (re.sub(r"[^\w.-]+", "_", word).strip(".") or "unnamed" for word in words)
    with _new_folder(out) as place:
        files: dict[str, Path] = {}
        for batch_size in dict.fromkeys(row["batch_size"] for row in rows):
            of_it = [row for row in rows if row["batch_size"] == batch_size]
            study = sorted(of_it, key=lambda row: (row["stage"] != "search", row["number"], row["trial_id"]))
            path, space = place / data / model / optimizer / str(batch_size), experiment.space_at(batch_size)
            path.mkdir(parents=True)
            told: Row = {
                "batch_size": batch_size,
                "dataset": data,
                "early_stopping": any(row["outcome"] in (Outcome.PRUNED, Outcome.CAPPED) for row in study),
                "model": model,
                "optimizer": optimizer,
                "parameter_configs": {there.get(name, name): of for name, of in configs_of(space).items()},
                # "The minimum number of training steps for a trial to be considered COMPLETE" (README of the archive).
                "train_steps": min((row["steps"] for row in study if _status(row) == "COMPLETE"), default=0),
                KEY: ours,
            }
            _write_json(path / STUDY, told)
            # Trial folders are whole numbers: those that the trials came with, or their places from 1.
            numbers = [str(row["trial_id"]).rpartition("/")[2] for row in study]
            if not all(name.isdecimal() for name in numbers) or len(set(map(int, numbers))) < len(numbers):
                numbers = [str(number) for number in range(1, len(study) + 1)]
            choices = {hyperparameter(address) for address, axis in space.axes.items() if isinstance(axis, Choice)}
            for number, row in zip(numbers, study, strict=True):
                point = {n: row[n] for n in names if row[n] is not None}
                numeric = {n: _number_of(v) if n in choices and isinstance(v, str) else v for n, v in point.items()}
                metadata: Row = {
                    "parameters": {there.get(name, name): _json_cell(value) for name, value in numeric.items()},
                    "status": _status(row),
                    "steps": row["steps"],
                    "trial_id": int(number),
                    KEY: {name: _json_cell(value) for name, value in row.items()},
                }
                files[row["trial_id"]] = path / number / MEASUREMENTS_CSV
                (path / number).mkdir()
                _write_json(path / number / METADATA, metadata)
        return {TRIALS.name: len(rows), MEASUREMENTS.name: _write_curves(folder, schema, files)}


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


def axis_of(name: str, config: Mapping[str, Any], study: str, notes: Notes) -> Axis | None:
    """The dimension that `type`, and `min_value`, `max_value`, `scale` or `feasible_points` describe; else None."""
    where, points = f"{study}: {name}", config.get("feasible_points")
    if is_choice(config) and isinstance(points, list) and points:
        return choice_of(map(option_of, points))
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


def is_choice(config: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter takes one of listed values."""
    return str(config.get("type", "")).upper() in ("DISCRETE", "CATEGORICAL") or "feasible_points" in config


def option_of(value: Any) -> str:
    """A listed value as the name of an option: `0.1` for 0.1, and equal numbers have one name (1 and 1.0)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _number_of(option: str) -> float | int | str:
    """The number that an option's name stands for, or the name itself."""
    try:
        value = json.loads(option)
    except ValueError:
        return option
    return value if isinstance(value, int | float) and not isinstance(value, bool) else option


def _json_cell(value: Any) -> Any:
    """A cell as JSON holds it: what is not finite as its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, content: Row) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_curves(folder: RunFolder, schema: pa.Schema, files: Mapping[str, Path]) -> int:
    """Write every trial's rows into its file, in the order in which they lie in the run."""
    columns = [name for name in schema.names if name not in ("trial_id", "examples", "train_seconds")]
    header = pa.schema([*(pa.field(n, schema.field(n).type) for n in columns), (EXAMPLES, pa.int64()), (SECONDS, "f8")])
    for path in files.values():
        arrow_csv.write_csv(header.empty_table(), path)
    rows = 0
    for batch in folder.scan(MEASUREMENTS, ["trial_id", *columns, "examples", "train_seconds"], files):
        ids = batch.column("trial_id").to_pandas()
        data = pa.Table.from_batches([batch]).drop_columns(["trial_id"]).rename_columns(header.names).cast(header)
        for trial_id, places in ids.groupby(ids, observed=True).indices.items():
            with files[str(trial_id)].open("ab") as file:
                arrow_csv.write_csv(data.take(places), file, arrow_csv.WriteOptions(include_header=False))
        rows += len(ids)
    return rows


EXPORTS: Final[Mapping[str, Callable[..., dict[str, int]]]] = {
    "csv": partial(export_tables, kind="csv"),
    "parquet": partial(export_tables, kind="parquet"),
    "batch_science": export_batch_science,
}
