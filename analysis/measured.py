"""What `analyze` asks of the measurements, answered in one pass: crossings of targets, best values within budgets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bcrit.analysis.budgets.best_within import BestWithin
from bcrit.analysis.budgets.resources import Budgets, Resource, default_budgets, that_count
from bcrit.analysis.records.one_pass import curves, read_measurements
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.targets.crossings import Crossings
from bcrit.analysis.targets.study_trials import stopped_at_target
from bcrit.analysis.targets.thresholds import default_targets
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Target


def measured(
    folder: RunFolder,
    trials: pd.DataFrame,
    target: Target,
    targets: Sequence[Target] | None = None,
    budgets: Budgets | None = None,
    *,
    always: bool = False,
) -> tuple[Crossings, BestWithin]:
    """Read the measurements once.

    Args:
        folder: the run.
        trials: its trials table.
        target: the target of the analysis, which names the metric.
        targets: of the same metric; None = a grid chosen from the curves.
        budgets: None = chosen from the trials.
        always: whether the target is among the crossings even if no study reached it.

    Returns:
        (crossings, best values), one row a trial.

    Raises:
        InputError: the measurements break their schema.
    """  # noqa: DOC502 (raised by `read_measurements`)
    if targets is None:
        targets = _targets(folder, trials, target)
    if budgets is None:
        budgets = default_budgets(trials, stopped_at_target(trials))
    crossings = Crossings.of([*targets, target] if always or not targets else targets, len(trials))
    best = BestWithin.of(budgets, target.direction, trials["batch_size"].to_numpy(dtype=float))
    timed = Resource.HOURS in budgets
    read_measurements(folder, list(trials["trial_id"]), target.metric, [crossings, best], timed=timed)
    return crossings, best


def _targets(folder: RunFolder, trials: pd.DataFrame, target: Target) -> tuple[Target, ...]:
    """The default grid, from the curve of the best trial of each study."""
    feasible = trials[trials["outcome"].isin([outcome for outcome in Outcome if outcome.feasible])]
    ascending = target.direction.better(0.0, 1.0)
    ordered = feasible.sort_values(["stage", "steps_to_target", "best_value"], ascending=[False, True, ascending])
    best = ordered.groupby("batch_size")["trial_id"].first()
    of_trial = {trial_id: int(batch_size) for batch_size, trial_id in best.items()}  # type: ignore[call-overload]
    found = {of_trial[name]: (steps, values) for name, steps, values in curves(folder, list(of_trial), target.metric)}
    return default_targets(target, found, bool(stopped_at_target(trials)[that_count(trials)].any()))


def unmeasured(folder: RunFolder, crossings: Crossings) -> str | None:
    """Why no finished trial has a number of the targets' metric; None where one has."""
    if not np.isnan(crossings.best).all():
        return None
    metric = crossings.targets[0].metric
    known = [name for name in folder.column_names(MEASUREMENTS) if name not in MEASUREMENTS.known]
    rule = f"no finished trial has measurements of '{metric}'"
    if metric in known:
        why = "every value after step 0 is empty, NaN or infinite"
        return f"{rule} that are numbers: {why}; look at `bcrit analyze` for how trials ended"
    return f"{rule}; the run's metrics are {', '.join(known) or 'none'}"


def refuse_unmeasured(folder: RunFolder, crossings: Crossings) -> None:
    """Refuse a metric that was never measured, or never finite, with an InputError."""
    if (why := unmeasured(folder, crossings)) is not None:
        raise InputError(str(folder), [why])
