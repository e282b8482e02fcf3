"""The best result of each batch size under a budget of steps, examples or time (Shallue et al. 2018, section 4.8).

What can be limited, the budgets to look at, the best value of every trial within each, what it is, and who wins by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.numbers import Told, duration, readable
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Chunk, Floats, Integers
from bcrit.analysis.studies import stopped_at_target, that_count
from bcrit.analysis.studies.boundary import Flags
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import BUDGET_CELLS
from bcrit.search_spaces.target import Direction, Target

N_BUDGETS = 6
"""Budgets of the default grid of each resource. Chosen, not studied."""

_RANGE = 16.0
"""The smallest default budget is this fraction of the largest. Chosen, not studied."""

CLEAR = 0.9
"""A study is the clear winner if it is best in this share of the resamples. Chosen, not studied."""

FEWEST_TRIALS = 3
"""Of each study; with fewer, resampling them says nothing of their spread. Chosen, not studied."""

_NEVER = 1e-17
"""A probability that changes no sum of probabilities in floating point."""


class Resource(StrEnum):
    """What a budget limits; the budget itself is inside the limit (Shallue et al. 2018)."""

    STEPS = "steps"
    EXAMPLES = "examples"
    HOURS = "hours"

    def spent(self, trials: pd.DataFrame) -> Floats:
        """What every trial used by its end; NaN where it was not recorded. (n_trials,)."""
        if self is Resource.HOURS:
            seconds = trials["train_seconds"].to_numpy(dtype=float)
            return np.asarray(np.where(seconds > 0, seconds / 3600, np.nan))
        return np.asarray(trials[self.value].to_numpy(dtype=float))


Budgets = Mapping[Resource, tuple[float, ...]]
"""Rising budgets by resource; none for a resource that was not recorded."""


def read_budgets(given: Mapping[Resource, Sequence[float]]) -> Budgets:
    """The user's budgets in rising order, of resources that were given; what is no positive number is an InputError."""
    problems = [
        f"--{resource.value}: a budget is a positive number, but it is {value:g}; give how much may be used"
        for resource, values in given.items()
        for value in values
        if not 0 < value < math.inf
    ]
    if problems:
        raise InputError("budgets", problems)
    return {resource: tuple(sorted(set(values))) for resource, values in given.items() if values}


def default_budgets(trials: pd.DataFrame, stopped: Flags) -> Budgets:
    """Choose budgets by equal factors up to the largest under which all studies can still be compared.

    That is the most that every study used, by the trials that count; and where those stop at the run's target
    (`stopped`), what the second study needs until then: beyond, two have stopped. At most `N_BUDGETS` a resource,
    rounded to two digits; none where fewer than two studies used any.
    """
    found: dict[Resource, tuple[float, ...]] = {}
    counts = that_count(trials)
    trials, stopped = trials[counts], stopped[counts]
    batch = trials["batch_size"].to_numpy()
    for resource in Resource:
        spent = pd.Series(resource.spent(trials))
        used = spent.groupby(batch).max()
        used = used[used > 0]
        if len(used) < 2:
            continue
        first_stops = spent[stopped].groupby(batch[stopped]).min().sort_values()
        largest = min([float(used.min()), *first_stops.iloc[1:2]])
        budgets = {_rounded_down(value) for value in np.geomspace(largest / _RANGE, largest, N_BUDGETS)}
        if resource is Resource.STEPS:
            budgets = {max(1.0, math.floor(budget)) for budget in budgets}
        found[resource] = tuple(sorted(budgets))
    return found


def _rounded_down(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit * (1 + 1e-12)) * unit:.2g}")


