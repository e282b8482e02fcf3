"""Steps to target along one hyperparameter: the fewest that any trial needed with it in each part of its box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bcrit.analysis.optimum.coordinates import Coordinate, values_of
from bcrit.analysis.optimum.near_optimal import NearOptimal

Floats = npt.NDArray[np.float64]

_BINS, _MANY_BINS, _MANY = 10, 20, 400  # bins of equal scaled width; more for studies of many points. Chosen.


@dataclass(frozen=True, eq=False)
class Profile:
    """The lower envelope of steps along one hyperparameter in one study.

    It says how well a value can do with the others chosen for it, as far as the trials tried that.

    Attributes:
        name: the hyperparameter, or `effective_lr`.
        low: lower end of every bin, in the hyperparameter's unit; (m,).
        high: upper end; (m,).
        ratio: fewest steps in the bin, relative to the study's best point; NaN where none reached the target. (m,).
        n: points in the bin; (m,).
        n_reached: those that reached the target; (m,).
    """

    name: str
    low: Floats
    high: Floats
    ratio: Floats
    n: npt.NDArray[np.int64]
    n_reached: npt.NDArray[np.int64]


def profile(found: NearOptimal, coordinate: Coordinate) -> Profile:
    """Bin a study's points along one coordinate.

    Args:
        found: the study, which reached its target.
        coordinate: along which.

    Returns:
        The profile over the box, or over the range of the points where that is wider.
    """
    scaled = coordinate.scaled(values_of(found.points.rows, coordinate.name))
    here = np.isfinite(scaled)
    start, end = coordinate.ends
    if coordinate.name not in {c.name for c in found.axes.numeric}:  # a computed one has no box of its own
        start, end = (float(scaled[here].min()), float(scaled[here].max())) if here.any() else (start, end)
    edges = np.linspace(start, end if end > start else start + 1, (_MANY_BINS if here.sum() >= _MANY else _BINS) + 1)
    place = np.clip(np.searchsorted(edges, scaled[here], side="right") - 1, 0, len(edges) - 2)
    steps = found.points.steps[here]
    reached, bins = np.isfinite(steps), len(edges) - 1
    fewest = np.full(bins, np.inf)
    np.minimum.at(fewest, place[reached], steps[reached])
    values = np.array([coordinate.unscaled(edge) for edge in edges])
    return Profile(
        name=coordinate.name,
        low=values[:-1],
        high=values[1:],
        ratio=np.where(np.isfinite(fewest), fewest / found.steps, np.nan),
        n=np.bincount(place, minlength=bins),
        n_reached=np.bincount(place[reached], minlength=bins),
    )


__all__ = ["Profile", "profile"]
