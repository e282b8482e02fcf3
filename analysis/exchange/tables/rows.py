"""The rows of somebody's table of trials as rows of ours, with every problem in one message."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bcrit.analysis.exchange.imported_run import Notes, imported_trial
from bcrit.analysis.exchange.tables.mapping import Mapped, outcome_of
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError

SHOWN = 5
"""Rows or names that one message quotes. Chosen, not studied."""

Row = dict[str, Any]


def trial_rows(
    table: pa.Table, roles: Mapping[str, str], names: Mapping[str, str], mapped: Mapped, where: str, with_curves: bool
) -> list[Row]:
    """Read every row of a table of trials.

    Args:
        table: one row a trial.
        roles: column there by role here.
        names: hyperparameter here by column there.
        mapped: what the user said, for the words of outcomes.
        where: the table's name, for messages.
        with_curves: whether the steps to target come from curves.

    Returns:
        Rows of the trials table, not yet numbered; seeds that the table does not tell are empty (`find_repeats`).

    Raises:
        InputError: lists every problem with the rows that have it.
    """
    problems: dict[str, list[int]] = {}
    rows = []
    for place, given in enumerate(table.to_pylist()):
        told = {role: given[there] for role, there in roles.items()}
        line = place + 2 if Path(where).suffix == ".csv" else place + 1
        try:
            rows.append(_row(told, {here: given[there] for there, here in names.items()}, place, mapped, with_curves))
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


def _row(told: Mapping[str, Any], point: Row, place: int, mapped: Mapped, with_curves: bool) -> Row:
    batch_size = _whole(told["batch_size"], "batch_size")
    if batch_size is None or batch_size < 1:
        raise ValueError("'batch_size' must be a whole number from 1")
    try:
        outcome = outcome_of(None if told.get("outcome") is None else str(told["outcome"]), mapped)
    except KeyError:
        words = f"'{told['outcome']}' is no known outcome; say in the YAML file of --columns what it means, "
        raise ValueError(words + f"outcomes: {{{told['outcome']}: diverged}}") from None
    steps = None if with_curves else _whole(told.get("steps_to_target"), "steps_to_target")
    if steps == 0:
        raise ValueError("'steps_to_target' must be at least 1, or an empty cell for a trial that did not reach")
    max_steps = _whole(told.get("max_steps"), "max_steps")
    trial_id = told.get("trial_id")
    return imported_trial(
        f"{batch_size}/{place}" if trial_id is None else str(trial_id),
        batch_size,
        0,
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
    """A count; None for an empty, NaN or infinite cell: not reached, not known.

    Raises:
        ValueError: it is another number, or none.
    """
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
    """Mark rows of one point as its repeats: stage `confirm`, named by the first of them.

    Their median over seeds is the point's number, as in `bcrit fit`; as a search, the smallest would be taken.

    Args:
        rows: changed in place; a seed that the table does not tell becomes the row's place among those of its point.
        names: the hyperparameters.
        notes: receives how many there are.
    """
    points: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        points.setdefault((row["batch_size"], *(row[name] for name in names)), []).append(row)
    repeated = [group for group in points.values() if len(group) > 1]
    alike = sum(len({row["seed"] for row in group}) < len(group) for group in repeated)
    for group in points.values():
        for place, row in enumerate(group):
            row["seed"] = place if row["seed"] is None else row["seed"]
    for group in repeated:
        for row in group:
            row |= {"stage": Stage.CONFIRM.value, "repeats": group[0]["trial_id"]}
    notes.add("Points with several seeds: the median over seeds is their number", len(repeated) - alike)
    notes.add(
        "Points with several rows that no seed tells apart: they are read as repeats, whose median is their number; "
        "--columns NAME=COLUMN names a seed or a hyperparameter that tells them apart",
        alike,
    )


__all__ = ["SHOWN", "Row", "find_repeats", "trial_rows"]
