"""From the logged runs of a tracker to an imported run: which runs count, their studies and search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bcrit.analysis.exchange.experiment_name import experiment_name
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes
from bcrit.analysis.exchange.names import renamed
from bcrit.analysis.exchange.settings import our_names, setting_columns
from bcrit.analysis.exchange.spaces import Axis, common_space, fitted
from bcrit.analysis.exchange.trackers.curves import curve
from bcrit.analysis.exchange.trackers.names import Names, Reading, find_names
from bcrit.analysis.exchange.trackers.rows import measurements_of, trial_rows
from bcrit.analysis.exchange.trackers.run import LoggedRun
from bcrit.analysis.exchange.tried_space import tried_in_study, tried_space
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.tables import TRIALS


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
        The run. Runs that agree in all settings but the seed are repeats of one point (`rows.stages`).

    Raises:
        InputError: batch size, counter or metric cannot be found or used, or no run can.
    """
    if not runs:
        raise InputError(source, ["there is no run in it"])
    names = find_names(runs, reading, source)
    runs = _usable(runs, names, reading, notes)
    if not runs:
        rule = f"no run can be used: each lacks '{names.batch_size}', or reports of '{reading.target.metric}'"
        raise InputError(source, [f"{rule}; name the batch size, or another metric in --target"])
    sizes = batch_sizes(runs, names.batch_size, source)
    curves = [curve(run, names, reading, size, notes) for run, size in zip(runs, sizes, strict=True)]
    _refuse_easy_target(curves, reading, source)
    there = setting_columns([_hyperparameters(run, names) for run in runs], notes)
    here = our_names(there)
    columns = {here[name]: values for name, values in there.items()}
    rows = trial_rows(runs, sizes, curves, columns, names, reading, notes)
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
            # Where nothing finite was reported, no step is known: every run diverged or failed.
            "budget": {"steps": max([1, *(int(of["step"].max()) for of in curves if len(of))])},
            "unit": reading.unit,
        }
    )
    trials = to_arrow(TRIALS, rows)
    return ImportedRun(format_name, source, experiment, lambda: trials, measurements_of(rows, curves), notes)


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


__all__ = ["batch_sizes", "import_logged"]
