"""Import of somebody's own tables: one row a trial, and where there are curves one row an evaluation.

Which column is what the user says, or it is guessed from common names and said so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange.files import NULLS, is_parquet, open_batches, unreadable
from bcrit.analysis.exchange.run import (
    RANDOM_SEARCH,
    ImportedRun,
    Notes,
    Row,
    foreign_run,
    hyperparameter_names,
    metric_names,
    numbered,
    trial_row,
    uniform,
)
from bcrit.analysis.exchange.run import SPELLINGS as KNOWN_SPELLINGS
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

SHOWN = 5
"""Rows or names that one message quotes. Chosen, not studied."""
# Spellings that are recognised, in lower case. Chosen from what trackers and papers use, not studied.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "batch_size": ("batch_size", "bs", "train_batch_size", "global_batch_size", "batchsize", "batch"),
    "steps_to_target": ("steps_to_target", "steps_to_result", "steps_to_goal", "steps"),
    "trial_id": ("trial_id", "trial", "run_id", "run", "id"),
    "step": ("step", "steps", "global_step", "iteration", "iter"),
    "seed": ("seed", "random_seed", "rng_seed"),
    "outcome": ("outcome", "status", "state"),
    "max_steps": ("max_steps", "train_steps", "num_steps", "step_budget"),
    "seconds": ("train_seconds", "seconds", "train_time", "time_s"),
}
_TRIALS = ("batch_size", "steps_to_target", "trial_id", "seed", "outcome", "max_steps", "seconds")
_MEASUREMENTS = ("trial_id", "step", "seconds")
# Names of hyperparameters that are recognised beside lr and momentum. Chosen, not studied.
_HYPERPARAMETERS = KNOWN_SPELLINGS | {
    *("weight_decay", "wd", "beta1", "beta2", "beta_1", "beta_2", "eps", "epsilon", "nesterov", "optimizer"),
    *("schedule", "lr_schedule", "warmup", "warmup_steps", "warmup_fraction", "decay_fraction", "end_factor"),
    *("end_learning_rate_factor", "learning_rate_decay_steps", "label_smoothing", "dropout", "clip_norm", "grad_clip"),
}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_WORDS: Mapping[str, Outcome | None] = {
    **_OUTCOMES,
    **dict.fromkeys(("", "complete", "completed", "finished", "success", "ok", "done"), None),
    **dict.fromkeys(("infeasible", "nan", "diverge"), Outcome.DIVERGED),
    **dict.fromkeys(("fail", "error", "crashed", "incomplete", "killed"), Outcome.FAILED),
    **dict.fromkeys(("stopped", "early_stopped"), Outcome.PRUNED),
    **dict.fromkeys(("oom", "cuda out of memory"), Outcome.OUT_OF_MEMORY),
}


@dataclass(frozen=True)
class Mapped:
    """The user's wishes: column there by role here."""

    columns: Mapping[str, str] = field(default_factory=dict)  # of the roles in `SPELLINGS`
    hyperparameters: Mapping[str, str] | None = None  # name there by name here; None = guess
    # What the words in the outcome column mean; None = it ended by itself.
    outcomes: Mapping[str, Outcome | None] = field(default_factory=dict)


