"""One cell of the grid: the steps of one study to one target, where they come from, and what they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bcrit.analysis.curve.table import censored_median
from bcrit.analysis.records.one_pass import Floats, Integers
from bcrit.analysis.studies.steps_to_target import median_interval
from bcrit.analysis.targets.study_trials import Trials
from bcrit.analysis.targets.validity import Flags, Status, Verdict, cut_before, judge
from bcrit.search_spaces.target import Direction, Target


@dataclass(frozen=True)
class Cell:
    """The steps of one study to one target.

    Attributes:
        batch_size: the study.
        threshold: of the target.
        status: `valid`, `upper`, `lower` or `missing`; see `bcrit.analysis.targets.validity`.
        steps: steps to target, or the bound; NaN where missing.
        steps_low: lower end of the interval over seeds; NaN without seeds.
        steps_high: upper end; inf where seeds did not reach.
        source: `confirm`: median over the seeds of the best re-run point; `search`: best search trial.
        n: seeds, or search trials that count.
        n_reached: those among them that reached.
        n_cut: feasible trials that were stopped earlier.
        n_ahead: those among them that were ahead of the fastest.
        resolution: width of the interval between evaluations at the crossing, in steps.
        fits: whether the cell enters the fit.
    """

    batch_size: int
    threshold: float
    status: Status
    steps: float
    steps_low: float
    steps_high: float
    source: str
    n: int
    n_reached: int
    n_cut: int
    n_ahead: int
    resolution: float
    fits: bool


def ahead_of(search: Trials, direction: Direction, curve: tuple[Integers, Floats] | None) -> Flags:
    """Which trials were ahead of the fastest one when they ended: their best value was better than its best by then.

    Args:
        search: the search trials of one study.
        direction: of the metric.
        curve: (steps, values) of the fastest trial; None where nobody was cut before it.
    """
    nobody = np.zeros(len(search.ids), dtype=bool)
    if curve is None:
        return nobody
    best_so_far = np.fmin if direction is Direction.MINIMIZE else np.fmax
    steps, values = curve
    values = best_so_far.accumulate(np.concatenate([[direction.worst], values]))
    then = values[np.searchsorted(steps, search.ended.steps, side="right")]
    better: Flags = search.best < then if direction is Direction.MINIMIZE else search.best > then
    return better


def winners(study: Trials) -> dict[int, str]:
    """By column of the target, the fastest search trial where another was cut before it: their curves are needed."""
    search, found = study.search, {}
    for target in range(search.steps.shape[1]):
        if cut_before(search.steps[:, target], search.ended).any():
            found[target] = search.ids[search.fastest(target)]
    return found


def seeds_stand_for(study: Trials, column: int, within: float) -> bool:
    """Whether one of the re-run points was, in the search, near-optimal for a target; True where nothing was searched.

    Args:
        study: its trials.
        column: of the target.
        within: share of the fewest steps that counts as near-optimal.
    """
    search = study.search
    steps = search.steps[:, column]
    near = np.flatnonzero(steps <= (1 + within) * np.nanmin(steps, initial=np.inf))
    return not len(near) or not {search.ids[int(place)] for place in near}.isdisjoint(study.seeds.repeats)


def cell(
    batch_size: int, study: Trials, target: Target, column: int, ahead: Flags, *, by_seeds: bool, own: bool
) -> Cell:
    """Reduce a study to its steps to one target.

    Args:
        batch_size: the study.
        study: its trials.
        target: the target.
        column: its column in the crossings.
        ahead: of the search trials, those that were ahead of the fastest when they ended.
        by_seeds: take the median over the seeds of the best re-run point, where there is one; else the best search
            trial, which is biased low by the luck of the search.
        own: whether it is the run's own target. There the number is what the search and its stopping rule found, in all
            that is computed from the run, so that the cell always enters the fit.

    Returns:
        The cell.
    """
    search, seeds = study.search, study.seeds
    steps = search.steps[:, column]
    verdict = judge(steps, search.ended, ahead)
    reached = ~np.isnan(steps)
    if len(seeds.ids) and (by_seeds or not len(search.ids)):
        found = _confirmed(batch_size, search, seeds, target, column, verdict, own)
        if found is not None:
            return found
    fastest = search.fastest(column) if reached.any() else None
    return Cell(
        batch_size=batch_size,
        threshold=target.threshold,
        status=verdict.status,
        steps=verdict.steps,
        steps_low=math.nan,
        steps_high=math.nan,
        source="search",
        n=len(search.ids),
        n_reached=int(reached.sum()),
        n_cut=verdict.n_cut,
        n_ahead=verdict.n_ahead,
        resolution=math.nan if fastest is None else float(steps[fastest] - search.steps_low[fastest, column]),
        fits=verdict.fits or (own and verdict.status is not Status.MISSING),
    )


def _confirmed(
    batch_size: int, search: Trials, seeds: Trials, target: Target, column: int, verdict: Verdict, own: bool
) -> Cell | None:
    """The re-run point with the smallest median; None where its seeds stopped at the run's own target before."""
    points = []
    for name in sorted(set(seeds.repeats)):
        point = seeds.some(np.array(seeds.repeats) == name)
        steps = np.where(np.isnan(point.steps[:, column]), np.inf, point.steps[:, column])
        points.append((*censored_median(steps, point.ended.steps), point, steps))
    median, bound, point, steps = min(points, key=lambda p: (p[0], p[2].number.min()))
    reached = np.isfinite(steps)
    if np.isinf(median) and (point.ended.stopped & ~reached).any():
        return None
    # Seeds that ended before the median without reaching might have been below it. So might other points, where the
    # search stopped all its trials at the run's own target and before this one.
    n_cut = n_ahead = 0
    if np.isfinite(median):
        n_ahead = int((~reached & point.ended.feasible & (point.ended.steps < median)).sum())
        if verdict.status is Status.LOWER:
            n_ahead += int((search.ended.stopped & (search.ended.steps < median)).sum())
        n_cut = n_ahead + verdict.n_cut
    low, high, _ = median_interval(list(steps))
    return Cell(
        batch_size=batch_size,
        threshold=target.threshold,
        status=Status.LOWER if np.isinf(median) else Status.UPPER if n_cut else Status.VALID,
        steps=float(median if np.isfinite(median) else bound),
        steps_low=low,
        steps_high=high,
        source="confirm",
        n=len(steps),
        n_reached=int(reached.sum()),
        n_cut=n_cut,
        n_ahead=n_ahead + verdict.n_ahead if n_cut else 0,
        resolution=float(np.median((point.steps - point.steps_low)[reached, column])) if reached.any() else math.nan,
        fits=own or not n_cut or n_ahead + verdict.n_ahead == 0,
    )


__all__ = ["Cell", "ahead_of", "cell", "seeds_stand_for", "winners"]
