"""The points of a study in the unit cube of its search space, whatever kinds of hyperparameters it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from bcrit.analysis.optimum.coordinates import StudyAxes, values_of
from bcrit.analysis.optimum.near_optimal import NearOptimal

Floats = npt.NDArray[np.float64]

_ABSENT = 0.5  # a hyperparameter that an option does not have stands in the middle, so that it separates nothing
_APART = 2**-0.5  # one-hot columns of this size put two options as far apart as the two ends of a box


@dataclass(frozen=True)
class Embedded:
    """A study's points and uniform draws of its space in the same columns.

    Attributes:
        points: (n, d).
        draws: uniform in the scaled coordinates, every option of a choice equally often; (m, d).
        usable: points all of whose active hyperparameters are known numbers; (n,).
    """

    points: Floats
    draws: Floats
    usable: npt.NDArray[np.bool_]


def embed(found: NearOptimal, n_draws: int, seed: int = 0) -> Embedded:
    """Put a study's points and draws of its space into one cube.

    Args:
        found: the study.
        n_draws: a power of 2.
        seed: of the scrambled Sobol draws.

    Returns:
        Both; no columns where nothing was searched.
    """
    axes, rows = found.axes, found.points.rows
    names = list(axes.choices)
    columns, usable = [], np.ones(len(rows), dtype=bool)
    options = {name: rows[name].astype(str).to_numpy(dtype=object) for name in names}
    for coordinate in axes.numeric:
        unit = coordinate.unit(values_of(rows, coordinate.name))
        if coordinate.conditional:
            active = _active(axes, coordinate.name, options, len(rows))
            unit = np.where(active, unit, _ABSENT)
        usable &= np.isfinite(unit)
        columns.append(unit)
    uniform = qmc.Sobol(max(1, len(axes.numeric) + len(names)), rng=np.random.default_rng(seed)).random(n_draws)
    drawn = {
        name: np.array(axes.choices[name], dtype=object)[(uniform[:, place] * len(axes.choices[name])).astype(int)]
        for place, name in enumerate(names, len(axes.numeric))
    }
    draws = [
        np.where(_active(axes, c.name, drawn, n_draws), uniform[:, place], _ABSENT) if c.conditional
        else uniform[:, place]
        for place, c in enumerate(axes.numeric)
    ]  # fmt: skip
    for name in names:
        for option in axes.choices[name]:
            columns.append(_APART * (options[name] == option))
            draws.append(_APART * (drawn[name] == option))
    points = np.column_stack(columns) if columns else np.empty((len(rows), 0))
    return Embedded(points, np.column_stack(draws) if draws else np.empty((n_draws, 0)), usable)


def _active(axes: StudyAxes, name: str, options: dict[str, npt.NDArray[np.object_]], n: int) -> npt.NDArray[np.bool_]:
    choice, under = axes.parents[name]
    return np.isin(options[choice].astype(str), under) if choice in options else np.ones(n, dtype=bool)


__all__ = ["Embedded", "embed"]
