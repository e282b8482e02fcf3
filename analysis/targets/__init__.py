"""One pass over a run's measurements: crossings of targets and best values within budgets, of all its trials."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bcrit.analysis.records.one_pass import Reader, curves, read_measurements
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.studies import stopped_at_target, that_count
from bcrit.analysis.studies.boundary import feasible
from bcrit.analysis.targets.budgets import BestWithin, Budgets, Resource, default_budgets
from bcrit.analysis.targets.crossings import Crossings, default_targets
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
    """Read the measurements once: crossings of targets and best values within budgets, one row a trial.

    `target` is that of the analysis and names the metric; `always`: it is among the crossings even if no study reached
    it. Without `targets` a grid is chosen from the curves, without `budgets` from the trials.
    """
    if targets is None:
        targets = _targets(folder, trials, target)
    if budgets is None:
        budgets = default_budgets(trials, stopped_at_target(trials))
    crossings = Crossings.of([*targets, target] if always or not targets else targets, len(trials))
    best = BestWithin.of(budgets, target.direction, trials["batch_size"].to_numpy(dtype=float))
    readers: list[Reader] = [crossings, best] if budgets else [crossings]
    read_measurements(folder, list(trials["trial_id"]), target.metric, readers, timed=Resource.HOURS in budgets)
    return crossings, best


def _targets(folder: RunFolder, trials: pd.DataFrame, target: Target) -> tuple[Target, ...]:
    """The default grid, from the curve of the best trial of each study."""
    ordered = trials[feasible(trials)].sort_values(
        ["stage", "steps_to_target", "best_value"], ascending=[False, True, target.direction.sign > 0]
    )
    best = ordered.groupby("batch_size")["trial_id"].first()
    of_trial = {trial_id: int(batch_size) for batch_size, trial_id in best.items()}  # type: ignore[call-overload]
    found = {of_trial[name]: (steps, values) for name, steps, values in curves(folder, list(of_trial), target.metric)}
    return default_targets(target, found, bool(stopped_at_target(trials)[that_count(trials)].any()))


def unmeasured(folder: RunFolder, crossings: Crossings) -> str | None:
    """Why no finished trial has a number of the targets' metric; None where one has."""
    if not np.isnan(crossings.best).all():
        return None
    metric = crossings.targets[0].metric
    known = MEASUREMENTS.beside(folder.column_names(MEASUREMENTS))
    rule = f"no finished trial has measurements of '{metric}'"
    if metric in known:
        why = "every value after step 0 is empty, NaN or infinite"
        return f"{rule} that are numbers: {why}; look at `bcrit analyze` for how trials ended"
    return f"{rule}; the run's metrics are {', '.join(known) or 'none'}"


def refuse_unmeasured(folder: RunFolder, crossings: Crossings) -> None:
    """Refuse a metric that was never measured, or never finite, with an InputError."""
    if (why := unmeasured(folder, crossings)) is not None:
        raise InputError(str(folder), [why])
