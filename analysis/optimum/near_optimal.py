"""The near-optimal set of a study: the points that cost at most a little more than its best, and what they span."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.curve.table import censored_median
from bcrit.analysis.numbers import Floats
from bcrit.analysis.optimum import coordinates
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.studies.boundary import ran
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

WITHIN: Final = 0.2
"""How much more than the fewest steps is still near-optimal. Chosen, not studied; the command line takes others."""


@dataclass(frozen=True)
class StudyPoints:
    """What one study tried, one row a point.

    A point that was re-run has the median over its seeds, which the luck of the search does not flatter; any other has
    its one search trial.
    """

    batch_size: int
    rows: pd.DataFrame  # the trials that the points come from, with their hyperparameters; (n,)
    steps: Floats  # to target; NaN where not reached; (n,)
    longer_than: Floats  # the steps are known to be more than this; NaN where reached, infinite where diverged; (n,)
    n_set_aside: int  # trials that failed or did not fit into memory: not among the points


def study_points(trials: pd.DataFrame, batch_size: int) -> StudyPoints:
    """A study's trials as points; those that were only re-run (imports) come last."""
    study = trials[trials["batch_size"] == batch_size]
    told = study[ran(study)]
    search, confirm = (told[told["stage"] == stage] for stage in (Stage.SEARCH, Stage.CONFIRM))
    steps = _steps(search)
    diverged = (search["outcome"] == Outcome.DIVERGED).to_numpy()
    longer = np.where(np.isnan(steps), np.where(diverged, math.inf, search["steps"].to_numpy(dtype=float)), math.nan)
    places = {str(trial): place for place, trial in enumerate(search["trial_id"])}
    more: list[tuple[int, float, float]] = []
    for repeats, seeds in confirm.groupby("repeats", sort=True):
        reached = np.nan_to_num(_steps(seeds), nan=math.inf)
        median, bound = censored_median(reached, seeds["steps"].to_numpy(dtype=float))
        number = (median, math.nan) if math.isfinite(median) else (math.nan, bound)
        if (place := places.get(str(repeats))) is not None:
            steps[place], longer[place] = number
        else:
            more.append((int(seeds.index[0]), *number))
    if more:
        search = pd.concat([search, study.loc[[label for label, _, _ in more]]])
        steps = np.concatenate([steps, [number for _, number, _ in more]])
        longer = np.concatenate([longer, [bound for _, _, bound in more]])
    return StudyPoints(batch_size, search.reset_index(drop=True), steps, longer, len(study) - len(told))


def _steps(trials: pd.DataFrame) -> Floats:
    return trials["steps_to_target"].to_numpy(dtype=float, na_value=math.nan).copy()


@dataclass(frozen=True)
class SeedNoise:
    """How much the steps to target of one point differ between seeds."""

    log_sd: float | None  # of log(steps) over a point's seeds, pooled; None where no point was re-run often enough
    freedom: int  # degrees of freedom of that estimate
    n_unreached: int  # seeds that did not reach and are left out, which makes it too small


def seed_noise(trials: pd.DataFrame) -> SeedNoise:
    """The spread over seeds of all points that were re-run, pooled over all studies."""
    confirm = trials[trials["stage"] == Stage.CONFIRM]
    reached = confirm[confirm["steps_to_target"].notna()]
    unreached = int((confirm["steps_to_target"].isna() & ran(confirm)).sum())
    logs = pd.Series(np.log(_steps(reached)))
    groups = logs.groupby([reached["batch_size"].to_numpy(), reached["repeats"].to_numpy()])
    freedom = len(logs) - groups.ngroups
    squares = float(((logs - groups.transform("mean")) ** 2).sum())
    return SeedNoise(math.sqrt(squares / freedom) if freedom else None, freedom, unreached)


