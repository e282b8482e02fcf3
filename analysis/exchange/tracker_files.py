"""Files that trackers leave, read without them: results folders of Ray Tune, and exports of Weights & Biases.

Ray writes a folder a trial: `params.json` (its configuration), `result.json` (one report a line), `progress.csv` (the
same as a table) and, when it failed, `error.txt`. Any of them may be missing; pickled files are never opened. Of
Weights & Biases people bring a table of runs, perhaps with histories beside it, or the client's own run folders.
"""

import ast
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from bcrit.analysis.exchange import Reading, StepKey
from bcrit.analysis.exchange.files import folders, metrics, read_cells, read_json, read_json_lines, table_of_rows
from bcrit.analysis.exchange.logged import SECONDS, Counters, LoggedRun, flat, import_logged
from bcrit.analysis.exchange.run import ImportedRun, Notes, listed
from bcrit.analysis.exchange.wandb_folders import WHOLE, read_folders
from bcrit.analysis.records.json_values import loaded
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError

# Ray Tune: its files; and what it adds to every report (ray/tune/result.py: AUTO_RESULT_KEYS and its debug keys), the
# times and the iteration, which are read, left out. `config` repeats the configuration.
_RESULTS, _PROGRESS, _PARAMS = "result.json", "progress.csv", "params.json"
_ERRORS = ("error.txt", "error.pkl")
_BOOKKEEPING = {
    *("checkpoint_dir_name", "config", "date", "done", "experiment_id", "experiment_tag", "hostname"),
    *("iterations_since_restore", "node_ip", "pid", "should_checkpoint", "time_since_restore", "time_this_iter_s"),
    *("timestamp", "timesteps_since_restore", "trial_id", "trial_log_path", "warmup_time"),
}
# W&B. What loggers of optimizer updates call their counter: Lightning's, Hugging Face's, and plain names. `_step`
# counts calls of `log`, `Step` is the axis of an exported chart; neither need be an optimizer update.
_COUNTERS = ("trainer/global_step", "train/global_step", "global_step", "step")
_ITERATIONS = ("_step", "Step", "epoch", "train/epoch")
_RUNTIME, _TIMESTAMP = "_runtime", "_timestamp"  # what the client logs by itself, beside `_step`
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
_IDS = ("run_id", "run.id", "id", "ID")
_RUN_COLUMNS = (*_IDS, "run_name", "run", "Name", "name", "run.name")
_BETWEEN = " - "
_SPREAD = ("__MIN", "__MAX")


def _last(cells: pd.DataFrame, name: str) -> Any:
    """The last cell of a column that is not empty."""
    given = [] if name not in cells else cells[name].dropna().tolist()
    return given[-1] if given else None


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


def _seconds(cell: Any) -> float:
    """A time; 0 where it is unknown."""
    value = _number(cell)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def import_ray(
    source: Annotated[Path, "Results folder of a Ray Tune experiment.", "FOLDER"],
    how: Reading,
    step_key: StepKey = None,
) -> ImportedRun:
    """Import the results folder of a Ray Tune experiment: params.json, result.json, progress.csv of each trial.

    Nested settings are named with '/', as in optimizer/lr. Where no 'step' or 'global_step' was reported, say what a
    training iteration is with --steps-per-iteration or --examples-per-iteration.
    """
    if not source.is_dir():
        raise InputError(str(source), ["there is no such folder; give the folder of a Ray Tune experiment"])
    files, experiments = (_RESULTS, _PROGRESS, _PARAMS), []
    for place in [source, *folders(source)]:
        trials = [inner for inner in folders(place) if any((inner / name).is_file() for name in files)]
        experiments += [(place, trials)] if trials else []
    if not experiments:
        wanted = f"{_RESULTS}, {_PROGRESS} or {_PARAMS}"
        raise InputError(str(source), [f"no trial was found in it: none of its sub-folders holds {wanted}"])
    if len(experiments) > 1:
        there = ", ".join(place.name for place, _ in experiments[:10])
        raise InputError(str(source), [f"it holds several experiments ({there}); give the folder of one"])
    ((place, trials),) = experiments
    notes = Notes()
    states: dict[str, str] = {}  # TERMINATED, ERROR, RUNNING ..., by trial, where a file of Ray's own state tells it
    for path in sorted(place.glob("experiment_state-*.json")):
        try:
            for trial, *_ in read_json(path)["trial_data"]:
                state = loaded(trial) if isinstance(trial, str) else trial
                states[str(state["trial_id"])] = str(state["status"])
        except (InputError, KeyError, TypeError, ValueError):
            notes.add("Files of Ray's own state could not be read and were passed over", 1, path.name)
    runs = sorted((_ray_trial(trial, states, notes) for trial in trials), key=lambda run: (run.started_at, run.name))
    notes.add("Ray does not record whether a scheduler stopped a trial, so none is 'pruned'")
    counters = Counters(step_key, iterations=("training_iteration",))
    return import_logged(runs, how, counters, "ray", str(source), notes, name=place.name)