@dataclass
class BestWithin:
    """Best values so far; it fills while it reads the measurements.

    Every evaluation belongs to the smallest budget that holds it, and runs of evaluations that belong together are
    reduced at once. `value` then takes the best over all smaller budgets too. The evaluation before any step does not
    count: an untrained model has used no budget.
    """

    budgets: Budgets
    direction: Direction
    batch_size: Floats  # of every trial; (n_trials,)
    _best: dict[Resource, Floats]  # (n_trials, n_budgets + 1), the smaller the better

    @classmethod
    def of(cls, budgets: Budgets, direction: Direction, batch_size: Floats) -> BestWithin:
        """Nothing is known yet. Beyond each resource's last budget there is a column for what no budget holds."""
        n = len(batch_size)
        best = {resource: np.full((n, len(of) + 1), np.inf) for resource, of in budgets.items()}
        return cls(budgets, direction, batch_size, best)

    @property
    def sign(self) -> float:
        """By which values are multiplied so that the smaller is the better."""
        return self.direction.sign

    def take(self, chunk: Chunk) -> None:
        """Read on."""
        value = np.where((chunk.step > 0) & np.isfinite(chunk.value), self.sign * chunk.value, np.inf)
        for resource, budgets in self.budgets.items():
            # NaN (time that was not recorded) sorts above everything: no budget holds it.
            place = np.searchsorted(np.array(budgets), self._used(resource, chunk), side="left")
            cell = chunk.trial * (len(budgets) + 1) + place
            starts = np.concatenate([[0], np.flatnonzero(cell[1:] != cell[:-1]) + 1])
            np.minimum.at(self._best[resource].reshape(-1), cell[starts], np.minimum.reduceat(value, starts))

    def _used(self, resource: Resource, chunk: Chunk) -> Floats:
        if resource is Resource.HOURS:
            assert chunk.train_seconds is not None
            return chunk.train_seconds / 3600
        used = chunk.step.astype(float)
        return used * self.batch_size[chunk.trial] if resource is Resource.EXAMPLES else used

    def forget(self, trials: Integers) -> None:
        """Go back to the beginning of these trials."""
        for best in self._best.values():
            best[trials] = np.inf

    def value(self, resource: Resource) -> Floats:
        """Best value of each trial within each budget, NaN where it has none; (n_trials, n_budgets)."""
        best = np.minimum.accumulate(self._best[resource][:, :-1], axis=1)
        return np.where(np.isinf(best), np.nan, self.sign * best)


def win_shares(values: Mapping[int, Floats]) -> dict[int, float]:
    """How often each study is best when the trials of all studies are drawn again.

    The best of n trials falls with n and is lucky. So m trials are drawn with replacement from each study and their
    best values compared, m half the smallest number of trials of any. (The plain bootstrap, m = n, fails for a minimum;
    fewer draws mend that: Bickel, Goetze and van Zwet 1997. In our simulation of 2 equal studies of 5 to 40 trials it
    named a clear winner in 37 to 45 %, this one in 10 to 14 %, and of 5 equal studies in under 2 %.) No random numbers
    are needed: the best of m draws is no better than the j-th best of n with probability ((n - j + 1) / n)^m. A tie
    counts half.

    `values` are by batch size those of its trials, smaller is better, none of them NaN. The shares sum to 1; there are
    none where a study has fewer than three trials, or there are fewer than two studies.
    """
    if len(values) < 2 or min(len(mine) for mine in values.values()) < FEWEST_TRIALS:
        return {}
    m = round(min(len(mine) for mine in values.values()) / 2)
    ordered = {batch_size: np.sort(mine) for batch_size, mine in values.items()}
    found = {}
    for batch_size, mine in ordered.items():
        tail = ((len(mine) - np.arange(len(mine) + 1)) / len(mine)) ** m
        chance = tail[:-1] - tail[1:]  # of each value to be the best
        # Of thousands of trials nearly all are so far behind that they are never the best of m draws.
        mine, chance = mine[tail[:-1] > _NEVER], chance[tail[:-1] > _NEVER]
        for other, theirs in ordered.items():
            if other != batch_size:
                chance = chance * (_worse(theirs, mine, m, "right") + _worse(theirs, mine, m, "left")) / 2
        found[batch_size] = float(chance.sum())
    total = sum(found.values())  # 1 but for ties of three or more
    return {batch_size: share / total for batch_size, share in found.items()}


