"""The near-optimal set of a study: the points that cost at most a little more than its best, and what they span."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.optimum.coordinates import Coordinate, StudyAxes, study_axes, values_of
from bcrit.analysis.optimum.points import SeedNoise, StudyPoints, seed_noise, study_points
from bcrit.analysis.optimum.whole_numbers import as_whole, whole_names
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WITHIN: Final = 0.2
"""How much more than the fewest steps is still near-optimal. Chosen, not studied; the command line takes others."""


@dataclass(frozen=True)
class Range:
    """What the near-optimal points say of one hyperparameter.

    Attributes:
        best: its value at the study's best point.
        low: lower end: half-way, in the scaled coordinate, between the lowest near-optimal value and the next lower
            value of any other point; the end of the box where there is none.
        high: likewise.
        open_low: whether that next point is not known to be worse, or there is none: the true end may lie further out.
        open_high: likewise.
        centre: middle of the near-optimal values in the scaled coordinate. With 5 % seed noise it lies a tenth to a
            third closer to the true optimum than the best point does (simulated on a bowl), without noise further off.
        seen_low: lowest near-optimal value.
        seen_high: highest near-optimal value.
        spread: standard deviation of the near-optimal values in the scaled coordinate; 0 for one.
        n: near-optimal points that have it.
    """

    best: float
    low: float
    high: float
    open_low: bool
    open_high: bool
    centre: float
    seen_low: float
    seen_high: float
    spread: float
    n: int


@dataclass(frozen=True)
class NearOptimal:
    """The points of one study sorted by whether they are near-optimal.

    Attributes:
        points: what was tried.
        axes: in which coordinates.
        best: hyperparameters of the study's best point; empty where nothing reached the target.
        steps: its steps: the confirmed median where there is one.
        limit: steps up to which a point is near-optimal; NaN where nothing reached.
        inside: near-optimal points; (n,).
        worse: points that are known to need more steps; (n,). The rest was cut off before `limit`: not known.
        ranges: by coordinate, `effective_lr` among them.
        options: by choice: option -> (near-optimal points, points that are known to be worse, points).
    """

    points: StudyPoints
    axes: StudyAxes
    best: Mapping[str, Any]
    steps: float
    limit: float
    inside: Mask
    worse: Mask
    ranges: Mapping[str, Range]
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
    def n_inside(self) -> int:
        """Near-optimal points."""
        return int(self.inside.sum())

    @property
    def n_worse(self) -> int:
        """Points known to be worse."""
        return int(self.worse.sum())

    @property
    def n_unknown(self) -> int:
        """Points that were cut off while they could still have been near-optimal."""
        return len(self.inside) - self.n_inside - self.n_worse


def near_optimal_sets(
    trials: pd.DataFrame,
    studies: pd.DataFrame,
    boundary: pd.DataFrame,
    experiment: Experiment,
    within: float = WITHIN,
) -> tuple[tuple[NearOptimal, ...], SeedNoise]:
    """Find the near-optimal set of every study.

    A point is near-optimal if its steps are at most (1 + within) times those of the study's best point, or within one
    standard deviation of the seed noise of it, whichever is more: a set narrower than the noise would be luck.

    Args:
        trials: the trials table.
        studies: one row a study, as `steps_to_target` gives them.
        boundary: the boundary verdicts, for the boxes.
        experiment: the declared space.
        within: share of the fewest steps, above 0.

    Returns:
        The sets by rising batch size, and the seed noise of the run.
    """
    noise = seed_noise(trials)
    margin, whole = max(math.log1p(within), noise.log_sd or 0.0), whole_names(trials, experiment)
    found = []
    for row in studies.sort_values("batch_size").to_dict("records"):
        points = study_points(trials, int(row["batch_size"]))
        study = points.rows[points.rows["stage"] == Stage.SEARCH]
        axes = study_axes(experiment, boundary, points.batch_size, study if len(study) else points.rows)
        found.append(_near_optimal(points, axes, row, margin, whole))
    return tuple(found), noise


def _near_optimal(
    points: StudyPoints, axes: StudyAxes, row: Mapping[Any, Any], margin: float, whole: frozenset[str]
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
        best = as_whole({name: row[name] for name in names if name in row and not pd.isna(row[name])}, whole)
    ranges = {c.name: found for c in axes.coordinates if known and (found := _range(points, c, best, inside, worse))}
    options = {
        name: {option: _counts(points.rows[name], option, inside, worse) for option in options}
        for name, options in axes.choices.items()
    }
    return NearOptimal(points, axes, best, steps, limit, inside, worse, ranges, options)


def _range(
    points: StudyPoints, coordinate: Coordinate, best: Mapping[str, Any], inside: Mask, worse: Mask
) -> Range | None:
    """The span of the near-optimal points; None where the best point has no such hyperparameter."""
    values = values_of(points.rows, coordinate.name)
    scaled = coordinate.scaled(values)
    near = inside & np.isfinite(scaled)
    members = scaled[near]
    try:
        value = float(values_of(best, coordinate.name)[0])
    except KeyError:
        return None
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


__all__ = ["WITHIN", "NearOptimal", "Range", "near_optimal_sets"]