def _ray_trial(trial: Path, states: Mapping[str, str], notes: Notes) -> LoggedRun:
    config: Any = None  # as the reports repeat it
    cells = table_of_rows([])
    if (trial / _RESULTS).is_file():
        rows = read_json_lines(trial / _RESULTS)
        cells, config = table_of_rows([flat(row) for row in rows]), rows[-1].get("config") if rows else None
    elif (trial / _PROGRESS).is_file() and (trial / _PROGRESS).stat().st_size:
        notes.add(f"Trials without {_RESULTS}: their reports are read off {_PROGRESS}", 1, trial.name)
        cells = read_cells(trial / _PROGRESS)
        # Older versions repeat the configuration in columns such as config/lr.
        config = {n.removeprefix("config/"): _last(cells, n) for n in map(str, cells) if n.startswith("config/")}
    if (trial / _PARAMS).is_file():
        config = read_json(trial / _PARAMS)
        if not isinstance(config, Mapping):
            raise InputError(str(trial / _PARAMS), ["a configuration is a JSON object of names and values"])
    else:
        notes.add(f"Trials without {_PARAMS}: their configuration is read off their last report", 1, trial.name)
    state = states.get(str(_last(cells, "trial_id") or trial.name))
    failed = state == "ERROR" or any((trial / name).is_file() for name in _ERRORS)
    running = "still running when its results were read" if state in ("RUNNING", "PAUSED") else None
    ended = _seconds(_last(cells, "timestamp"))
    if "time_total_s" in cells:
        cells = cells.drop(columns=SECONDS, errors="ignore").rename(columns={"time_total_s": SECONDS})
    passed_over = [name for name in cells if name in _BOOKKEEPING or str(name).startswith("config/")]
    log, broken = metrics(cells.drop(columns=passed_over))
    lasted = float(log[SECONDS].max()) if SECONDS in log and log[SECONDS].notna().any() else 0.0
    return LoggedRun(
        trial.name,
        flat(config if isinstance(config, Mapping) else {}),
        log,
        broken,
        Outcome.FAILED if failed else None,
        _error(trial / _ERRORS[0]) if failed else running,
        started_at=max(0.0, ended - lasted),
        ended_at=ended,
    )