def read_mapping(text: str | None) -> Mapped:
    """Read the option --columns: `batch_size=bs,lr=learning_rate`, or a YAML file with the same keys; None = guess.

    A key that is no role is the name that a hyperparameter gets. `outcomes`, in a file only, says what words mean.
    """
    if text is None:
        return Mapped()
    if Path(text).suffix in (".yaml", ".yml"):
        try:
            content = read_yaml(Path(text).read_text(encoding="utf-8"), text)
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(text, error, what="the mapping") from error
        if not isinstance(content, dict):
            raise InputError(text, ["a mapping has one line a column, such as 'batch_size: bs'"])
    else:
        pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
        if wrong := [left for left, sign, right in pairs if not (left.strip() and sign and right.strip())]:
            rule = "it reads NAME=COLUMN,NAME=COLUMN or names a YAML file"
            raise InputError("--columns", [f"{rule}, but '{wrong[0]}' has no '=' with something on both sides"])
        content = {left.strip(): right.strip() for left, _, right in pairs}
    outcomes = content.pop("outcomes", {})
    named = content.pop("hyperparameters", None)
    if isinstance(named, list):
        named = {str(name): str(name) for name in named}
    if not isinstance(outcomes, dict) or not (named is None or isinstance(named, dict)):
        raise InputError("--columns", ["'outcomes' and 'hyperparameters' must be mappings"])
    extra = {str(name): str(there) for name, there in content.items() if name not in SPELLINGS}
    hyperparameters = None if named is None and not extra else {**(named or {}), **extra}
    columns = {name: str(there) for name, there in content.items() if name in SPELLINGS}
    for word in outcomes.values():
        if word not in (None, "complete", *_OUTCOMES):
            raise InputError("--columns", [f"there is no outcome '{word}'; they are complete, {', '.join(_OUTCOMES)}"])
    return Mapped(columns, hyperparameters, {str(k).lower(): _OUTCOMES.get(v) for k, v in outcomes.items()})


