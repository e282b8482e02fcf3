"""Runs exported from Weights & Biases as an imported run: a table of runs with histories beside it, or run folders."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bcrit.analysis.exchange.files import metrics, read_cells, read_json, read_json_lines, read_text, table_of_rows
from bcrit.analysis.exchange.logged import SECONDS, LoggedRun, Reading, flat, import_logged
from bcrit.analysis.exchange.run import ImportedRun, Notes, experiment_name, listed
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError

# What loggers of optimizer updates call their counter: Lightning's, Hugging Face's, and plain names.
_COUNTERS = ("trainer/global_step", "train/global_step", "global_step", "step")
# `_step` counts calls of `log`, `Step` is the axis of an exported chart; neither need be an optimizer update.
_ITERATIONS = ("_step", "Step", "epoch", "train/epoch")
# What the client logs by itself, beside `_step`.
_RUNTIME, _TIMESTAMP = "_runtime", "_timestamp"
# Columns of the project page's table that are no settings and no results.
_PAGE = set(
    "Name|State|Notes|User|Tags|Created|Runtime|Sweep|ID|Group|Job Type|Updated|Hostname|Description|Commit|GitHub|"
    "End Time|Author|Entity|Project".split("|")
)
# W&B's words (docs: "Run states"): crashed = no more signs of life, failed = non-zero exit status.
_OUTCOMES = {
    **dict.fromkeys(("crashed", "failed"), Outcome.FAILED),
    **dict.fromkeys(("killed", "preempted"), Outcome.PRUNED),
}
_LONGEST_CELL = 1_000_000  # characters of a configuration that is parsed; chosen
# Columns of a long history that name the run; between run and metric in the header of a chart's table; what a chart
# shows of grouped runs, which is left out.
_RUN_COLUMNS = ("run_id", "run_name", "run", "Name", "name", "id", "run.id", "run.name")
_BETWEEN = " - "
_SPREAD = ("__MIN", "__MAX")
# Files of a run folder, and keys in its configuration that are the client's own.
_CONFIG, _HISTORY = "config.yaml", "wandb-history.jsonl"
_SUMMARY, _METADATA = "wandb-summary.json", "wandb-metadata.json"
_OWN_KEYS = ("_wandb", "wandb_version")

Keyed = tuple[LoggedRun, Sequence[str]]
"""A run whose log holds the last values only, and what a history may call it: its name, its id."""


def import_wandb(
    source: Path, reading: Reading, history: Path | None = None, hyperparameters: Sequence[str] = ()
) -> dict[str, ImportedRun]:
    """Read an export: a table of runs as CSV, perhaps with histories, or a folder of run folders.

    `history` is one CSV or Parquet of all runs, or a folder with one a run; None = only the last values are known.
    `hyperparameters` are the settings that are; none = all. A table of the project's page does not tell settings from
    results.
    """
    notes = Notes()
    if source.is_dir():
        if history is not None:
            raise InputError(str(source), ["run folders have their histories with them; leave out --history"])
        runs = _read_folders(source, notes)
    else:
        runs = _with_history(_read_table(source, notes), None if history is None else _read_histories(history), notes)
    if hyperparameters:
        settings = list(dict.fromkeys(name for run in runs for name in run.settings))
        if unknown := [name for name in hyperparameters if name not in settings]:
            raise InputError(str(source), [f"no setting is named '{unknown[0]}'; the settings are {listed(settings)}"])
        # The others may still be its batch size or seed.
        only = [{n: v for n, v in run.settings.items() if n in hyperparameters} for run in runs]
        runs = [replace(run, settings=of, attributes=run.settings) for run, of in zip(runs, only, strict=True)]
    reading = replace(reading, counters=_COUNTERS, iterations=_ITERATIONS)
    name = experiment_name(str(source), "wandb")
    return {name: import_logged(runs, reading, "wandb", str(source), notes, name=name)}


def _read_table(path: Path, notes: Notes) -> list[Keyed]:
    """Runs of a table, in its order and with different names.

    It has the columns `config`, `summary` and `name` (dictionaries in Python's or JSON's spelling) as the documented
    script writes them, or those of the project's page (`Name`, `State`, then settings and results).
    """
    cells = read_cells(path)
    rows: list[dict[str, Any]] = [{str(n): v for n, v in row.items()} for row in cells.to_dict("records")]
    if not rows:
        raise InputError(str(path), ["there is no run in it"])
    if "config" in cells and "name" in {str(name).lower() for name in cells}:
        found = [_from_dicts(row, f"{path}, row {i + 2}", notes) for i, row in enumerate(rows)]
    elif "Name" in cells:
        found = [_from_page(row) for row in rows]
    else:
        there = ", ".join(map(str, cells.columns[:20]))
        wanted = "a table of runs has the columns 'config' and 'name', or that of a project's page 'Name'"
        raise InputError(str(path), [f"{wanted}, but the columns are {there}"])
    # W&B lets runs share a name; later ones get a number here, and are known by their id only.
    seen, times = Counter[str](), Counter(run.name for run, _ in found)
    for i, (run, keys) in enumerate(found):
        seen[run.name] += 1
        if times[run.name] > 1:
            named = replace(run, name=f"{run.name} #{seen[run.name]}")
            found[i] = named, [key for key in keys if key != run.name]
    return found


def _from_dicts(row: Mapping[str, Any], where: str, notes: Notes) -> Keyed:
    row = {name.lower(): value for name, value in row.items()}
    config = _mapping(row.get("config"))
    if config is None:
        raise InputError(where, ["'config' is not a dictionary of names and values"])
    summary = _mapping(row.get("summary") or "{}")
    notes.add("Summaries that cannot be read were passed over", int(summary is None), where)
    settings = {n: v for n, v in flat(config).items() if not n.startswith("_")}
    name = str(row.get("name") or where)
    return _keyed(name, row.get("id") or row.get("run_id"), settings, flat(summary or {}), row.get("state"))


def _from_page(row: Mapping[str, Any]) -> Keyed:
    # Settings and results stand side by side here; what a history holds is taken out of the settings later.
    values = {name: _number(value) for name, value in row.items() if name not in _PAGE}
    settings = {name: value for name, value in values.items() if not name.startswith("_")}
    last = {**values, _RUNTIME: _number(row.get("Runtime"))}
    return _keyed(str(row.get("Name")), row.get("ID"), settings, last, row.get("State"))


def _keyed(name: str, identity: Any, settings: dict[str, Any], last: dict[str, Any], state: Any) -> Keyed:
    log, broken = _tracked(table_of_rows([last]))
    run = LoggedRun(name, settings, log, broken, *_ending(state), *_times(last))
    return run, [str(key) for key in (name, identity) if key]


def _ending(state: Any) -> tuple[Outcome | None, str | None]:
    """What a state in W&B's words says of a run: (outcome, message)."""
    word = str(state or "").strip().lower()
    if word == "running":
        return None, "still running when it was exported"
    outcome = _OUTCOMES.get(word)
    return outcome, None if outcome is None else f"Weights & Biases calls it {word}"