def _worse(ordered: Floats, than: Floats, m: int, side: Literal["left", "right"]) -> Floats:
    """Probability that the best of m draws is worse than each number; `left` counts a tie as worse."""
    return np.asarray((1 - np.searchsorted(ordered, than, side=side) / len(ordered)) ** m)


Columns = dict[str, npt.NDArray[Any]]  # of some trials; (n_trials,)


class Status(Told):
    """What the best value within a budget is, and the sentence that says so to a newcomer."""

    COVERED = "covered", "Every trial that counts could use the whole budget."
    CUT = "cut", "Some trials were stopped before; the full search could only have done better."
    STOPPED = "stopped", "Trials reached the target before and stopped; what they would have reached is not known."
    MISSING = "missing", "No trial was trained as far, or was evaluated as early."


_NOTES = {
    Status.STOPPED: "Trials stop when they reach the run's target, so budgets beyond that do not say which batch size "
    "gives the best result; a run with 'stopping: full' would.",
    Status.CUT: "Where some trials were stopped early (cut), the best value is that of the trials that went on: the "
    "full search could only have done better.",
    Status.MISSING: "A batch size is shown only under budgets that its trials could use.",
}


@dataclass(frozen=True)
class BudgetVerdict:
    """Which batch size wins under one budget."""

    resource: Resource  # what is limited
    budget: float  # the limit, in steps, examples or hours
    sentence: str  # the verdict in words
    winner: int | None = None  # the batch size; None where there is no clear one
    leader: int | None = None  # the batch size with the best value that can be compared; None where nothing can
    # Share of the resamples in which each batch size is best; none where that says nothing.
    shares: Mapping[int, float] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """That of the leader."""
        return None if self.leader is None else self.shares.get(self.leader)


@dataclass(frozen=True)
class Compared:
    """What a study brings into the comparison under one budget."""

    status: Status  # what its best value is; `missing` where no trial was trained as far
    values: Floats  # best values of its trials within the budget, the better the smaller; (n,), at least one
    # Whether a trial ended before the budget that neither reached the run's target nor was stopped by the search for
    # being behind: what it would have reached is open.
    unfinished: bool
    n_reached: int  # trials that reached the run's target within the budget

    @property
    def open(self) -> bool:
        """Whether it may yet be best."""
        return self.unfinished or self.status is Status.MISSING


