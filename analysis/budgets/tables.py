"""Best result per batch size under every budget, what it is, and which batch size wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.budgets.best_within import BestWithin
from bcrit.analysis.budgets.resources import Resource, that_count
from bcrit.analysis.budgets.verdict import BudgetVerdict, Compared, Status, verdict_on
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Floats
from bcrit.analysis.targets.study_trials import stopped_at_target
from bcrit.analysis.targets.validity import Flags
from bcrit.analysis.wording import duration, readable
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import BUDGET_CELLS
from bcrit.search_spaces.target import Direction, Target


@dataclass(frozen=True)
class BudgetTables:
    """What one run says about budgets.

    Attributes:
        metric: what is best.
        direction: which way.
        target: at which trials may have stopped.
        unit: what batch sizes count.
        cells: one row a resource, budget and batch size, with the columns of `BUDGET_CELLS`.
        verdicts: one a resource and budget.
        notes: what to know when reading it.
    """

    metric: str
    direction: Direction
    target: Target
    unit: str
    cells: pd.DataFrame
    verdicts: tuple[BudgetVerdict, ...]
    notes: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict over all budgets, one sentence a resource."""
        found = []
        for resource in Resource:
            mine = [verdict for verdict in self.verdicts if verdict.resource is resource]
            if not mine:
                continue
            what = {Resource.STEPS: "Steps", Resource.EXAMPLES: "Examples", Resource.HOURS: "Time"}[resource]
            winners = sorted({verdict.winner for verdict in mine if verdict.winner is not None})
            count = sum(verdict.winner is not None for verdict in mine)
            if not winners:
                found.append(f"{what}: under none of {len(mine)} budgets does one batch size clearly win.")
            elif len(winners) == 1:
                found.append(f"{what}: batch size {winners[0]:,} clearly wins under {count} of {len(mine)} budgets.")
            else:
                span = f"{winners[0]:,} to {winners[-1]:,}"
                found.append(f"{what}: one batch size, from {span}, clearly wins under {count} of {len(mine)} budgets.")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit budgets --json`."""
        found: dict[str, Any] = {"metric": self.metric, "direction": self.direction.value, "target": str(self.target)}
        for resource in Resource:
            rows = []
            for verdict in (verdict for verdict in self.verdicts if verdict.resource is resource):
                mine = self.cells[(self.cells["resource"] == resource) & (self.cells["budget"] == verdict.budget)]
                cells = mine.drop(columns=["resource", "budget"]).to_dict("records")
                told = {name: getattr(verdict, name) for name in ("budget", "winner", "leader", "share", "sentence")}
                rows.append({**told, "cells": cells})
            found[resource.value] = rows
        answer: dict[str, Any] = plain({**found, "notes": self.notes})
        return answer


def budget_tables(trials: pd.DataFrame, experiment: Experiment, best: BestWithin, ran_to: Target) -> BudgetTables:
    """Reduce the trials' best values to studies and judge every budget.

    Search trials count; a study without any shows its re-runs. A trial that failed says nothing. One that diverged
    counts under the budgets that had ended before, as it would have ended there; an imported one does not.

    Args:
        trials: the trials table as it was recorded.
        experiment: batch sizes, unit, and the metric that the values are of.
        best: of these trials.
        ran_to: the target that the run was made for.

    Returns:
        The tables.
    """
    metric, stopped = experiment.target.metric, stopped_at_target(trials)
    outcome = trials["outcome"].to_numpy(dtype=str)
    batch = trials["batch_size"].to_numpy()
    counting = that_count(trials)
    judged = np.isin(outcome, [Outcome.PRUNED.value, Outcome.CAPPED.value])
    diverged = outcome == Outcome.DIVERGED.value
    names = trials["trial_id"].to_numpy()
    rows: list[dict[str, Any]] = []
    verdicts = []
    for resource, budgets in best.budgets.items():
        spent, value = resource.spent(trials), best.value(resource)
        until_reached = spent * _share_until_reached(trials)
        for place, budget in enumerate(budgets):
            used, compared = [], {}
            for batch_size in experiment.batch_sizes:
                mine = (batch == batch_size) & counting
                whole = spent >= budget
                counts = mine & (~diverged | (whole & (experiment.imported is None)))
                reached = until_reached[counts] <= budget
                ended = Ended(whole[counts], (stopped & ~np.isnan(spent))[counts], judged[counts], reached)
                cell, said = _cell(value[counts, place], ended, names[counts], best.direction)
                used.append({"resource": resource.value, "budget": budget, "batch_size": batch_size, **cell})
                if said is not None:
                    compared[batch_size] = said
            asked = BudgetVerdict(resource, budget, None, None, None, amount(resource, budget, experiment.unit))
            verdict, shares = verdict_on(asked, compared, ran_to, metric)
            verdicts.append(verdict)
            rows += [{**row, "win_share": shares.get(row["batch_size"], math.nan)} for row in used]
    cells = pd.DataFrame(rows, columns=BUDGET_CELLS.names)
    return BudgetTables(metric, best.direction, ran_to, experiment.unit, cells, tuple(verdicts), _notes(cells))


def amount(resource: Resource, budget: float, unit: str) -> str:
    """A budget in words: `1,100 examples`, `18 steps`, `4.2 min`."""
    if resource is Resource.HOURS:
        return duration(budget)
    word = unit if resource is Resource.EXAMPLES else resource.value
    return f"{readable(budget)} {word.removesuffix('s') if budget == 1 else word}"


@dataclass(frozen=True)
class Ended:
    """How the trials of one study stand to one budget; all arrays are (n_trials,).

    Attributes:
        whole: whether the trial went on until the budget ended.
        stopped: whether it ended because it reached the run's target.
        judged: whether the search stopped it because it was behind.
        reached: whether it reached the target that the run was made for within the budget.
    """

    whole: Flags
    stopped: Flags
    judged: Flags
    reached: Flags


def _share_until_reached(trials: pd.DataFrame) -> Floats:
    """Share of its steps that every trial made until it reached the run's own target; NaN where it did not."""
    reached = (trials["outcome"] == Outcome.REACHED).to_numpy(dtype=bool)
    own, steps = (trials[name].to_numpy(dtype=float) for name in ("steps_to_target", "steps"))
    return np.where(reached, np.minimum(own / np.maximum(steps, 1), 1), np.nan)


def _cell(
    values: Floats, ended: Ended, names: npt.NDArray[Any], direction: Direction
) -> tuple[dict[str, Any], Compared | None]:
    """One cell, and what a comparison needs of it; None where no trial has an evaluation within the budget."""
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    known = ~np.isnan(values)
    before = ended.stopped & ~ended.whole
    cell: dict[str, Any] = {"value": math.nan, "best_trial": None, "n": len(values), "n_cut": int((~ended.whole).sum())}
    if not known.any():
        return {**cell, "status": Status.MISSING.value}, None
    as_far = bool(ended.whole.any() or before.any())
    better, n_reached = sign * values[known], int(ended.reached.sum())
    unfinished = bool((~ended.whole & ~ended.judged & ~ended.stopped).any())
    if not as_far:
        return {**cell, "status": Status.MISSING.value}, Compared(Status.MISSING, better, unfinished, n_reached)
    place = int(np.nanargmin(sign * values))
    status = Status.STOPPED if before.any() else Status.CUT if cell["n_cut"] else Status.COVERED
    cell |= {"status": status.value, "value": values[place], "best_trial": names[place]}
    return cell, Compared(status, better, unfinished, n_reached)


def _notes(cells: pd.DataFrame) -> tuple[str, ...]:
    found = []
    status = cells["status"]
    if (status == Status.STOPPED).any():
        found.append(
            "Trials stop when they reach the run's target, so budgets beyond that do not say which batch size gives "
            "the best result; a run with 'stopping: full' would."
        )
    if (status == Status.CUT).any():
        found.append(
            "Where some trials were stopped early (cut), the best value is that of the trials that went on: the full "
            "search could only have done better."
        )
    if (status == Status.MISSING).any():
        found.append("A batch size is shown only under budgets that its trials could use.")
    return tuple(found)


__all__ = ["BudgetTables", "BudgetVerdict", "Ended", "Status", "amount", "budget_tables"]
