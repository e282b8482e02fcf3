"""Import of somebody's own tables: one row a trial, and where there are curves one row an evaluation.

Which column is what the user says, or it is guessed from common names and said so.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange import Goal, Unit
from bcrit.analysis.exchange import run as foreign
from bcrit.analysis.exchange.columns import (
    MEASUREMENT_ROLES,
    OUTCOMES,
    TRIAL_ROLES,
    Mapped,
    assign,
    read_mapping,
    settings_among,
    trial_names,
)
from bcrit.analysis.exchange.files import NULLS, open_batches, readable
from bcrit.analysis.records.number_table import found_column
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Target

_UNREAD = "the table cannot be read"
LARGEST_COUNT = 1e12  # of a batch, of steps; as in the schema of an experiment
SHOWN = 5  # rows or names that one message quotes. Chosen, not studied.
_WORDS: Mapping[str, Outcome | None] = {
    **OUTCOMES,
    **dict.fromkeys(("", "complete", "completed", "finished", "success", "ok", "done"), None),
    **dict.fromkeys(("infeasible", "nan", "diverge"), Outcome.DIVERGED),
    **dict.fromkeys(("fail", "error", "crashed", "incomplete", "killed"), Outcome.FAILED),
    **dict.fromkeys(("stopped", "early_stopped"), Outcome.PRUNED),
    **dict.fromkeys(("oom", "cuda out of memory"), Outcome.OUT_OF_MEMORY),
}


def import_table(
    trials: Annotated[str, "CSV or Parquet file, one row a trial."],
    target: Goal,
    measurements: Annotated[str | None, "CSV or Parquet file, one row an evaluation: trial_id, step, metrics."] = None,
    columns: Annotated[
        str | None, "'batch_size=bs,lr=learning_rate,...', or a YAML file. Default: by usual names."
    ] = None,
    unit: Unit = "examples",
) -> foreign.ImportedRun:
    """Import your own tables: trials with their steps to target, or trials and their measurements.

    Needed: batch_size, and steps_to_target (empty = not reached) or the second table. Further columns: trial_id, seed,
    outcome, max_steps, seconds. Any other NAME=COLUMN is a hyperparameter.
    """
    notes, mapped = foreign.Notes(), read_mapping(columns)
    with readable(trials, _UNREAD):
        schema, batches = open_batches(Path(trials), _options(trial_names(trials, mapped)))
        table = pa.Table.from_batches(batches, schema)
    there = table.column_names
    needed = ["batch_size", "steps_to_target" if measurements is None else "trial_id"]
    roles, guessed = assign(mapped, there, TRIAL_ROLES, needed, trials)
    if mapped.hyperparameters is None:
        names = settings_among(name for name in there if name not in roles.values())
        guessed |= {here: name for name, here in names.items()}
    else:
        given = {found_column(name, there) or name: here for here, name in mapped.hyperparameters.items()}
        if missing := [name for name in given if name not in there]:
            raise InputError(trials, [f"there is no column '{missing[0]}'; the columns are {', '.join(there)}"])
        names = foreign.hyperparameter_names(given, {name: here for name, here in given.items() if here})
    if guessed:
        pairs = ", ".join(f"{here} = {name}" for here, name in guessed.items())
        notes.add(f"Columns taken by their names: {pairs}; --columns says otherwise")
    if rest := [name for name in there if name not in roles.values() and name not in names]:
        notes.add(f"Columns left out: {', '.join(rest)}; --columns NAME={rest[0]} makes one a hyperparameter")
    rows = _trial_rows(table, roles, names, mapped, trials, with_curves=measurements is not None)
    find_repeats(rows, list(names.values()), notes)
    if measurements is None:
        lost = sum(row["steps_to_target"] is None and not row["steps"] and row["outcome"] is None for row in rows)
        rule = "Rows without steps to target that do not say how far they were trained: they bound nothing"
        notes.add(f"{rule}; a column max_steps would (--columns max_steps=COLUMN)", lost)
    curves: Callable[[], Iterable[pa.Table]] = tuple
    if measurements is not None:
        sizes = {row["trial_id"]: row["batch_size"] for row in rows}
        curves, heard = table_curves(measurements, sizes, mapped, target, notes)
        # When these reached the target is not known, so that they bound nothing.
        without = [row["trial_id"] for row in rows if row["outcome"] is None and row["trial_id"] not in heard]
        notes.among(f"Trials that never reported '{target.metric}' were left out", without)
        rows = [row for row in rows if row["trial_id"] not in set(without)]
        if not rows:
            raise InputError(measurements, [f"no trial reported the target's metric '{target.metric}'"])
    if "seconds" not in roles:
        notes.add("No column of seconds: they stand as 0, and time and cost are unknown")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(trials).stem).strip("-_")[:80] or "table"
    experiment: foreign.Row = {
        "name": name,
        "workload": name,
        "optimizer": "unknown",
        "space": {},
        **foreign.RANDOM_SEARCH,
    }
    sizes_left = sorted({row["batch_size"] for row in rows})
    experiment |= {"spaces": dict.fromkeys(sizes_left, {}), "target": target, "unit": unit}
    return foreign.foreign_run("table", trials, notes, rows, curves, names, **experiment)


def _options(words: Sequence[str], numbers: Sequence[str] = ()) -> arrow_csv.ConvertOptions:
    """How the cells of a CSV are read; where numbers are named, only these columns and the words."""
    types = {**dict.fromkeys(numbers, pa.float64()), **dict.fromkeys(words, pa.string())}
    columns = [*words, *numbers] if numbers else []
    return arrow_csv.ConvertOptions(
        column_types=types, include_columns=columns, null_values=NULLS, strings_can_be_null=True
    )


def _trial_rows(
    table: pa.Table, roles: Mapping[str, str], names: Mapping[str, str], mapped: Mapped, where: str, with_curves: bool
) -> list[foreign.Row]:
    """Rows of the trials table; every problem is listed with the rows that have it.

    `names` are hyperparameters here by column there. Seeds that the table does not tell are empty (`find_repeats`).
    """
    problems: dict[str, list[int]] = {}
    words = {**_WORDS, **mapped.outcomes}
    rows = []
    for place, given in enumerate(table.to_pylist()):
        told = {role: given[there] for role, there in roles.items()}
        try:
            rows.append(_row(told, {here: given[there] for there, here in names.items()}, place, words, with_curves))
        except ValueError as error:
            problems.setdefault(str(error), []).append(place + 1 + (Path(where).suffix == ".csv"))
    twice = [name for name, count in Counter(row["trial_id"] for row in rows).items() if count > 1][:SHOWN]
    if twice:
        problems[f"trials must have different names, but {', '.join(twice)} stand more than once"] = []
    if not table.num_rows:
        problems["it has no row"] = []
    if problems:
        found = []
        for problem, lines in problems.items():
            more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
            found.append(f"{problem} (row {', '.join(map(str, lines[:SHOWN]))}{more})" if lines else problem)
        raise InputError(where, found)
    return rows


def _row(
    told: Mapping[str, Any], point: foreign.Row, place: int, words: Mapping[str, Any], with_curves: bool
) -> foreign.Row:
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
    trial_id, seconds = told.get("trial_id"), in_seconds(told.get("seconds"))
    if batch_size * max(steps or 0, max_steps or 0) >= 2**63:
        raise ValueError("batch size times steps must be below 2^63")
    return foreign.trial_row(
        f"{batch_size}/{place}" if trial_id is None else str(trial_id).strip(),
        batch_size,
        seed=_whole(told.get("seed"), "seed", 2**63),
        # Reached and exhausted are what the steps say; a table may contradict itself there.
        outcome=None if outcome in (None, Outcome.REACHED, Outcome.EXHAUSTED) else outcome.value,
        max_steps=max_steps,
        steps=steps if steps is not None or with_curves else max_steps,
        steps_to_target=steps,
        train_seconds=seconds if math.isfinite(seconds) and seconds >= 0 else 0.0,
        **{name: _setting(value) for name, value in point.items()},
    )


def _whole(value: Any, name: str, limit: float = LARGEST_COUNT) -> int | None:
    """A count; None for an empty, NaN or infinite cell: not reached, not known."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan", "inf", "none")):
        return None
    try:
        number = value if type(value) is int else float(str(value))
        if number != number or number == math.inf:
            return None
        whole = int(number)
    except (ValueError, OverflowError):
        whole, number = -1, 0
    if whole != number or not 0 <= whole < limit:
        raise ValueError(f"'{name}' must be a whole number below {limit:g}, but it is {value}")
    return whole