def _times(last: Mapping[str, Any]) -> tuple[float, float]:
    """When a run began and ended, from the last values of what the client logs by itself; zeros where it is unknown."""
    stamp, runtime = (_number(last.get(name)) for name in (_TIMESTAMP, _RUNTIME))
    if not isinstance(stamp, int | float):
        return 0.0, 0.0
    return float(stamp - (runtime if isinstance(runtime, int | float) else 0.0)), float(stamp)


def _tracked(cells: pd.DataFrame) -> tuple[pd.DataFrame, frozenset[str]]:
    """What was logged as metrics: the run time under our name, the client's own columns left out except `_step`."""
    log, broken = metrics(cells.drop(columns=SECONDS, errors="ignore").rename(columns={_RUNTIME: SECONDS}))
    own = [name for name in log if str(name).startswith("_") and name != "_step"]
    return log.drop(columns=own), broken


def _with_history(runs: list[Keyed], histories: Mapping[str, pd.DataFrame] | None, notes: Notes) -> list[LoggedRun]:
    """Give every run its history, by its name or id; one without keeps its last values."""
    if histories is None:
        notes.add(
            "Only the last values of runs are known: whether one reached the target earlier needs --history", len(runs)
        )
        return [run for run, _ in runs]
    found, used = [], set()
    results = {str(name) for cells in histories.values() for name in cells}
    for run, keys in runs:
        key = next((key for key in keys if key in histories), None)
        # A name of both tables is a result that was logged, not a setting.
        run = replace(run, settings={n: v for n, v in run.settings.items() if n not in results})
        if key is None:
            notes.add("Runs without a history are known by their last values only", 1, run.name)
        else:
            used.add(key)
            cells = histories[key]
            given = {name: cells[name].dropna().tolist() for name in (_TIMESTAMP, _RUNTIME) if name in cells}
            started_at, ended_at = _times({name: values[-1] for name, values in given.items() if values})
            log, broken = _tracked(cells)
            run = replace(run, log=log, broken=broken, started_at=started_at, ended_at=ended_at)
        found.append(run)
    if not used:
        names = ", ".join(list(histories)[:10])
        raise InputError("--history", [f"no history is of a run of the table; the histories are of {names}"])
    left = [key for key in histories if key not in used]
    notes.among("Histories of runs that are not in the table were left out", left)
    return found