def verdict_on(
    resource: Resource, budget: float, unit: str, studies: Mapping[int, Compared], ran_to: Target, metric: str
) -> BudgetVerdict:
    """Judge one budget, by the studies that have any evaluation within it.

    Reached beats not reached, where the values are of the target's metric. Of studies that reached the run's target and
    stopped there nobody knows which is best. A study whose trials ended before the budget without being judged may yet
    be best, so that there is no winner beside it. Otherwise resampling the trials decides
    (`bcrit.analysis.targets.budgets.win_shares`).
    """

    def verdict(said: str, winner: int | None = None, leader: int | None = None, **more: Any) -> BudgetVerdict:
        within = f"Within {amount(resource, budget, unit)} {said}"
        return BudgetVerdict(resource, budget, within, winner, winner if leader is None else leader, **more)

    shown = {batch_size: study for batch_size, study in studies.items() if study.status is not Status.MISSING}
    if len(shown) < 2:
        return verdict("there is nothing to compare: fewer than two batch sizes were trained as far.")
    if any(study.status is Status.STOPPED for study in shown.values()):
        reached = [batch_size for batch_size, study in studies.items() if study.n_reached]
        others = [b for b, study in studies.items() if b not in reached and study.open]
        if len(reached) == 1 and not others and metric == ran_to.metric:
            only = f"only batch size {reached[0]:,} reaches {ran_to}"
            if studies[reached[0]].n_reached == 1:
                return verdict(f"{only}, in one trial: that may be luck.", leader=reached[0])
            return verdict(f"{only}.", winner=reached[0])
        who = f"batch sizes {_list(reached)} reach" if len(reached) > 1 else f"batch size {_list(reached)} reaches"
        stop = "stop" if len(reached) > 1 else "stops"
        best = "is best" if metric == ran_to.metric else f"has the best {metric}"
        not_as_far = f" {_list(others)} were not trained as far." if others else ""
        return verdict(f"{who} {ran_to} and {stop} there; which {best} is not known.{not_as_far}")
    leader = min(shown, key=lambda b: (shown[b].values.min(), b))
    best = f"batch size {leader:,} is best"
    rivals = [batch_size for batch_size, study in studies.items() if batch_size != leader and study.open]
    if rivals:
        return verdict(f"{best} so far, but trials at {_list(rivals)} ended before.", leader=leader)
    shares = win_shares({b: study.values for b, study in shown.items()})
    if not shares:
        return verdict(f"{best}, but with fewer than {FEWEST_TRIALS} trials that may be luck.", leader=leader)
    if shares[leader] >= CLEAR:
        return verdict(f"{best} (in {shares[leader]:.0%} of resamples of the trials).", winner=leader, shares=shares)
    close = _list(sorted(b for b, share in shares.items() if share > (1 - CLEAR) / 2))
    return verdict(f"there is no clear winner among the batch sizes {close}.", leader=leader, shares=shares)


def _list(batch_sizes: list[int]) -> str:
    return ", ".join(f"{batch_size:,}" for batch_size in batch_sizes)


def amount(resource: Resource, budget: float, unit: str) -> str:
    """A budget in words: `1,100 examples`, `18 steps`, `4.2 min`."""
    if resource is Resource.HOURS:
        return duration(budget)
    word = unit if resource is Resource.EXAMPLES else resource.value
    return f"{readable(budget)} {word.removesuffix('s') if budget == 1 else word}"