@dataclass(frozen=True)
class Range:
    """What the near-optimal points say of one hyperparameter."""

    best: float  # its value at the study's best point
    # Half-way, in the scaled coordinate, between the lowest near-optimal value and the next lower value of any other
    # point; the end of the box where there is none.
    low: float
    high: float  # likewise
    open_low: bool  # that next point is not known to be worse, or there is none: the true end may lie further out
    open_high: bool
    # Middle of the near-optimal values in the scaled coordinate. With 5 % seed noise it lies a tenth to a third closer
    # to the true optimum than the best point does (simulated on a bowl), without noise further off.
    centre: float
    seen_low: float  # lowest near-optimal value
    seen_high: float
    spread: float  # standard deviation of the near-optimal values in the scaled coordinate; 0 for one
    n: int  # near-optimal points that have it


@dataclass(frozen=True)
class NearOptimal:
    """The points of one study sorted by whether they are near-optimal."""

    points: StudyPoints
    axes: coordinates.StudyAxes
    best: Mapping[str, Any]  # hyperparameters of the study's best point; empty where nothing reached the target
    steps: float  # its steps: the confirmed median where there is one
    limit: float  # steps up to which a point is near-optimal; NaN where nothing reached
    inside: Mask  # near-optimal points; (n,)
    worse: Mask  # points that are known to need more steps; (n,). The rest was cut off before `limit`: not known.
    ranges: Mapping[str, Range]  # by coordinate, `effective_lr` among them
    # By choice: option -> (near-optimal points, points that are known to be worse, points).
    options: Mapping[str, Mapping[str, tuple[int, int, int]]]

    @property
    def batch_size(self) -> int:
        """The study."""
        return self.points.batch_size

    @property
    def reached(self) -> bool:
        """Whether any point of the study reached the target."""
        return bool(self.inside.any())

    @property
    def counts(self) -> tuple[int, int, int]:
        """(near-optimal points, those known to be worse, those cut off while they could still be near-optimal)."""
        inside, worse = int(self.inside.sum()), int(self.worse.sum())
        return inside, worse, len(self.inside) - inside - worse

    @property
    def box(self) -> str:
        """What stands for the box, as JSON says it."""
        return "declared" if self.axes.declared else "range of the trials"

    def values(self, coordinate: coordinates.Coordinate) -> Floats:
        """The hyperparameter's value at every point; NaN where it has none; (n,)."""
        return coordinates.values_of(self.points.rows, coordinate.name)

    def span(self, coordinate: coordinates.Coordinate) -> tuple[float, float]:
        """The ends of a coordinate's box; of a computed one, whose corners are empty, those of the points."""
        scaled = coordinate.scaled(self.values(coordinate))
        here = scaled[np.isfinite(scaled)]
        if len(here) and coordinate.name not in {c.name for c in self.axes.numeric}:
            return float(here.min()), float(here.max())
        return coordinate.ends

    def codes(self, choice: str) -> npt.NDArray[np.int64]:
        """The place of every point's option among those of a choice; -1 where it is none of them; (n,)."""
        place = {option: place for place, option in enumerate(self.axes.choices[choice])}
        return np.array([place.get(option, -1) for option in self.points.rows[choice].astype(str)], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class NearOptimalSets:
    """The near-optimal sets of a run."""

    within: float  # share of the fewest steps that counts as near-optimal
    noise: SeedNoise
    studies: tuple[NearOptimal, ...]  # by rising batch size

    @property
    def margin(self) -> float:
        """The share that was used: larger where the seed noise is."""
        return math.expm1(max(math.log1p(self.within), self.noise.log_sd or 0.0))

    @property
    def reached(self) -> tuple[NearOptimal, ...]:
        """The studies that reached the target."""
        return tuple(found for found in self.studies if found.reached)

    def to_json(self) -> dict[str, Any]:
        """What every answer from the sets says of them all."""
        return {"within": self.within, "margin": self.margin, "seed_noise": plain(self.noise)}


def near_optimal_sets(
    trials: pd.DataFrame, studies: pd.DataFrame, boundary: pd.DataFrame, experiment: Experiment, within: float = WITHIN
) -> NearOptimalSets:
    """Find the near-optimal set of every study, of tables as `steps_to_target` and `boundary_table` give them.

    A point is near-optimal if its steps are at most (1 + within) times those of the study's best point, or within one
    standard deviation of the seed noise of it, whichever is more: a set narrower than the noise would be luck.
    """
    noise, whole, found = seed_noise(trials), coordinates.whole_names(trials, experiment), []
    for row in studies.sort_values("batch_size").to_dict("records"):
        points = study_points(trials, int(row["batch_size"]))
        study = points.rows[points.rows["stage"] == Stage.SEARCH]
        axes = coordinates.study_axes(experiment, boundary, points.batch_size, study if len(study) else points.rows)
        found.append(_near_optimal(points, axes, row, max(math.log1p(within), noise.log_sd or 0.0), whole))
    return NearOptimalSets(within, noise, tuple(found))


def _near_optimal(
    points: StudyPoints, axes: coordinates.StudyAxes, row: Mapping[Any, Any], margin: float, whole: frozenset[str]
) -> NearOptimal:
    known = pd.notna(row["best_trial"]) and not math.isnan(row["steps"])
    steps = float(row["steps"]) if known else math.nan
    limit = steps * math.exp(margin)
    with np.errstate(invalid="ignore"):
        inside = points.steps <= limit
        worse = (points.steps > limit) | (points.longer_than >= limit)
    best: dict[str, Any] = {}
    if known:
        own = (points.rows["trial_id"] == row["best_trial"]).to_numpy()
        inside, worse = inside | own, worse & ~own
        names = [c.name for c in axes.numeric] + list(axes.choices)
        best = coordinates.as_whole(
            {name: row[name] for name in names if name in row and not pd.isna(row[name])}, whole
        )
    ranges = {c.name: found for c in axes.coordinates if known and (found := _range(points, c, best, inside, worse))}
    options = {
        name: {option: _counts(points.rows[name], option, inside, worse) for option in options}
        for name, options in axes.choices.items()
    }
    return NearOptimal(points, axes, best, steps, limit, inside, worse, ranges, options)


def _range(
    points: StudyPoints, coordinate: coordinates.Coordinate, best: Mapping[str, Any], inside: Mask, worse: Mask
) -> Range | None:
    """The span of the near-optimal points; None where the best point has no such hyperparameter."""
    values = coordinates.values_of(points.rows, coordinate.name)
    scaled = coordinate.scaled(values)
    near = inside & np.isfinite(scaled)
    members = scaled[near]
    needed = ("lr", "momentum") if coordinate.name == coordinates.EFFECTIVE else (coordinate.name,)
    value = float(coordinates.values_of(best, coordinate.name)[0]) if all(name in best for name in needed) else math.nan
    if not len(members) or not math.isfinite(value):
        return None
    bottom, top = float(members.min()), float(members.max())
    seen_low, seen_high = float(values[near].min()), float(values[near].max())
    start, end = coordinate.ends
    low, open_low = _end(scaled, worse, bottom, -1, min(start, bottom))
    high, open_high = _end(scaled, worse, top, 1, max(end, top))
    # There and back through a logarithm a number may move by its last digit: never past the values themselves.
    return Range(
        best=value,
        low=min(coordinate.unscaled(low), seen_low, value),
        high=max(coordinate.unscaled(high), seen_high, value),
        open_low=open_low,
        open_high=open_high,
        centre=min(max(coordinate.unscaled((bottom + top) / 2), seen_low), seen_high),
        seen_low=seen_low,
        seen_high=seen_high,
        spread=float(members.std(ddof=1)) if len(members) > 1 else 0.0,
        n=len(members),
    )


def _end(scaled: Floats, worse: Mask, own: float, side: int, box: float) -> tuple[float, bool]:
    """Half-way from the outermost near-optimal value to the next point beyond it, and whether that leaves it open."""
    beyond = side * (scaled - own)
    outside = beyond > 0
    if not outside.any():
        return box, True
    nearest = float(beyond[outside].min())
    return own + side * nearest / 2, not bool(worse[outside & (beyond == nearest)].any())


def _counts(column: pd.Series[Any], option: str, inside: Mask, worse: Mask) -> tuple[int, int, int]:
    mine = (column.astype(str) == option).to_numpy()
    return int((mine & inside).sum()), int((mine & worse).sum()), int(mine.sum())


def evenly(places: Places, most: int) -> Places:
    """At most so many of the places, every second, third ... of them."""
    return places[:: max(1, -(-len(places) // most))]
