"""One question asked of the stored curves alone: other targets, or budgets, of the user's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from bcrit.analysis.budgets.resources import Resource, read_budgets
from bcrit.analysis.budgets.tables import BudgetTables, budget_tables
from bcrit.analysis.measured import measured, refuse_unmeasured
from bcrit.analysis.run_folder import RunFolder
from bcrit.analysis.targets.grid import TargetGrid, target_grid
from bcrit.analysis.targets.thresholds import read_targets
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS


def targets_of_run(folder: RunFolder, given: Sequence[str] | None = None) -> TargetGrid:
    """Steps to several targets.

    Args:
        folder: the run.
        given: the user's targets as typed; none = a grid chosen from the curves.

    Returns:
        The grid.

    Raises:
        InputError: it is no run folder, or without finished trials, or without measurements of the metric; or a target
            cannot be read.
    """  # noqa: DOC502 (some raised further down)
    experiment, trials = _read(folder)
    ran_to = experiment.target
    if not given:
        crossings, _ = measured(folder, trials, ran_to, budgets={})
    else:
        targets = read_targets(given, ran_to)
        crossings, _ = measured(folder, trials, targets[-1], targets, budgets={})
    refuse_unmeasured(folder, crossings)
    return target_grid(folder, trials, experiment, crossings)


def budgets_of_run(folder: RunFolder, given: Mapping[Resource, Sequence[float]]) -> BudgetTables:
    """Best results within budgets.

    Args:
        folder: the run.
        given: the user's budgets; all empty = chosen from the trials.

    Returns:
        The tables.

    Raises:
        InputError: it is no run folder, or without finished trials, or without measurements of the metric; or a budget
            is not positive.
    """  # noqa: DOC502 (some raised further down)
    asked = read_budgets(given)
    experiment, trials = _read(folder)
    crossings, best = measured(folder, trials, experiment.target, [], asked or None)
    refuse_unmeasured(folder, crossings)
    return budget_tables(trials, experiment, best, experiment.target)


def _read(folder: RunFolder) -> tuple[Experiment, pd.DataFrame]:
    experiment, trials = folder.read_experiment(), folder.read(TRIALS).to_pandas()
    if trials.empty:
        raise InputError(str(folder), ["the run has no finished trial yet; `bcrit resume` goes on with it"])
    return experiment, trials


__all__ = ["budgets_of_run", "targets_of_run"]