def _setting(value: Any) -> Value | None:
    """A hyperparameter's value; what tables cannot hold as a number is a word, NaN is none."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def in_seconds(value: Any) -> float:
    """A time: a number of seconds, a duration, or one in words such as `0:01:30` or `2 days 03:00:00`; NaN if empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return float(pd.to_timedelta(str(value)).total_seconds())
    except (ValueError, OverflowError) as error:
        rule = "'seconds' must be a number of seconds or a duration such as 0:01:30"
        raise ValueError(f"{rule}, but it is {value}") from error


def find_repeats(rows: Sequence[foreign.Row], names: Sequence[str], notes: foreign.Notes) -> None:
    """Mark rows of one point as its repeats, in place: stage `confirm`, named by the first of them.

    Their median over seeds is the point's number, as in `bcrit fit`; as a search, the smallest would be taken. A seed
    that the table does not tell becomes the row's place among those of its point.
    """
    points: dict[tuple[Any, ...], list[foreign.Row]] = {}
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


Pieces = Callable[[], Iterator[pa.Table]]
"""Reads a table anew, piece by piece."""


def table_curves(
    path: str, sizes: Mapping[str, int], mapped: Mapped, target: Target, notes: foreign.Notes
) -> tuple[Pieces, Collection[str]]:
    """Measurements of whole trials from a CSV or Parquet file, every row of which is checked before.

    They are those of the trials that reported the target's metric, which are returned too.

    `sizes` are the batch sizes of the trials. What the columns of a CSV hold is told by its first 8 MB. Where the rows
    of each trial stand together the memory is that of some hundred thousand rows; where trials interleave the table is
    held whole.
    """
    with readable(path, _UNREAD):
        schema, _ = open_batches(Path(path), _options(trial_names(path, mapped)))
    roles, guessed = assign(mapped, schema.names, MEASUREMENT_ROLES, ("trial_id", "step"), path)
    if guessed:
        notes.add(f"Columns of the measurements taken by their names: {', '.join(map(' = '.join, guessed.items()))}")
    free = [column for column in schema if column.name not in roles.values()]
    aim = found_column(target.metric, [column.name for column in free])  # may stand empty for long
    numeric = [f.name for f in free if _is_number(f.type) or (f.name == aim and pa.types.is_null(f.type))]
    if left := [column.name for column in free if column.name not in numeric]:
        notes.add(f"Columns of the measurements left out because they hold no numbers: {', '.join(left)}")
    metrics = foreign.metric_names(numeric)
    if aim in metrics and target.metric not in MEASUREMENTS.names:
        metrics[aim] = target.metric
    if target.metric not in metrics.values():
        known = ", ".join(metrics.values()) or "none"
        raise InputError(path, [f"the target's metric '{target.metric}' is no column; the metrics are {known}"])
    timed = "seconds" in roles and not _is_number(schema.field(roles["seconds"]).type)
    pieces = partial(_pieces, path, roles, metrics, sizes, [roles["seconds"]] if timed else [])
    strangers, finished, heard, last, together = dict[str, None](), set[str](), set[str](), None, True
    for data in pieces():
        reported = pc.is_valid(pc.if_else(pc.is_nan(data[target.metric]), None, data[target.metric]))
        heard.update(pc.unique(data["trial_id"].filter(reported)).to_pylist())
        ids = data["trial_id"].to_pandas()
        for name in ids[ids != ids.shift()]:
            if name not in sizes:
                strangers[name] = None
            if name != last:
                together &= name not in finished
                finished.add(name)
            last = name
    if strangers:
        rule = f"{len(strangers)} trials are not in the table of trials"
        raise InputError(path, [f"{rule}: {', '.join(list(strangers)[:SHOWN])}; add their rows"])
    return partial(_whole_trials, pieces, together, heard), heard


