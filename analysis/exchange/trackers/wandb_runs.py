"""A table of Weights & Biases runs: what each was set to, how it ended, and the last values that it logged."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.text_files import metrics, read_cells, table_of_rows
from bcrit.analysis.exchange.trackers.run import SECONDS, LoggedRun, flat
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError

# What the client logs by itself, beside `_step`, which counts the calls of `log`.
RUNTIME, TIMESTAMP = "_runtime", "_timestamp"
# Columns of the project page's table that are no settings and no results.
_PAGE = set(
    "Name|State|Notes|User|Tags|Created|Runtime|Sweep|ID|Group|Job Type|Updated|Hostname|Description|Commit|GitHub|"
    "End Time|Author|Entity|Project".split("|")
)
# W&B's words (docs: "Run states"): crashed = no more signs of life, failed = non-zero exit status.
_OUTCOMES = {
    "crashed": Outcome.FAILED,
    "failed": Outcome.FAILED,
    "killed": Outcome.PRUNED,
    "preempted": Outcome.PRUNED,
}
_LONGEST_CELL = 1_000_000  # characters of a configuration that is parsed; chosen


@dataclass(frozen=True)
class TableRun:
    """A row of the table.

    Attributes:
        run: without a history: its log holds the last values only.
        keys: what a history may call it: its name, its id.
    """

    run: LoggedRun
    keys: tuple[str, ...]


def read_runs_table(path: Path, notes: Notes) -> list[TableRun]:
    """Read a table of runs.

    Args:
        path: CSV with the columns `config`, `summary` and `name` (dictionaries in Python's or JSON's spelling), or of
            the project's page (`Name`, `State`, then settings and results).
        notes: for what is left out.

    Returns:
        The runs in the order of the table, with different names.

    Raises:
        InputError: it is neither, or a configuration in it cannot be read.
    """
    cells = read_cells(path)
    if cells.empty:
        raise InputError(str(path), ["there is no run in it"])
    if "config" in cells and "name" in {str(name).lower() for name in cells}:
        found = [_from_dicts(row, f"{path}, row {i + 2}", notes) for i, row in enumerate(cells.to_dict("records"))]
    elif "Name" in cells:
        found = [_from_page(row) for row in cells.to_dict("records")]
    else:
        there = ", ".join(map(str, cells.columns[:20]))
        wanted = "a table of runs has the columns 'config' and 'name', or that of a project's page 'Name'"
        raise InputError(str(path), [f"{wanted}, but the columns are {there}"])
    return _different_names(found)


def _different_names(runs: list[TableRun]) -> list[TableRun]:
    """W&B lets runs share a name; later ones get a number here, and are known by their id only."""
    seen, times, found = Counter[str](), Counter(row.run.name for row in runs), []
    for row in runs:
        name = row.run.name
        seen[name] += 1
        if times[name] > 1:
            keys = tuple(key for key in row.keys if key != name)
            row = TableRun(replace(row.run, name=f"{name} #{seen[name]}"), keys)
        found.append(row)
    return found


def _from_dicts(row: Mapping[Any, Any], where: str, notes: Notes) -> TableRun:
    row = {str(name).lower(): value for name, value in row.items()}
    config = _mapping(row.get("config"))
    if config is None:
        raise InputError(where, ["'config' is not a dictionary of names and values"])
    summary = _mapping(row.get("summary") or "{}")
    notes.add("Summaries that cannot be read were passed over", int(summary is None), where)
    name, identity = str(row.get("name") or where), row.get("id") or row.get("run_id")
    settings = {n: v for n, v in flat(config).items() if not n.startswith("_")}
    return _table_run(name, identity, settings, flat(summary or {}), row.get("state"))


def _from_page(row: Mapping[Any, Any]) -> TableRun:
    # Settings and results stand side by side here; what a history holds is taken out of the settings later.
    values = {str(name): _number(value) for name, value in row.items() if name not in _PAGE}
    log = {**values, RUNTIME: _number(row.get("Runtime"))}
    settings = {name: value for name, value in values.items() if not name.startswith("_")}
    return _table_run(str(row.get("Name")), row.get("ID"), settings, log, row.get("State"))


def _table_run(name: str, identity: Any, settings: dict[str, Any], last: dict[str, Any], state: Any) -> TableRun:
    outcome, message = ending_of(state)
    log, broken = tracked(table_of_rows([last]))
    run = LoggedRun(name, settings, log, broken, outcome, message, *times(last))
    return TableRun(run, tuple(str(key) for key in (name, identity) if key))


def ending_of(state: Any) -> tuple[Outcome | None, str | None]:
    """What a state in W&B's words says of a run: (outcome, message)."""
    word = str(state or "").strip().lower()
    if word == "running":
        return None, "still running when it was exported"
    outcome = _OUTCOMES.get(word)
    return outcome, None if outcome is None else f"Weights & Biases calls it {word}"