def _error(path: Path) -> str | None:
    """The last line of a trial's error, which names the exception."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else None


def import_wandb(
    source: Annotated[Path, "CSV of the runs (script or project page), or a folder of run folders.", "SOURCE"],
    how: Reading,
    history: Annotated[
        Path | None, "Histories of the runs of a CSV: a file of all, or a folder with a file for each."
    ] = None,
    param: Annotated[list[str] | None, "A setting that is a hyperparameter; repeat it. Default: all settings."] = None,
    step_key: StepKey = None,
) -> ImportedRun:
    """Import an export of Weights & Biases.

    SOURCE is project.csv of the documented export script, the CSV of a project's page, or a folder such as wandb/ with
    run folders (run-ID.wandb of offline runs too; config.yaml, wandb-history.jsonl). '_step' counts calls of log: name
    it with --step-key if each of them was one optimizer update.
    """
    notes = Notes()
    if source.is_dir():
        if history is not None:
            raise InputError(str(source), ["run folders have their histories with them; leave out --history"])
        runs = [
            _wandb_run(
                kept.name,
                flat(kept.settings),
                table_of_rows([flat(row) for row in kept.rows]),
                kept.rows[-1],
                kept.state,
            )
            for kept in read_folders(source, notes)
        ]
    elif source.suffix == ".wandb":
        raise InputError(str(source), [f"it holds one run only; give {WHOLE}"])
    else:
        keyed = _read_table(source, notes)
        known = {key for _, keys in keyed for key in keys}
        runs = _with_history(keyed, None if history is None else _read_histories(history, known), notes)
    if param:
        settings = list(dict.fromkeys(name for run in runs for name in run.settings))
        if unknown := [name for name in param if name not in settings]:
            raise InputError(str(source), [f"no setting is named '{unknown[0]}'; the settings are {listed(settings)}"])
        # The others may still be its batch size or seed.
        only = [{n: v for n, v in run.settings.items() if n in param} for run in runs]
        runs = [replace(run, settings=of, attributes=run.settings) for run, of in zip(runs, only, strict=True)]
    return import_logged(runs, how, Counters(step_key, _COUNTERS, _ITERATIONS), "wandb", str(source), notes)


def _wandb_run(
    name: str, settings: Mapping[str, Any], cells: pd.DataFrame, last: Mapping[str, Any], state: Any
) -> LoggedRun:
    """A run with what it logged, its last values, and its state in W&B's words."""
    # The run time gets our name; the client's own columns are left out except `_step`.
    log, broken = metrics(cells.drop(columns=SECONDS, errors="ignore").rename(columns={_RUNTIME: SECONDS}))
    log = log.drop(columns=[name for name in log if str(name).startswith("_") and name != "_step"])
    word = str(state or "").strip().lower()
    outcome = _OUTCOMES.get(word)
    message = None if outcome is None else f"Weights & Biases calls it {word}"
    message = "still running when it was exported" if word == "running" else message
    ended = _seconds(last.get(_TIMESTAMP))
    started = ended - _seconds(last.get(_RUNTIME)) if ended else 0.0
    return LoggedRun(name, settings, log, broken, outcome, message, started, ended)


Keyed = tuple[LoggedRun, list[str]]
"""A run whose log holds the last values only, and what a history may call it: its name, its id."""


def _read_table(path: Path, notes: Notes) -> list[Keyed]:
    """Runs of a table, in its order and with different names.

    It has the columns `config`, `summary` and `name` (dictionaries in Python's or JSON's spelling) as the documented
    script writes them, or those of the project's page (`Name`, `State`, then settings and results).
    """
    cells = read_cells(path)
    rows: list[dict[str, Any]] = [{str(n): v for n, v in row.items()} for row in cells.to_dict("records")]
    if not rows:
        raise InputError(str(path), ["there is no run in it"])
    scripted = "config" in cells and "name" in {str(name).lower() for name in cells}
    if not scripted and "Name" not in cells:
        there = ", ".join(map(str, cells.columns[:20]))
        wanted = "a table of runs has the columns 'config' and 'name', or that of a project's page 'Name'"
        raise InputError(str(path), [f"{wanted}, but the columns are {there}"])
    found = []
    for place, row in enumerate(rows, start=2):
        where = f"{path}, row {place}"
        if scripted:
            row = {name.lower(): value for name, value in row.items()}
            config, summary = _mapping(row.get("config")), _mapping(row.get("summary") or "{}")
            if config is None:
                raise InputError(where, ["'config' is not a dictionary of names and values"])
            notes.add("Summaries that cannot be read were passed over", int(summary is None), where)
            values, last = flat(config), flat(summary or {})
            name, identity, state = row.get("name") or where, row.get("id") or row.get("run_id"), row.get("state")
        else:
            # Settings and results stand side by side here; what a history holds is taken out of the settings later.
            values = {name: _number(value) for name, value in row.items() if name not in _PAGE}
            last = {**values, _RUNTIME: _number(row.get("Runtime"))}
            name, identity, state = row.get("Name"), row.get("ID"), row.get("State")
        settings = {name: value for name, value in values.items() if not name.startswith("_")}
        run = _wandb_run(str(name), settings, table_of_rows([last]), last, state)
        found.append((run, [str(key) for key in (name, identity) if key]))
    # W&B lets runs share a name; they get a number here, and are known by their id only.
    seen, times = Counter[str](), Counter(run.name for run, _ in found)
    for i, (run, keys) in enumerate(found):
        seen[run.name] += 1
        if times[run.name] > 1:
            named = replace(run, name=f"{run.name} #{seen[run.name]}")
            found[i] = named, [key for key in keys if key != run.name]
    return found