def assign(
    mapped: Mapped, columns: Sequence[str], roles: Sequence[str], where: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Give every role its column, as the user says or by the usual names: (column by role, those that were guessed)."""
    lower = {name.lower(): name for name in reversed(columns)}
    found, guessed = {}, {}
    for role in roles:
        told = mapped.columns.get(role)
        if told is not None and told in columns:
            found[role] = told
        elif told is None or (role in ("trial_id", "seconds")):
            spelled = next((lower[s] for s in SPELLINGS[role] if s in lower), None)
            if spelled is not None and spelled not in mapped.columns.values():
                found[role] = guessed[role] = spelled
        if told is not None and role not in found and role != "seconds":
            raise InputError(where, [f"there is no column '{told}' for '{role}'; the columns are {', '.join(columns)}"])
    return found, guessed


def _refuse_missing(needed: Sequence[str], roles: Mapping[str, str], columns: Sequence[str], where: str) -> None:
    if missing := [role for role in needed if role not in roles]:
        there = f"The columns are {', '.join(columns)}"
        named = [f"name it by --columns {r}=COLUMN, or as one of {', '.join(SPELLINGS[r])}. {there}" for r in missing]
        raise InputError(where, [f"a column '{r}' is needed; {how}" for r, how in zip(missing, named, strict=True)])


def import_table(
    trials: str, measurements: str | None, target: Target, mapped: Mapped, unit: str = "examples"
) -> ImportedRun:
    """Read a table of trials, CSV or Parquet by its ending, and perhaps a table of their measurements.

    Rows with the same batch size and hyperparameters and different seeds are repeats of one point: their median is the
    study's number. Without `measurements`, `trials` has the steps to target. Everything that is missing or cannot be
    read is listed in one message.
    """
    notes = Notes()
    table = _read(trials, mapped)
    columns = table.column_names
    roles, guessed = assign(mapped, columns, _TRIALS, trials)
    _refuse_missing(["batch_size", "steps_to_target" if measurements is None else "trial_id"], roles, columns, trials)
    if mapped.hyperparameters is None:
        chosen = [n for n in columns if n not in roles.values() and n.lower() in _HYPERPARAMETERS]
        names = hyperparameter_names(chosen)
        guessed |= {here: there for there, here in names.items()}
    else:
        if missing := [there for there in mapped.hyperparameters.values() if there not in columns]:
            raise InputError(trials, [f"there is no column '{missing[0]}'; the columns are {', '.join(columns)}"])
        given = {there: here for here, there in mapped.hyperparameters.items()}
        names = hyperparameter_names(given, {there: here for there, here in given.items() if here})
    if guessed:
        pairs = ", ".join(f"{here} = {there}" for here, there in guessed.items())
        notes.add(f"Columns taken by their names: {pairs}; --columns says otherwise")
    if rest := [name for name in columns if name not in roles.values() and name not in names]:
        notes.add(f"Columns left out: {', '.join(rest)}; --columns NAME={rest[0]} makes one a hyperparameter")
    rows = trial_rows(table, roles, names, mapped, trials, with_curves=measurements is not None)
    find_repeats(rows, list(names.values()), notes)
    if measurements is None:
        lost = sum(row["steps_to_target"] is None and not row["steps"] and row["outcome"] is None for row in rows)
        rule = "Rows without steps to target that do not say how far they were trained: they bound nothing"
        notes.add(f"{rule}; a column max_steps would (--columns max_steps=COLUMN)", lost)
    numbered(rows)
    curves = () if measurements is None else TableCurves(measurements, rows, mapped, target, notes)
    if "seconds" not in roles:
        notes.add("No column of seconds: they stand as 0, and time and cost are unknown")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(trials).stem).strip("-_")[:80] or "table"
    experiment: Row = {"name": name, "workload": name, "optimizer": "unknown", "space": {}, **RANDOM_SEARCH}
    experiment["spaces"] = dict.fromkeys(sorted({row["batch_size"] for row in rows}), {})
    experiment["steps"] = [row["max_steps"] or row["steps"] for row in rows]
    experiment |= {"target": target, "unit": unit}
    return foreign_run("table", trials, notes, lambda: uniform(rows), curves, names, **experiment)


def _read(path: str, mapped: Mapped) -> pa.Table:
    """The file, with trial names as the words that they are (00012 is not 12)."""
    try:
        if is_parquet(path):
            return pq.read_table(path)
        convert = _options(dict.fromkeys(trial_names(path, mapped), pa.string()), [])
        return arrow_csv.read_csv(path, None, arrow_csv.ParseOptions(newlines_in_values=True), convert)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise unreadable(path, error, what="the table") from error


def trial_names(path: str, mapped: Mapped) -> list[str]:
    """The columns of a CSV that may hold names of trials, which are words; Parquet tells its types."""
    if is_parquet(path):
        return []
    named = mapped.columns.get("trial_id")
    with open(path, "rb") as file:
        header = file.readline().decode("utf-8-sig").strip().split(",")
    columns = [name.strip().strip('"') for name in header]
    return [name for name in columns if name == named or name.lower() in SPELLINGS["trial_id"]]


def _options(types: Mapping[str, pa.DataType], columns: Sequence[str]) -> arrow_csv.ConvertOptions:
    """How cells are read; no columns = all."""
    return arrow_csv.ConvertOptions(
        column_types=types, include_columns=columns, null_values=NULLS, strings_can_be_null=True
    )


def trial_rows(
    table: pa.Table, roles: Mapping[str, str], names: Mapping[str, str], mapped: Mapped, where: str, with_curves: bool
) -> list[Row]:
    """Rows of the trials table, not yet numbered; every problem is listed with the rows that have it.

    `names` are hyperparameters here by column there. Seeds that the table does not tell are empty (`find_repeats`).
    """
    problems: dict[str, list[int]] = {}
    words = {**_WORDS, **mapped.outcomes}
    rows = []
    for place, given in enumerate(table.to_pylist()):
        told = {role: given[there] for role, there in roles.items()}
        line = place + 2 if Path(where).suffix == ".csv" else place + 1
        try:
            rows.append(_row(told, {here: given[there] for there, here in names.items()}, place, words, with_curves))
        except (ValueError, KeyError) as error:
            problems.setdefault(str(error.args[0]), []).append(line)
    twice = [name for name, count in Counter(row["trial_id"] for row in rows).items() if count > 1][:SHOWN]
    if twice:
        problems[f"trials must have different names, but {', '.join(twice)} stand more than once"] = []
    if not table.num_rows:
        problems["it has no row"] = []
    if problems:
        raise InputError(where, [_at(problem, lines) for problem, lines in problems.items()])
    return rows


def _at(problem: str, lines: Sequence[int]) -> str:
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"{problem} (row {', '.join(map(str, lines[:SHOWN]))}{more})" if lines else problem


def _row(told: Mapping[str, Any], point: Row, place: int, words: Mapping[str, Any], with_curves: bool) -> Row:
    batch_size = _whole(told["batch_size"], "batch_size")
    if batch_size is None or batch_size < 1:
        raise ValueError("'batch_size' must be a whole number from 1")
    word = str("" if told.get("outcome") is None else told["outcome"]).strip().lower()
    if word not in words:
        known = f"'{told['outcome']}' is no known outcome; say in the YAML file of --columns what it means, "
        raise ValueError(known + f"outcomes: {{{told['outcome']}: diverged}}")
    outcome = words[word]
    steps = None if with_curves else _whole(told.get("steps_to_target"), "steps_to_target")
    if steps == 0:
        raise ValueError("'steps_to_target' must be at least 1, or an empty cell for a trial that did not reach")
    max_steps = _whole(told.get("max_steps"), "max_steps")
    trial_id = told.get("trial_id")
    return trial_row(
        f"{batch_size}/{place}" if trial_id is None else str(trial_id),
        batch_size,
        seed=_whole(told.get("seed"), "seed"),
        # Reached and exhausted are what the steps say; a table may contradict itself there.
        outcome=None if outcome in (None, Outcome.REACHED, Outcome.EXHAUSTED) else outcome.value,
        max_steps=max_steps,
        steps=steps if steps is not None or with_curves else max_steps,
        steps_to_target=steps,
        train_seconds=_seconds(told.get("seconds")),
        **{name: None if isinstance(v, float) and math.isnan(v) else v for name, v in point.items()},
    )


def _whole(value: Any, name: str) -> int | None:
    """A count; None for an empty, NaN or infinite cell: not reached, not known."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan", "inf", "none")):
        return None
    number = float(value)
    if math.isnan(number) or number == math.inf:
        return None
    if number < 0 or number != int(number):
        raise ValueError(f"'{name}' must be a whole number, but it is {value}")
    return int(number)


