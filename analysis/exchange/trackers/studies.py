"""From the logged runs of a tracker to an imported run: studies, repeats of one point, outcomes, search space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.arrow_tables import to_arrow
from analysis.exchange.experiment_name import experiment_name
from analysis.exchange.imported_run import ImportedRun, Notes, imported_trial
from analysis.exchange.names import metric_names, renamed
from analysis.exchange.settings import our_names, setting_columns
from analysis.exchange.spaces import Axis, common_space, fitted
from analysis.exchange.trackers.curves import curve, ending
from analysis.exchange.trackers.names import Names, Reading, find_names
from analysis.exchange.trackers.run import SECONDS, LoggedRun
from analysis.exchange.tried_space import tried_in_study, tried_space
from search_spaces.experiment import Experiment
from search_spaces.outcome import Outcome
from search_spaces.problems import InputError
from search_spaces.space import SearchSpace
from search_spaces.tables import TRIALS


def import_logged(
    runs: Sequence[LoggedRun],
    reading: Reading,
    format_name: str,
    source: str,
    notes: Notes,
    space: Mapping[str, Axis] | None = None,
    name: str | None = None,
) -> ImportedRun:
    """Bring logged runs into our words.

    Args:
        runs: with different names, in the order in which they began.
        reading: how to read them.
        format_name: what the tracker is, for the record.
        source: their place, for the record and for messages.
        notes: what their reader noted already.
        space: dimensions that were searched, by their names there; None = the box around what was tried.
        name: of the experiment; None = the last part of the source.

    Returns:
        The run. Runs that agree in all settings but the seed are repeats of one point (`stages`).

    Raises:
        InputError: batch size, counter or metric cannot be found or used, or no run can.
    """
    if not runs:
        raise InputError(source, ["there is no run in it"])
    names = find_names(runs, reading, source)
    runs = _usable(runs, names, reading, notes)
    sizes = batch_sizes(runs, names.batch_size, source)
    curves = [curve(run, names, reading, size, notes) for run, size in zip(runs, sizes, strict=True)]
    _refuse_easy_target(curves, reading, source)
    there = setting_columns([_hyperparameters(run, names) for run in runs], notes)
    here = our_names(there)
    columns = {here[name]: values for name, values in there.items()}
    rows = _rows(runs, sizes, curves, columns, names, reading, notes)
    notes.add(f"'{names.counter}' counts progress, one count being {reading.factor}")
    notes.add("Times are the tracker's, with evaluation in them", sum(row["train_seconds"] > 0 for row in rows))
    boxes, studies = _spaces(
        sizes, columns, {here[name]: axis for name, axis in (space or {}).items() if name in here}, notes
    )
    optimizers = set(columns.get("optimizer", ())) - {None}
    experiment = Experiment.model_validate(
        {
            "name": experiment_name(name or source, format_name),
            "imported": {"format": format_name, "source": source, "spaces": studies, "names": renamed(here)},
            "workload": experiment_name(name or source, format_name),
            "optimizer": str(next(iter(optimizers))) if len(optimizers) == 1 else "not recorded",
            "batch_sizes": sorted(set(sizes)),
            "target": reading.target,
            "space": boxes,
            "budget": {"steps": max(1, *(int(of["step"].max()) for of in curves if len(of)))},
            "unit": reading.unit,
        }
    )
    trials = to_arrow(TRIALS, rows)
    return ImportedRun(format_name, source, experiment, lambda: trials, _measurements(rows, curves), notes)


def _refuse_easy_target(curves: Sequence[pd.DataFrame], reading: Reading, source: str) -> None:
    """A target that every run is beyond at its first evaluation has the wrong sign, or tells nothing of any step.

    Raises:
        InputError: it is so; runs of which only the end is known do not count.
    """
    target = reading.target
    first = [of[target.metric].iloc[0] for of in curves if len(of)]
    if any(len(of) > 1 for of in curves) and all(target.reached(value) for value in first):
        beyond = f"every run is beyond '{target}' at its first evaluation"
        raise InputError(source, [f"{beyond}; turn the sign round, or choose a threshold that is reached later"])


def _usable(runs: Sequence[LoggedRun], names: Names, reading: Reading, notes: Notes) -> list[LoggedRun]:
    """Leave out runs that say nothing: no report of the metric, and no failure either."""
    metric = reading.target.metric
    kept = []
    for run in runs:
        if names.batch_size not in run.known and run.log.empty:
            notes.add("Runs without a batch size and without a report were left out", 1, run.name)
        elif (
            metric in run.log.columns or metric in run.broken or run.outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY)
        ):
            kept.append(run)
        else:
            notes.add(f"Runs that never reported '{metric}' were left out", 1, run.name)
    return kept


def batch_sizes(runs: Sequence[LoggedRun], name: str, source: str) -> list[int]:
    """The batch size of every run.

    Args:
        runs: whose settings hold it.
        name: of the setting.
        source: for messages.

    Returns:
        Examples a step.

    Raises:
        InputError: a run has none, or it is no whole number.
    """
    found, problems = [], []
    for run in runs:
        value = run.known.get(name)
        try:
            size = float(value)  # type: ignore[arg-type]  # None and the rest raise
        except (TypeError, ValueError):
            size = 0.0
        if isinstance(value, bool) or not 1 <= size < 2**62 or size != int(size):
            problems.append(f"'{name}' must be a whole number of at least 1, but run '{run.name}' has {value!r:.80}")
        found.append(int(size) if 1 <= size < 2**62 else 0)
    if problems:
        more = [f"and {len(problems) - 5} runs more"] if len(problems) > 5 else []
        raise InputError(source, problems[:5] + more)
    return found


def _spaces(
    sizes: Sequence[int], columns: Mapping[str, Sequence[Any]], axes: Mapping[str, Axis], notes: Notes
) -> tuple[SearchSpace, dict[int, SearchSpace]]:
    """The space of all studies and each study's own: as the tracker tells it, else what was tried.

    Args:
        sizes: of each run.
        columns: values of each hyperparameter, by our names.
        axes: dimensions that the tracker tells, by our names; empty = it tells none.
        notes: for what is assumed.
    """
    whole, studies = tried_space(columns), {}
    if not axes:
        notes.add("The search space is not recorded; a box around what was tried at each batch size stands for it")
    for size in sorted(set(sizes)):
        of_study = {n: [v for v, b in zip(values, sizes, strict=True) if b == size] for n, values in columns.items()}
        points = [dict(zip(of_study, values, strict=True)) for values in zip(*of_study.values(), strict=True)]
        told = fitted(axes, points, f"batch size {size}", notes)
        studies[size] = told if axes else tried_in_study(whole, of_study)
    return (common_space(list(studies.values())) if axes else whole), studies


def _hyperparameters(run: LoggedRun, names: Names) -> dict[str, Any]:
    return {name: value for name, value in run.settings.items() if name not in (names.batch_size, names.seed)}


def _rows(
    runs: Sequence[LoggedRun],
    sizes: Sequence[int],
    curves: Sequence[pd.DataFrame],
    columns: Mapping[str, Sequence[Any]],
    names: Names,
    reading: Reading,
    notes: Notes,
) -> list[dict[str, Any]]:
    points = [(size, *(values[i] for values in columns.values())) for i, size in enumerate(sizes)]
    staged = stages(points)
    repeated = sum(stage == "confirm" for stage, _ in staged)
    notes.add("Runs that repeat another's settings are read as repeats on other seeds", repeated)
    numbers: Counter[tuple[int, str]] = Counter()
    rows = []
    for i, (run, (stage, first)) in enumerate(zip(runs, staged, strict=True)):
        number = numbers[sizes[i], stage]
        numbers[sizes[i], stage] += 1
        seconds = curves[i][SECONDS].max()
        known = {
            "stage": stage,
            "repeats": None if first is None else runs[first].name,
            "seed": _seed(run.known.get(names.seed) if names.seed else None, number),
            **ending(run, curves[i], reading.target, notes),
            "train_seconds": 0.0 if pd.isna(seconds) else float(seconds),
            "started_at": run.started_at,
            "ended_at": run.ended_at,
        }
        rows.append(imported_trial(run.name, sizes[i], number, **known, **{n: v[i] for n, v in columns.items()}))
    return rows


def stages(points: Sequence[tuple[Any, ...]]) -> list[tuple[str, int | None]]:
    """Tell the search from its repeats.

    In a study of several points the first run of each is the search, and the others, on other seeds, confirm it; a
    study of one point that was run several times has nothing but repeats.

    Args:
        points: (batch size, hyperparameters ...) of each run.

    Returns:
        (stage, index of the run whose point it repeats) of each run.
    """
    first: dict[tuple[Any, ...], int] = {}
    for i, point in enumerate(points):
        first.setdefault(point, i)
    times, in_study = Counter(points), Counter(point[0] for point in first)
    return [
        ("confirm", first[point])
        if first[point] != i or (in_study[point[0]] == 1 and times[point] > 1)
        else ("search", None)
        for i, point in enumerate(points)
    ]


def _seed(value: Any, number: int) -> int:
    """The seed that was logged; the run's number where none was, or one that is no whole number."""
    try:
        return int(str(value)) if abs(int(str(value))) < 2**63 else number
    except ValueError:
        return number


def _measurements(rows: Sequence[Mapping[str, Any]], curves: Sequence[pd.DataFrame]) -> list[pa.Table]:
    """All curves as one table, so that its columns are the same for all."""
    parts = []
    for row, of in zip(rows, curves, strict=True):
        metrics = [name for name in of.columns if name not in ("step", SECONDS)]
        own = {"trial_id": row["trial_id"], "step": of["step"], "examples": of["step"] * row["batch_size"]}
        parts.append(pd.DataFrame({**own, SECONDS: of[SECONDS], **of[metrics].rename(columns=metric_names(metrics))}))
    frame = pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else None
    if frame is None:
        return []
    # A NaN here is a value that was not finite or not known, not an empty cell.
    fields = [pa.field("trial_id", pa.string()), *(pa.field(name, pa.int64()) for name in ("step", "examples"))]
    fields += [pa.field(str(name), pa.float64()) for name in frame.columns[3:]]
    arrays = [pa.array(frame[field.name].to_numpy(), field.type) for field in fields]
    return [pa.table(arrays, schema=pa.schema(fields))]


__all__ = ["batch_sizes", "import_logged", "stages"]