def times(last: Mapping[str, Any]) -> tuple[float, float]:
    """When a run began and ended, from the last values of what the client logs by itself; zeros where it is unknown."""
    stamp, runtime = (_number(last.get(name)) for name in (TIMESTAMP, RUNTIME))
    if not isinstance(stamp, int | float):
        return 0.0, 0.0
    return float(stamp - (runtime if isinstance(runtime, int | float) else 0.0)), float(stamp)


def tracked(cells: pd.DataFrame) -> tuple[pd.DataFrame, frozenset[str]]:
    """What was logged as metrics: the run time under our name, the client's own columns left out except `_step`."""
    log, broken = metrics(cells.drop(columns=SECONDS, errors="ignore").rename(columns={RUNTIME: SECONDS}))
    own = [name for name in log if str(name).startswith("_") and name != "_step"]
    return log.drop(columns=own), broken


def with_history(runs: list[TableRun], histories: Mapping[str, pd.DataFrame] | None, notes: Notes) -> list[LoggedRun]:
    """Give every run its history.

    Args:
        runs: of the table.
        histories: what was logged, by name or id of a run; None = there are none.
        notes: for runs and histories that are left over.

    Returns:
        The runs; one without a history keeps its last values.

    Raises:
        InputError: no history is of any of the runs.
    """
    if histories is None:
        notes.add(
            "Only the last values of runs are known: whether one reached the target earlier needs --history", len(runs)
        )
        return [row.run for row in runs]
    found, used = [], set()
    results = {str(name) for cells in histories.values() for name in cells}
    for row in runs:
        key = next((key for key in row.keys if key in histories), None)
        # A name of both tables is a result that was logged, not a setting.
        run = replace(row.run, settings={n: v for n, v in row.run.settings.items() if n not in results})
        if key is None:
            notes.add("Runs without a history are known by their last values only", 1, run.name)
            found.append(run)
            continue
        used.add(key)
        log, broken = tracked(histories[key])
        started_at, ended_at = times(_last(histories[key]))
        found.append(replace(run, log=log, broken=broken, started_at=started_at, ended_at=ended_at))
    if not used:
        names = ", ".join(list(histories)[:10])
        raise InputError("--history", [f"no history is of a run of the table; the histories are of {names}"])
    left = [key for key in histories if key not in used]
    notes.add("Histories of runs that are not in the table were left out", len(left), left[0] if left else None)
    return found


def _last(cells: pd.DataFrame) -> dict[str, Any]:
    """The last value of each of the client's own columns."""
    given = {name: cells[name].dropna().tolist() for name in (TIMESTAMP, RUNTIME) if name in cells}
    return {name: values[-1] for name, values in given.items() if values}


class _NotFinite(ast.NodeTransformer):
    """Python writes a NaN in a dictionary as the bare word nan, which is no literal."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Turn nan and inf into the numbers."""
        return ast.copy_location(ast.Constant(float(node.id)), node) if node.id in ("nan", "inf") else node


def _mapping(cell: Any) -> dict[str, Any] | None:
    """A dictionary in JSON's or Python's spelling, evaluated as a literal and never run; None if it is none."""
    if isinstance(cell, Mapping):
        return {str(name): value for name, value in cell.items()}
    text = str(cell or "").strip()
    if not text.startswith("{") or len(text) > _LONGEST_CELL:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(_NotFinite().visit(ast.parse(text, mode="eval")))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    return {str(name): inner for name, inner in value.items()} if isinstance(value, dict) else None


def _number(cell: Any) -> Any:
    """A text as the number or truth value that it spells, else as it is."""
    if not isinstance(cell, str):
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(cell.strip().lower(), cell)


__all__ = ["TableRun", "ending_of", "read_runs_table", "times", "tracked", "with_history"]