def _read_histories(path: Path) -> dict[str, pd.DataFrame]:
    """What each run logged, one row a call of `log`, by name or id of the run; None where it logged nothing.

    A folder has one CSV or Parquet file a run, named like the run or its id, as `run.history()` gives it. One file of
    all runs has a column for the run; the CSV of a chart has columns named `RUN - METRIC`.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", ".parquet"))
        if not files:
            raise InputError(str(path), ["it holds no CSV or Parquet file"])
        return {file.stem: read_cells(file) for file in files}
    cells = read_cells(path)
    column = next((name for name in _RUN_COLUMNS if name in cells), None)
    found: dict[str, pd.DataFrame] = {}
    if column is not None:
        groups = cells.dropna(subset=[column]).groupby(column, sort=False)
        found = {str(run): rows.drop(columns=column).reset_index(drop=True) for run, rows in groups}
    else:
        axis = str(cells.columns[0])
        for name in cells.columns[1:]:
            run, between, metric = str(name).rpartition(_BETWEEN)
            if between and not metric.endswith(_SPREAD):
                found.setdefault(run, cells[[axis]].copy())[metric] = cells[name]
    if not found:
        wanted = f"a column for the run ({', '.join(_RUN_COLUMNS)}), or columns named RUN{_BETWEEN}METRIC"
        there = ", ".join(map(str, cells.columns[:10]))
        raise InputError(str(path), [f"a history of several runs has {wanted}, but its columns are {there}"])
    return found


def _read_folders(folder: Path, notes: Notes) -> list[LoggedRun]:
    """Every run below a folder such as `wandb/`, whose sub-folders (or their `files/`) hold the files of one run each.

    Newer clients keep the history in a binary file, which is not read.
    """
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError as error:
        raise InputError(str(folder), [f"it cannot be read: {error.strerror}"]) from error
    places = {path.name: path / "files" if (path / "files").is_dir() else path for path in below}
    places = {name: place for name, place in places.items() if (place / _CONFIG).is_file()}
    if not places:
        raise InputError(str(folder), [f"no sub-folder of it (nor its files/) holds {_CONFIG}"])
    return [_from_folder(name, place, notes) for name, place in places.items()]


def _from_folder(name: str, place: Path, notes: Notes) -> LoggedRun:
    config = read_yaml(read_text(place / _CONFIG), str(place / _CONFIG))
    if not isinstance(config, Mapping):
        raise InputError(str(place / _CONFIG), ["a configuration is a mapping of names to 'value'"])
    # A setting is written as `{desc: ..., value: ...}`.
    settings = {
        str(key): entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry
        for key, entry in config.items()
        if key not in _OWN_KEYS
    }
    summary = _object(place / _SUMMARY)
    rows = read_json_lines(place / _HISTORY) if (place / _HISTORY).is_file() else []
    if not rows:
        notes.add(f"Runs without {_HISTORY} are known by their last values only; export run.history()", 1, name)
        rows = [summary]
    log, broken = _tracked(table_of_rows([flat(row) for row in rows]))
    metadata = _object(place / _METADATA)
    state = metadata.get("state") or ("failed" if metadata.get("exitcode") else None)
    return LoggedRun(name, flat(settings), log, broken, *_ending(state), *_times(rows[-1]))


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(str(path), ["it is JSON, but not an object of names and values"])
    return content


class _NotFinite(ast.NodeTransformer):
    """Python writes a NaN in a dictionary as the bare word nan, which is no literal."""

    def visit_Name(self, node: ast.Name) -> ast.AST:  # noqa: D102
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
