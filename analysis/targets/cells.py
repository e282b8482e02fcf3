"""One cell of the grid: what a study can say about the steps to a target that its trials did not stop at.

A trial is trained until it reaches the run's own target, until a rule stops it, or until its budget ends. For another
target its curve tells the first crossing, or that there was none *by its last step*. So the fewest steps over the
trials of a study are known only if no trial was stopped before them that might have been faster:

- `valid`: none was. Trials that diverged could not have reached it.
- `upper`: some feasible trial ended earlier without reaching it, so the steps are an upper bound of the fewest. If each
  of them was *behind*, that is its best value was no better than that of the fastest trial at the same step, then the
  bound rests on the judgement that a trial which is behind does not overtake. The search makes that judgement at its
  own target every time it stops a trial. If one of them was *ahead*, no such judgement helps: trials that stopped at
  the run's own target are ahead at every stricter one.
- `lower`: no trial reached it. The steps are more than what was trained: by any trial, as for the run's own target, but
  where trials stopped at the run's own target, only more than the earliest of those stops.
- `missing`: no trial that counts was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.curve.table import censored_median
from bcrit.analysis.numbers import Told
from bcrit.analysis.records.one_pass import Floats, Integers
from bcrit.analysis.studies import median_interval, stopped_at_target
from bcrit.analysis.studies.boundary import Flags, ran
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.target import Direction, Target

Names = npt.NDArray[np.object_]


class Status(Told):
    """What the steps of a cell are, and the sentence that says so to a newcomer."""

    VALID = "valid", "No trial that might have been faster was stopped before."
    UPPER = "upper", "A trial that was stopped earlier might have been faster: an upper bound."
    LOWER = "lower", "No trial reached the target: more steps than this."
    MISSING = "missing", "No trial that counts was measured."


@dataclass(frozen=True)
class Ended:
    """How the trials of one study ended; all arrays are (n_trials,)."""

    steps: Floats  # optimizer updates made
    feasible: Flags  # False where it diverged: it would never have reached anything more
    stopped: Flags  # True where it ended because it reached the run's own target

    def some(self, which: Flags) -> Ended:
        """Those that are marked."""
        return Ended(self.steps[which], self.feasible[which], self.stopped[which])


@dataclass(frozen=True)
class Verdict:
    """What a study says about one target."""

    status: Status
    steps: float  # fewest steps to the target, or the bound where `lower`; NaN where missing
    n_cut: int = 0  # feasible trials that ended before `steps` without reaching; 0 unless `upper`
    n_ahead: int = 0  # those among them that were ahead of the fastest when they ended

    @property
    def fits(self) -> bool:
        """Whether the cell enters a fit: as a point, or where `lower` as a bound. An overtaken upper bound does not."""
        return self.status is not Status.MISSING and self.n_ahead == 0


def cut_before(crossing: Floats, ended: Ended) -> Flags:
    """The feasible trials that ended before the fewest steps without reaching the target; none where no trial did."""
    fewest = np.nanmin(crossing, initial=np.inf)
    cut: Flags = ended.feasible & np.isnan(crossing) & (ended.steps < fewest) & np.isfinite(fewest)
    return cut


def judge(crossing: Floats, ended: Ended, ahead: Flags) -> Verdict:
    """Apply the rule to steps to the target, NaN where not reached; `ahead` is only read where a trial was cut."""
    cut = cut_before(crossing, ended)
    fewest = float(np.nanmin(crossing, initial=np.inf))
    if np.isfinite(fewest):
        n_cut, n_ahead = int(cut.sum()), int((cut & (ahead | ended.stopped)).sum())
        return Verdict(Status.UPPER if n_cut else Status.VALID, fewest, n_cut, n_ahead)
    if not ended.feasible.any():
        return Verdict(Status.MISSING, math.nan)
    stops = ended.steps[ended.feasible & ended.stopped]
    return Verdict(Status.LOWER, float(stops.min() if len(stops) else ended.steps[ended.feasible].max()))


@dataclass(frozen=True)
class Trials:
    """Some trials of one study with their crossings. Arrays are (n_trials,) and (n_trials, n_targets)."""

    ids: Names
    confirm: Flags  # which are re-runs on fresh seeds
    repeats: Names  # for re-runs the search trial whose point it is
    number: Floats  # place among those of the study and stage
    ended: Ended
    best: Floats  # best value of the metric
    steps: Floats  # steps to each target, NaN where not reached
    steps_low: Floats  # the evaluation before

    def some(self, which: Flags) -> Trials:
        """Those that are marked."""
        names = (self.ids[which], self.confirm[which], self.repeats[which], self.number[which])
        return Trials(*names, self.ended.some(which), self.best[which], self.steps[which], self.steps_low[which])

    @cached_property
    def search(self) -> Trials:
        """The trials of the search."""
        return self.some(~self.confirm)

    @cached_property
    def seeds(self) -> Trials:
        """The re-runs."""
        return self.some(self.confirm)

    def fastest(self, target: int) -> int:
        """Place of the trial with the fewest steps, the earlier one on a tie; some trial must have reached."""
        steps = np.where(np.isnan(self.steps[:, target]), np.inf, self.steps[:, target])
        return int(np.lexsort((self.number, steps))[0])


def trials_of(frame: pd.DataFrame, steps: Floats, steps_low: Floats, best: Floats, imported: bool) -> dict[int, Trials]:
    """The trials that count, by batch size.

    A trial that failed says nothing. One that diverged counts where it reached a target before, as it would have
    stopped there; an imported one does not (Shallue et al. 2018: infeasible is who diverged at any point).
    """
    diverged = frame["outcome"].to_numpy(dtype=str) == Outcome.DIVERGED.value
    everything = Trials(
        frame["trial_id"].to_numpy(dtype=object),
        (frame["stage"] == Stage.CONFIRM).to_numpy(dtype=bool),
        np.array([str(name) for name in frame["repeats"]], dtype=object),
        frame["number"].to_numpy(dtype=float),
        Ended(frame["steps"].to_numpy(dtype=float), ~diverged, stopped_at_target(frame)),
        best,
        np.where(diverged[:, None], np.nan, steps) if imported else steps,
        steps_low,
    )
    counts, batch = ran(frame), frame["batch_size"].to_numpy()
    return {int(b): everything.some(counts & (batch == b)) for b in np.unique(batch)}


def winners(study: Trials) -> dict[int, str]:
    """By column of the target, the fastest search trial where another was cut before it: their curves are needed."""
    search = study.search
    cut = [cut_before(search.steps[:, target], search.ended).any() for target in range(search.steps.shape[1])]
    return {target: search.ids[search.fastest(target)] for target in np.flatnonzero(cut).tolist()}


def ahead_of(search: Trials, direction: Direction, curve: tuple[Integers, Floats] | None) -> Flags:
    """Which trials were ahead of the fastest one when they ended: their best value was better than its best by then.

    `curve` is (steps, values) of the fastest trial; None where nobody was cut before it.
    """
    if curve is None:
        return np.zeros(len(search.ids), dtype=bool)
    best_so_far = np.fmin if direction is Direction.MINIMIZE else np.fmax
    steps, values = curve
    values = best_so_far.accumulate(np.concatenate([[direction.worst], values]))
    then = values[np.searchsorted(steps, search.ended.steps, side="right")]
    better: Flags = search.best < then if direction is Direction.MINIMIZE else search.best > then
    return better


def seeds_stand_for(study: Trials, column: int, within: float) -> bool:
    """Whether one of the re-run points was, in the search, near-optimal for a target; True where nothing was searched.

    `within` is the share of the fewest steps that counts as near-optimal.
    """
    search = study.search
    steps = search.steps[:, column]
    near = set(search.ids[steps <= (1 + within) * np.nanmin(steps, initial=np.inf)])
    return not near or not near.isdisjoint(study.seeds.repeats)


def cell(
    batch_size: int, study: Trials, target: Target, column: int, ahead: Flags, *, by_seeds: bool, own: bool
) -> dict[str, Any]:
    """Reduce a study to its steps to one target, a `column` of the crossings: a row of `TARGET_CELLS`.

    `ahead` are the search trials that were ahead of the fastest when they ended (`ahead_of`). The number is the median
    over the seeds of the best re-run point (`by_seeds`), where there is one; else that of the best search trial, which
    is biased low by the luck of the search. At the run's own target it is what the search and its stopping rule found,
    in all that is computed from the run, so that the cell always enters the fit.
    """
    search, found = study.search, None
    verdict = judge(search.steps[:, column], search.ended, ahead)
    if len(study.seeds.ids) and (by_seeds or not len(search.ids)):
        found = _confirmed(study, column, verdict)
    verdict, told = found or (verdict, _searched(search, column))
    return {
        "threshold": target.threshold,
        "batch_size": batch_size,
        "status": verdict.status,
        "steps": verdict.steps,
        **told,
        "n_cut": verdict.n_cut,
        "n_ahead": verdict.n_ahead,
        "fits": verdict.fits or (own and verdict.status is not Status.MISSING),
    }


def _searched(search: Trials, column: int) -> dict[str, Any]:
    """Of the best search trial, which has no interval."""
    steps, resolution = search.steps[:, column], math.nan
    n_reached = int((~np.isnan(steps)).sum())
    if n_reached:
        fastest = search.fastest(column)
        resolution = float(steps[fastest] - search.steps_low[fastest, column])
    ends = {"steps_low": math.nan, "steps_high": math.nan}
    return {**ends, "source": "search", "n": len(steps), "n_reached": n_reached, "resolution": resolution}


def _confirmed(study: Trials, column: int, verdict: Verdict) -> tuple[Verdict, dict[str, Any]] | None:
    """The re-run point with the smallest median; None where its seeds stopped at the run's own target before."""
    points, ended = [], study.search.ended
    for name in sorted(set(study.seeds.repeats)):
        point = study.seeds.some(study.seeds.repeats == name)
        steps = np.where(np.isnan(point.steps[:, column]), np.inf, point.steps[:, column])
        points.append((*censored_median(steps, point.ended.steps), point, steps))
    median, bound, point, steps = min(points, key=lambda p: (p[0], p[2].number.min()))
    reached = np.isfinite(steps)
    low, high, _ = median_interval(list(steps))
    told = {
        "steps_low": low,
        "steps_high": high,
        "source": "confirm",
        "n": len(steps),
        "n_reached": int(reached.sum()),
        "resolution": float(np.median((point.steps - point.steps_low)[reached, column])) if reached.any() else math.nan,
    }
    if np.isinf(median):
        return None if (point.ended.stopped & ~reached).any() else (Verdict(Status.LOWER, bound), told)
    # Seeds that ended before the median without reaching might have been below it. So might other points, where the
    # search stopped all its trials at the run's own target and before this one.
    n_ahead = int((~reached & point.ended.feasible & (point.ended.steps < median)).sum())
    if verdict.status is Status.LOWER:
        n_ahead += int((ended.stopped & (ended.steps < median)).sum())
    n_cut = n_ahead + verdict.n_cut
    return Verdict(Status.UPPER if n_cut else Status.VALID, median, n_cut, n_ahead + verdict.n_ahead), told