def _pieces(
    path: str, roles: Mapping[str, str], metrics: Mapping[str, str], sizes: Mapping[str, int], durations: Sequence[str]
) -> Iterator[pa.Table]:
    """At least one row at a time as they come, in our columns; `durations` hold times in words."""
    name, batch_size = roles["trial_id"], pa.array(list(sizes.values()), pa.int64())
    with readable(path, _UNREAD):
        numbers = [column for column in (*roles.values(), *metrics) if column not in (name, *durations)]
        for batch in open_batches(Path(path), _options([name, *durations], numbers))[1]:
            if not batch.num_rows:
                continue
            ids = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(batch.column(name), pa.string()), ""))
            try:
                step = pc.cast(batch.column(roles["step"]), pa.int64())
            except pa.ArrowException as error:
                raise InputError(path, [f"'step' must hold whole numbers: {error}"]) from error
            if step.null_count or pc.any(pc.less(step, 0)).as_py():
                raise InputError(path, ["'step' must hold whole numbers from 0 and no empty cells"])
            examples = pc.multiply_checked(
                step, batch_size.take(pc.index_in(ids, value_set=pa.array(list(sizes), pa.string())))
            )
            seconds = pa.array(np.zeros(len(step)))
            if "seconds" in roles:
                told = batch.column(roles["seconds"])
                if durations:
                    told = pa.array([in_seconds(value) for value in told.to_pylist()], pa.float64())
                seconds = pc.fill_null(pc.cast(told, pa.float64()), 0.0)
            columns = {"trial_id": ids, "step": step, "examples": examples, "train_seconds": seconds}
            yield pa.table(columns | {here: pc.cast(batch.column(n), pa.float64()) for n, here in metrics.items()})


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _whole_trials(pieces: Pieces, together: bool, wanted: Collection[str]) -> Iterator[pa.Table]:
    """The rows of whole trials at a time, where each trial's stand together; else all at once."""
    held: list[pa.Table] = []  # of the last trial, which may go on
    known = pa.array(wanted, pa.string())
    for every in pieces():
        data = every.filter(pc.is_in(every["trial_id"], value_set=known))
        if not data.num_rows:
            continue
        ids = data["trial_id"]
        others = np.flatnonzero(pc.not_equal(ids, ids[-1]).to_numpy())
        begin = int(others[-1]) + 1 if together and len(others) else 0
        if begin or (held and together and held[0]["trial_id"][0] != ids[0]):
            yield pa.concat_tables([*held, data.slice(0, begin)])
            held = []
        held.append(data.slice(begin))
    if held:
        yield pa.concat_tables(held)
