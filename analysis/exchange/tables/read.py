"""Import of somebody's own tables: one row a trial, and where there are curves one row an evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from analysis.exchange.hyperparameters import uniform
from analysis.exchange.imported_run import ImportedRun, Notes
from analysis.exchange.names import hyperparameter_names, metric_names, renamed
from analysis.exchange.tables.mapping import SPELLINGS, Mapped, assign, hyperparameter_columns
from analysis.exchange.tables.rows import SHOWN, Row, find_repeats, trial_rows
from search_spaces.experiment import Experiment
from search_spaces.problems import InputError
from search_spaces.target import Target

FORMAT = "table"
# Empty cells. `nan` is not among them: among numbers it is one, as an outcome it means that training diverged.
_NULLS = ["", "NA", "N/A", "null", "NULL", "None"]


def import_table(
    trials: str, measurements: str | None, target: Target, mapped: Mapped, unit: str = "examples"
) -> ImportedRun:
    """Read a table of trials, CSV or Parquet by its ending, and perhaps a table of their measurements.

    Rows with the same batch size and hyperparameters and different seeds are repeats of one point: their median is the
    study's number.

    Args:
        trials: the file; one row a trial.
        measurements: the file; one row an evaluation, with the trial's name. None = `trials` has the steps to target.
        target: what "reached" means.
        mapped: which column is what.
        unit: what a batch counts.

    Returns:
        The run.

    Raises:
        InputError: lists everything that is missing or cannot be read.
    """
    notes = Notes()
    table = _read(trials, mapped)
    roles, guessed = assign(mapped, table.column_names, False, trials)
    needed = ["batch_size"] + (["steps_to_target"] if measurements is None else ["trial_id"])
    if problems := [_missing(role, table.column_names) for role in needed if role not in roles]:
        raise InputError(trials, problems)
    chosen = hyperparameter_columns(mapped, table.column_names, list(roles.values()), trials)
    names = hyperparameter_names(chosen, {there: here for there, here in chosen.items() if here})
    _say(notes, guessed, names if mapped.hyperparameters is None else {}, table.column_names, roles, names)
    rows = trial_rows(table, roles, names, mapped, trials, with_curves=measurements is not None)
    find_repeats(rows, list(names.values()), notes)
    counted: Counter[tuple[int, str]] = Counter()
    for row in rows:
        row["number"] = counted[row["batch_size"], row["stage"]]
        counted[row["batch_size"], row["stage"]] += 1
    curves = [] if measurements is None else [_curves(measurements, rows, mapped, target, notes)]
    if "seconds" not in roles:
        notes.add("No column of seconds: they stand as 0, and time and cost are unknown")
    return ImportedRun(
        FORMAT, trials, _experiment(trials, rows, target, names, unit), lambda: uniform(rows), curves, notes
    )


def _missing(role: str, columns: Sequence[str]) -> str:
    usual = ", ".join(SPELLINGS[role])
    return (
        f"a column '{role}' is needed; name it by --columns {role}=COLUMN, or as one of {usual}. "
        f"The columns are {', '.join(columns)}"
    )


def _read(path: str, mapped: Mapped) -> pa.Table:
    """The file, with trial names as the words that they are (00012 is not 12).

    Raises:
        InputError: it cannot be read.
    """
    names = {mapped.columns.get("trial_id"), *SPELLINGS["trial_id"]} - {None}
    try:
        if Path(path).suffix in (".parquet", ".pq"):
            return pq.read_table(path)
        with open(path, "rb") as file:
            header = file.readline().decode("utf-8-sig").strip().split(",")
        words = {name.strip('"'): pa.string() for name in header if name.strip('"').lower() in names}
        return arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=words, null_values=_NULLS, strings_can_be_null=True),
        )
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(path, [f"the table cannot be read: {error}"]) from error


def _say(
    notes: Notes,
    guessed: Mapping[str, str],
    guessed_names: Mapping[str, str],
    columns: Sequence[str],
    roles: Mapping[str, str],
    names: Mapping[str, str],
) -> None:
    pairs = [f"{role} = {there}" for role, there in guessed.items()]
    pairs += [f"{here} = {there}" for there, here in guessed_names.items()]
    if pairs:
        notes.add(f"Columns taken by their names: {', '.join(pairs)}; --columns says otherwise")
    rest = [name for name in columns if name not in roles.values() and name not in names]
    if rest:
        notes.add(f"Columns left out: {', '.join(rest)}; --columns NAME={rest[0]} makes one a hyperparameter")


def _curves(path: str, rows: Sequence[Row], mapped: Mapped, target: Target, notes: Notes) -> pa.Table:
    table = _read(path, mapped)
    roles, guessed = assign(mapped, table.column_names, True, path)
    if problems := [_missing(role, table.column_names) for role in ("trial_id", "step") if role not in roles]:
        raise InputError(path, problems)
    if guessed:
        notes.add(f"Columns of the measurements taken by their names: {', '.join(map(' = '.join, guessed.items()))}")
    ids = pc.cast(table[roles["trial_id"]], pa.string())
    step = _whole_column(table[roles["step"]], "step", path)
    sizes = {row["trial_id"]: row["batch_size"] for row in rows}
    known = pc.is_in(ids, value_set=pa.array(list(sizes), pa.string()))
    if not pc.all(known).as_py():
        strangers = pc.unique(ids.filter(pc.invert(known))).to_pylist()
        some = ", ".join(map(str, strangers[:SHOWN]))
        raise InputError(path, [f"{len(strangers)} trials are not in the table of trials: {some}; add their rows"])
    place = pc.index_in(ids, value_set=pa.array(list(sizes), pa.string()))
    examples = pc.multiply(step, pa.array(list(sizes.values()), pa.int64()).take(place.combine_chunks()))
    columns = {"trial_id": ids, "step": step, "examples": examples}
    seconds = pa.array([0.0] * len(step)) if "seconds" not in roles else pc.cast(table[roles["seconds"]], pa.float64())
    columns["train_seconds"] = pc.fill_null(seconds, 0.0)
    free = [name for name in table.column_names if name not in roles.values()]
    numeric = [name for name in free if _is_number(table.schema.field(name).type)]
    if words := [name for name in free if name not in numeric]:
        notes.add(f"Columns of the measurements left out because they hold no numbers: {', '.join(words)}")
    metrics = {here: pc.cast(table[there], pa.float64()) for there, here in metric_names(numeric).items()}
    if target.metric not in metrics:
        known_metrics = ", ".join(metrics) or "none"
        raise InputError(path, [f"the target's metric '{target.metric}' is no column; the metrics are {known_metrics}"])
    return pa.table(columns | metrics)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _whole_column(values: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        whole = pc.cast(values, pa.int64())
    except pa.ArrowException as error:
        raise InputError(where, [f"'{name}' must hold whole numbers: {error}"]) from error
    if whole.null_count or pc.any(pc.less(whole, 0)).as_py():
        raise InputError(where, [f"'{name}' must hold whole numbers from 0 and no empty cells"])
    return whole


def _experiment(source: str, rows: Sequence[Row], target: Target, names: Mapping[str, str], unit: str) -> Experiment:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(source).stem).strip("-_")[:80] or "table"
    sizes = sorted({row["batch_size"] for row in rows})
    empty: Mapping[str, Any] = {}
    return Experiment.model_validate(
        {
            "name": name,
            "imported": {
                "format": FORMAT,
                "source": source,
                "spaces": dict.fromkeys(sizes, empty),
                "names": renamed(names),
            },
            "workload": {"name": name, "options": {}},
            "optimizer": "unknown",
            "batch_sizes": sizes,
            "target": target,
            "space": {},
            "budget": {"steps": max([1, *(row["max_steps"] or row["steps"] or 0 for row in rows)])},
            "search": {"protocol": "random", "stopping": "none"},
            "confirm": {"seeds": 0},
            "boundary": {"max_rounds": 0},
            "unit": unit,
        }
    )


__all__ = ["FORMAT", "import_table"]