@dataclass(frozen=True)
class BudgetTables:
    """What one run says about budgets."""

    metric: str  # what is best
    direction: Direction
    target: Target  # at which trials may have stopped
    cells: pd.DataFrame  # one row a resource, budget and batch size, with the columns of `BUDGET_CELLS`
    verdicts: tuple[BudgetVerdict, ...]  # one a resource and budget

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know when reading it."""
        return tuple(note for status, note in _NOTES.items() if (self.cells["status"] == status).any())

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict over all budgets, one sentence a resource."""
        found = []
        for resource, what in zip(Resource, ("Steps", "Examples", "Time"), strict=True):
            mine = [verdict for verdict in self.verdicts if verdict.resource is resource]
            won = [verdict.winner for verdict in mine if verdict.winner is not None]
            share = f"clearly wins under {len(won)} of {len(mine)} budgets."
            if mine and not won:
                found.append(f"{what}: under none of {len(mine)} budgets does one batch size clearly win.")
            elif len(set(won)) == 1:
                found.append(f"{what}: batch size {won[0]:,} {share}")
            elif mine:
                found.append(f"{what}: one batch size, from {min(won):,} to {max(won):,}, {share}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit budgets --json`."""
        found: dict[str, Any] = {"metric": self.metric, "direction": self.direction.value, "target": str(self.target)}
        found |= {resource.value: [] for resource in Resource}
        for verdict in self.verdicts:
            mine = (self.cells["resource"] == verdict.resource) & (self.cells["budget"] == verdict.budget)
            cells = self.cells[mine].drop(columns=["resource", "budget"]).to_dict("records")
            told = {name: getattr(verdict, name) for name in ("budget", "winner", "leader", "share", "sentence")}
            found[verdict.resource.value].append({**told, "cells": cells})
        answer: dict[str, Any] = plain({**found, "notes": self.notes})
        return answer


def budget_tables(trials: pd.DataFrame, experiment: Experiment, best: BestWithin, ran_to: Target) -> BudgetTables:
    """Reduce the trials' best values to studies and judge every budget.

    Search trials count; a study without any shows its re-runs. A trial that failed says nothing. One that diverged
    counts under the budgets that had ended before, as it would have ended there; an imported one does not.

    `trials` is the table as it was recorded, `best` is of these trials, `ran_to` the target that the run was made for.
    """
    metric, stopped, counting = experiment.target.metric, stopped_at_target(trials), that_count(trials)
    outcome, batch = trials["outcome"].to_numpy(dtype=str), trials["batch_size"].to_numpy()
    judged = np.isin(outcome, [Outcome.PRUNED.value, Outcome.CAPPED.value])
    diverged = outcome == Outcome.DIVERGED.value
    names = trials["trial_id"].to_numpy()
    rows: list[dict[str, Any]] = []
    verdicts = []
    for resource, budgets in best.budgets.items():
        spent, values = resource.spent(trials), best.value(resource)
        until_reached = spent * _share_until_reached(trials)
        for place, budget in enumerate(budgets):
            whole = spent >= budget
            ended: Columns = {
                "trial": names,
                "value": best.sign * values[:, place],  # the better the smaller
                "whole": whole,  # went on until the budget ended
                "stopped": stopped & ~np.isnan(spent),  # ended because it reached the run's target
                "judged": judged,  # stopped by the search because it was behind
                "reached": until_reached <= budget,  # the run's target, within the budget
            }
            counts = counting & (~diverged | (whole & (experiment.imported is None)))
            of = {}
            for size in experiment.batch_sizes:
                mine = (batch == size) & counts
                of[size] = _cell({name: column[mine] for name, column in ended.items()}, best.sign)
            compared = {size: study for size, (_, study) in of.items() if study is not None}
            verdicts.append(verdict_on(resource, budget, experiment.unit, compared, ran_to, metric))
            for size, (cell, _) in of.items():
                share = verdicts[-1].shares.get(size, math.nan)
                told = {"resource": resource.value, "budget": budget, "batch_size": size}
                rows.append({**told, **cell, "win_share": share})
    cells = pd.DataFrame(rows, columns=BUDGET_CELLS.names)
    return BudgetTables(metric, best.direction, ran_to, cells, tuple(verdicts))


def _share_until_reached(trials: pd.DataFrame) -> Floats:
    """Share of its steps that every trial made until it reached the run's own target; NaN where it did not."""
    reached = (trials["outcome"] == Outcome.REACHED).to_numpy(dtype=bool)
    own, steps = (trials[name].to_numpy(dtype=float) for name in ("steps_to_target", "steps"))
    return np.where(reached, np.minimum(own / np.maximum(steps, 1), 1), np.nan)


def _cell(ended: Columns, sign: float) -> tuple[dict[str, Any], Compared | None]:
    """One cell, and what a comparison needs of it; None where no trial has an evaluation within the budget."""
    values, cut = ended["value"], ~ended["whole"]
    known, before, n_cut = values[~np.isnan(values)], ended["stopped"] & cut, int(cut.sum())
    cell = {"status": Status.MISSING.value, "value": math.nan, "best_trial": None, "n": len(values), "n_cut": n_cut}
    if not len(known):
        return cell, None
    status = Status.MISSING
    if before.any() or not cut.all():
        status = Status.STOPPED if before.any() else Status.CUT if n_cut else Status.COVERED
        first = int(np.nanargmin(values))
        cell |= {"status": status.value, "value": sign * values[first], "best_trial": ended["trial"][first]}
    unfinished = bool((cut & ~ended["judged"] & ~ended["stopped"]).any())
    return cell, Compared(status, known, unfinished, int(ended["reached"].sum()))
