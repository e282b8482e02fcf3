"""Import of somebody's own tables: one row a trial, and where there are curves one row an evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange.hyperparameters import uniform
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes
from bcrit.analysis.exchange.names import hyperparameter_names, renamed
from bcrit.analysis.exchange.tables.curves import NULLS, TableCurves, trial_names
from bcrit.analysis.exchange.tables.mapping import Mapped, assign, hyperparameter_columns, missing_column
from bcrit.analysis.exchange.tables.rows import Row, find_repeats, trial_rows
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

FORMAT = "table"


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
    if problems := [missing_column(role, table.column_names) for role in needed if role not in roles]:
        raise InputError(trials, problems)
    chosen = hyperparameter_columns(mapped, table.column_names, list(roles.values()), trials)
    names = hyperparameter_names(chosen, {there: here for there, here in chosen.items() if here})
    _say(notes, guessed, names if mapped.hyperparameters is None else {}, table.column_names, roles, names)
    rows = trial_rows(table, roles, names, mapped, trials, with_curves=measurements is not None)
    find_repeats(rows, list(names.values()), notes)
    if measurements is None:
        lost = sum(row["steps_to_target"] is None and not row["steps"] and row["outcome"] is None for row in rows)
        rule = "Rows without steps to target that do not say how far they were trained: they bound nothing"
        notes.add(f"{rule}; a column max_steps would (--columns max_steps=COLUMN)", lost)
    counted: Counter[tuple[int, str]] = Counter()
    for row in rows:
        row["number"] = counted[row["batch_size"], row["stage"]]
        counted[row["batch_size"], row["stage"]] += 1
    curves = () if measurements is None else TableCurves(measurements, rows, mapped, target, notes)
    if "seconds" not in roles:
        notes.add("No column of seconds: they stand as 0, and time and cost are unknown")
    return ImportedRun(
        FORMAT, trials, _experiment(trials, rows, target, names, unit), lambda: uniform(rows), curves, notes
    )


def _read(path: str, mapped: Mapped) -> pa.Table:
    """The file, with trial names as the words that they are (00012 is not 12).

    Raises:
        InputError: it cannot be read.
    """
    try:
        if Path(path).suffix in (".parquet", ".pq"):
            return pq.read_table(path)
        words = dict.fromkeys(trial_names(path, mapped), pa.string())
        return arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=words, null_values=NULLS, strings_can_be_null=True),
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
