"""The results folder of a Ray Tune experiment as an imported run: plain files, read without Ray.

A trial's folder holds `params.json` (its configuration), `result.json` (one report a line), `progress.csv` (the same as
a table) and, when it failed, `error.txt`. Any of them may be missing; pickled files are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bcrit.analysis.exchange.files import metrics, read_cells, read_json, read_json_lines, table_of_rows
from bcrit.analysis.exchange.logged import SECONDS, LoggedRun, Reading, flat, import_logged
from bcrit.analysis.exchange.run import ImportedRun, Notes, experiment_name
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError

_RESULTS, _PROGRESS, _PARAMS = "result.json", "progress.csv", "params.json"
_ERRORS = ("error.txt", "error.pkl")
_ITERATION = "training_iteration"
# What Ray Tune adds to every report (ray/tune/result.py: AUTO_RESULT_KEYS and its debug keys), the times and the
# iteration, which are read, left out. `config` repeats the configuration.
_BOOKKEEPING = {
    *("checkpoint_dir_name", "config", "date", "done", "experiment_id", "experiment_tag", "hostname"),
    *("iterations_since_restore", "node_ip", "pid", "should_checkpoint", "time_since_restore", "time_this_iter_s"),
    *("timestamp", "timesteps_since_restore", "trial_id", "trial_log_path", "warmup_time"),
}


def import_ray(folder: Path, reading: Reading) -> dict[str, ImportedRun]:
    """Read one experiment's folder, whose sub-folders are the trials, or a folder that holds one such folder.

    Without a counter among the reports that is named like steps, an iteration needs a factor.
    """
    trials = _trial_folders(folder)
    notes = Notes()
    states = _states(trials[0].parent, notes)
    runs = sorted((_logged(trial, states, notes) for trial in trials), key=lambda run: (run.started_at, run.name))
    notes.add("Ray does not record whether a scheduler stopped a trial, so none is 'pruned'")
    reading = replace(reading, iterations=(*reading.iterations, _ITERATION))
    name = experiment_name(trials[0].parent.name, "ray")
    return {name: import_logged(runs, reading, "ray", str(folder), notes, name=name)}


def _trial_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(str(folder), ["there is no such folder; give the folder of a Ray Tune experiment"])
    try:
        below = {path: [inner for inner in _folders(path) if _is_trial(inner)] for path in [folder, *_folders(folder)]}
    except OSError as error:
        raise InputError(str(folder), [f"it cannot be read: {error.strerror}"]) from error
    experiments = [path for path, trials in below.items() if trials]
    if not experiments:
        wanted = f"{_RESULTS}, {_PROGRESS} or {_PARAMS}"
        raise InputError(str(folder), [f"no trial was found in it: none of its sub-folders holds {wanted}"])
    if len(experiments) > 1:
        there = ", ".join(path.name for path in experiments[:10])
        raise InputError(str(folder), [f"it holds several experiments ({there}); give the folder of one"])
    return below[experiments[0]]


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir())


def _is_trial(path: Path) -> bool:
    return any((path / name).is_file() for name in (_RESULTS, _PROGRESS, _PARAMS))


def _states(experiment: Path, notes: Notes) -> dict[str, str]:
    """Ray's state of each trial by its id (TERMINATED, ERROR, RUNNING ...), where an experiment_state file tells it."""
    found: dict[str, str] = {}
    for path in sorted(experiment.glob("experiment_state-*.json")):
        try:
            for trial, *_ in read_json(path)["trial_data"]:
                state = json.loads(trial) if isinstance(trial, str) else trial
                found[str(state["trial_id"])] = str(state["status"])
        except (InputError, KeyError, TypeError, ValueError):
            notes.add("Files of Ray's own state could not be read and were passed over", 1, path.name)
    return found


def _logged(trial: Path, states: Mapping[str, str], notes: Notes) -> LoggedRun:
    cells, config = _reports(trial, notes)
    if (trial / _PARAMS).is_file():
        config = read_json(trial / _PARAMS)
    else:
        notes.add(f"Trials without {_PARAMS}: their configuration is read off their last report", 1, trial.name)
    if not isinstance(config, Mapping):
        raise InputError(str(trial / _PARAMS), ["a configuration is a JSON object of names and values"])
    trial_id = _text(cells, "trial_id") or trial.name
    failed = states.get(trial_id) == "ERROR" or any((trial / name).is_file() for name in _ERRORS)
    running = states.get(trial_id) in ("RUNNING", "PAUSED")
    stamps = metrics(cells[["timestamp"]])[0].get("timestamp") if "timestamp" in cells else None
    if "time_total_s" in cells:
        cells = cells.drop(columns=SECONDS, errors="ignore").rename(columns={"time_total_s": SECONDS})
    log, broken = metrics(cells.drop(columns=[name for name in cells if name in _BOOKKEEPING]))
    log = log.drop(columns=[name for name in log if str(name).startswith("config/")])
    ended = 0.0 if stamps is None or stamps.dropna().empty else float(stamps.dropna().iloc[-1])
    lasted = float(log[SECONDS].max()) if SECONDS in log and log[SECONDS].notna().any() else 0.0
    return LoggedRun(
        name=trial.name,
        settings=flat(config),
        log=log,
        broken=broken,
        outcome=Outcome.FAILED if failed else None,
        message=_error(trial) if failed else "still running when its results were read" if running else None,
        started_at=max(0.0, ended - lasted),
        ended_at=ended,
    )


def _reports(trial: Path, notes: Notes) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """A trial's reports, flat, and the configuration that the last of them repeats."""
    if (trial / _RESULTS).is_file():
        rows = read_json_lines(trial / _RESULTS)
        config = rows[-1].get("config") if rows else None
        return table_of_rows([flat(row) for row in rows]), config if isinstance(config, Mapping) else {}
    if (trial / _PROGRESS).is_file() and (trial / _PROGRESS).stat().st_size:
        notes.add(f"Trials without {_RESULTS}: their reports are read off {_PROGRESS}", 1, trial.name)
        cells = read_cells(trial / _PROGRESS)
        # Older versions repeat the configuration in columns such as config/lr.
        columns = [str(name) for name in cells if str(name).startswith("config/")]
        return cells, {name.removeprefix("config/"): _text(cells, name) for name in columns}
    return table_of_rows([]), {}


def _text(cells: pd.DataFrame, name: str) -> str | None:
    """The last cell of a column that is not empty."""
    given = [] if name not in cells else cells[name].dropna().tolist()
    return str(given[-1]) if given else None


def _error(trial: Path) -> str | None:
    """The last line of a trial's error, which names the exception."""
    path = trial / _ERRORS[0]
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else None