def _seconds(value: Any) -> float:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) and number >= 0 else 0.0


def find_repeats(rows: Sequence[Row], names: Sequence[str], notes: Notes) -> None:
    """Mark rows of one point as its repeats, in place: stage `confirm`, named by the first of them.

    Their median over seeds is the point's number, as in `bcrit fit`; as a search, the smallest would be taken. A seed
    that the table does not tell becomes the row's place among those of its point.
    """
    points: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        points.setdefault((row["batch_size"], *(row[name] for name in names)), []).append(row)
    repeated = [group for group in points.values() if len(group) > 1]
    alike = sum(len({row["seed"] for row in group}) < len(group) for group in repeated)
    for group in points.values():
        for place, row in enumerate(group):
            row["seed"] = place if row["seed"] is None else row["seed"]
            if len(group) > 1:
                row |= {"stage": Stage.CONFIRM.value, "repeats": group[0]["trial_id"]}
    notes.add("Points with several seeds: the median over seeds is their number", len(repeated) - alike)
    notes.add(
        "Points with several rows that no seed tells apart: they are read as repeats, whose median is their number; "
        "--columns NAME=COLUMN names a seed or a hyperparameter that tells them apart",
        alike,
    )


class TableCurves:
    """Iterates over tables of measurements of whole trials, from a file that is read twice: first to check it whole.

    Where the rows of each trial stand together the memory is that of some hundred thousand rows; where trials
    interleave the table is held whole.
    """

    def __init__(self, path: str, rows: Sequence[Row], mapped: Mapped, target: Target, notes: Notes) -> None:
        """Check every row of a CSV or Parquet file; what the columns of a CSV hold is told by its first 8 MB."""
        self._path = path
        self._sizes = {row["trial_id"]: row["batch_size"] for row in rows}
        try:
            words = dict.fromkeys(trial_names(path, mapped), pa.string())
            schema, _ = open_batches(Path(path), _options(words, []))
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise unreadable(path, error, what="the table") from error
        self._roles, guessed = assign(mapped, schema.names, _MEASUREMENTS, path)
        _refuse_missing(("trial_id", "step"), self._roles, schema.names, path)
        if guessed:
            pairs = ", ".join(map(" = ".join, guessed.items()))
            notes.add(f"Columns of the measurements taken by their names: {pairs}")
        free = [name for name in schema.names if name not in self._roles.values()]
        kinds = {name: schema.field(name).type for name in free}
        numeric = [n for n, kind in kinds.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)]
        if left := [name for name in free if name not in numeric]:
            notes.add(f"Columns of the measurements left out because they hold no numbers: {', '.join(left)}")
        self._metrics = metric_names(numeric)
        if target.metric not in self._metrics.values():
            known = ", ".join(self._metrics.values()) or "none"
            raise InputError(path, [f"the target's metric '{target.metric}' is no column; the metrics are {known}"])
        self._together = self._survey()

    def __iter__(self) -> Iterator[pa.Table]:
        """Read whole trials: columns of the measurements table, then the metrics."""
        if not self._together:
            yield pa.concat_tables(self._tables())
            return
        held: list[pa.Table] = []  # rows of the last trial, which may go on
        for data in self._tables():
            ids = data["trial_id"]
            others = np.flatnonzero(pc.not_equal(ids, ids[-1]).to_numpy())
            begin = int(others[-1]) + 1 if len(others) else 0
            goes_on = bool(held) and held[0]["trial_id"][0].as_py() == ids[0].as_py()
            if begin or (held and not goes_on):
                yield pa.concat_tables([*held, data.slice(0, begin)])
                held = []
            held.append(data.slice(begin))
        if held:
            yield pa.concat_tables(held)

    def _survey(self) -> bool:
        """Check every row, and tell whether the rows of each trial stand together."""
        strangers: dict[str, None] = {}
        finished, together, last = set[str](), True, None
        for data in self._tables():
            ids = data["trial_id"].combine_chunks().dictionary_encode()
            names, code = ids.dictionary.to_pylist(), ids.indices.to_numpy()
            strangers |= dict.fromkeys(name for name in names if name not in self._sizes)
            for place in np.flatnonzero(np.diff(code, prepend=-1)):
                name = names[code[place]]
                if name != last:
                    together &= name not in finished
                    finished.add(name)
                last = name
        if strangers:
            some = ", ".join(list(strangers)[:SHOWN])
            rule = f"{len(strangers)} trials are not in the table of trials"
            raise InputError(self._path, [f"{rule}: {some}; add their rows"])
        return together

    def _tables(self) -> Iterator[pa.Table]:
        """At least one row at a time as they come, in our columns."""
        there = [*self._roles.values(), *self._metrics]
        types = dict.fromkeys(there, pa.float64()) | {self._roles["trial_id"]: pa.string()}
        try:
            _, batches = open_batches(Path(self._path), _options(types, there))
            for batch in batches:
                if batch.num_rows:
                    yield self._ours(batch)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(self._path, error, what="the table") from error

    def _ours(self, batch: pa.RecordBatch) -> pa.Table:
        ids = pc.fill_null(pc.cast(batch.column(self._roles["trial_id"]), pa.string()), "")
        try:
            step = pc.cast(batch.column(self._roles["step"]), pa.int64())
        except pa.ArrowException as error:
            raise InputError(self._path, [f"'step' must hold whole numbers: {error}"]) from error
        if step.null_count or pc.any(pc.less(step, 0)).as_py():
            raise InputError(self._path, ["'step' must hold whole numbers from 0 and no empty cells"])
        place = pc.index_in(ids, value_set=pa.array(list(self._sizes), pa.string()))
        sizes = pa.array(list(self._sizes.values()), pa.int64()).take(place)
        seconds = pa.array(np.zeros(len(step)))
        if "seconds" in self._roles:
            seconds = pc.fill_null(pc.cast(batch.column(self._roles["seconds"]), pa.float64()), 0.0)
        columns = {"trial_id": ids, "step": step, "examples": pc.multiply(step, sizes), "train_seconds": seconds}
        metrics = {ours: pc.cast(batch.column(name), pa.float64()) for name, ours in self._metrics.items()}
        return pa.table(columns | metrics)