def _with_history(runs: list[Keyed], histories: Mapping[str, pd.DataFrame] | None, notes: Notes) -> list[LoggedRun]:
    """Give every run its history, by its name or id; one without is left out, unless none has any."""
    if histories is None:
        rule = "Only the last values of runs are known: whether one reached the target earlier needs --history"
        notes.add(rule, len(runs))
        return [run for run, _ in runs]
    found, used = [], set()
    results = {str(name) for cells in histories.values() for name in cells}
    for run, keys in runs:
        key = next((key for key in keys if key in histories), None)
        if not keys:
            rule = f"several runs are called '{run.name.rpartition(' #')[0]}', and nothing tells their histories apart"
            raise InputError("--history", [f"{rule}; add a column 'id' with run.id to both tables"])
        if key is None:
            notes.add("Runs without a history were left out, for when they reached the target is unknown", 1, run.name)
            continue
        used.add(key)
        # A name of both tables is a result that was logged, not a setting.
        settings = {n: v for n, v in run.settings.items() if n not in results}
        last = {name: _last(histories[key], name) for name in (_TIMESTAMP, _RUNTIME)}
        full = _wandb_run(run.name, settings, histories[key], last, None)
        found.append(replace(full, outcome=run.outcome, message=run.message))
    if not used:
        names = ", ".join(list(histories)[:10])
        raise InputError("--history", [f"no history is of a run of the table; the histories are of {names}"])
    left = [key for key in histories if key not in used]
    notes.among("Histories of runs that are not in the table were left out", left)
    return found


def _read_histories(path: Path, known: Collection[str]) -> dict[str, pd.DataFrame]:
    """What each run logged, one row a call of `log`, by name or id of the run; None where it logged nothing.

    A folder has one CSV or Parquet file a run, named like the run or its id, as `run.history()` gives it. One file of
    all runs has a column for the run, that with some of the `known` names and ids; the CSV of a chart has columns named
    `RUN - METRIC`.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", ".parquet"))
        if not files:
            raise InputError(str(path), ["it holds no CSV or Parquet file"])
        if twice := [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]:
            raise InputError(str(path), [f"there are two files of the run '{twice[0]}'; keep one"])
        return {file.stem: read_cells(file) for file in files}
    cells = read_cells(path)
    columns = [name for name in _RUN_COLUMNS if name in cells]
    if columns:
        column = next((name for name in columns if set(cells[name].map(str)) & set(known)), columns[0])
        ids = [name for name in columns if name in _IDS and name != column]
        for name, several in cells.groupby(column)[ids].nunique().max(axis=1).items() if ids else ():
            if several > 1:
                rule = f"several runs are called '{name}' in it, told apart by '{ids[0]}'"
                raise InputError(str(path), [f"{rule}; add a column 'id' with run.id to the table of runs"])
        groups = cells.dropna(subset=[column]).groupby(column, sort=False)
        found = {str(run): rows.drop(columns=column).reset_index(drop=True) for run, rows in groups}
    else:
        axis, found = str(cells.columns[0]), {}
        for name in cells.columns[1:]:
            run, between, metric = str(name).rpartition(_BETWEEN)
            if between and not metric.endswith(_SPREAD):
                found.setdefault(run, cells[[axis]].copy())[metric] = cells[name]
    if not found:
        wanted = f"a column for the run ({', '.join(_RUN_COLUMNS)}), or columns named RUN{_BETWEEN}METRIC"
        there = ", ".join(map(str, cells.columns[:10]))
        raise InputError(str(path), [f"a history of several runs has {wanted}, but its columns are {there}"])
    return found


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
        value = loaded(text)
    except ValueError:
        try:
            value = ast.literal_eval(_NotFinite().visit(ast.parse(text, mode="eval")))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    return {str(name): inner for name, inner in value.items()} if isinstance(value, dict) else None
