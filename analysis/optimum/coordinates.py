"""The numeric hyperparameters of a run as coordinates: their scale, their box in each study, their values at trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.records.tried_scale import Scale, tried_scale
from bcrit.search_spaces.dimensions import Box, Choice, Log, ReverseLog
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import OPTIMIZERS
from bcrit.search_spaces.space import SearchSpace, hyperparameter
from bcrit.search_spaces.space_rules import has_effective_lr
from bcrit.search_spaces.tables import TRIALS

Floats = npt.NDArray[np.float64]

EFFECTIVE: Final = "effective_lr"
"""lr / (1 - momentum), along which the optimum moves when momentum does (Shallue et al. 2018, section 4.7)."""


@dataclass(frozen=True)
class Coordinate:
    """One numeric hyperparameter, or one computed from two, in one study.

    Attributes:
        name: the column, or `effective_lr`.
        scale: of the coordinate in which equal distances matter equally.
        low: lower end of the study's box, in the hyperparameter's unit.
        high: upper end.
        conditional: whether it exists under some options of a choice only.
    """

    name: str
    scale: Scale
    low: float
    high: float
    conditional: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The scaled coordinate of `low` and of `high`, rising: minus log(1 - value) for reverse_log."""
        low, high = (float(end) for end in self.scaled(np.array([self.low, self.high])))
        return low, high

    def scaled(self, values: npt.ArrayLike) -> Floats:
        """The coordinate, which rises with the value; NaN where the scale does not reach."""
        given = np.asarray(values, dtype=float)
        if self.scale == "linear":
            return given
        rest = given if self.scale == "log" else 1 - given
        found = np.log(np.where(rest > 0, rest, np.nan))
        return found if self.scale == "log" else -found

    def unscaled(self, coordinate: float) -> float:
        """The inverse of `scaled`."""
        if self.scale == "linear":
            return float(coordinate)
        return float(np.exp(coordinate)) if self.scale == "log" else float(-np.expm1(-coordinate))

    def unit(self, values: npt.ArrayLike) -> Floats:
        """The place in the box, from 0 to 1."""
        low, high = self.ends
        return (self.scaled(values) - low) / (high - low) if high > low else np.full(np.shape(values), 0.5)


@dataclass(frozen=True)
class StudyAxes:
    """What was searched in one study.

    Attributes:
        numeric: one for each numeric hyperparameter; one that exists under several options stands once, with the span
            of its boxes.
        choices: options by name of the hyperparameter.
        parents: conditional hyperparameter -> (choice, options under which it exists).
        declared: whether a search space was; else the range of the trials stands for it.
        summed: whether lr / (1 - momentum) is what matters, by the optimizer.
    """

    numeric: tuple[Coordinate, ...]
    choices: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, tuple[str, tuple[str, ...]]]
    declared: bool
    summed: bool = True

    @property
    def effective(self) -> Coordinate | None:
        """Lr / (1 - momentum) where both are searched and it matters; its box is the span of the box's corners."""
        by_name = {coordinate.name: coordinate for coordinate in self.numeric}
        lr, momentum = by_name.get("lr"), by_name.get("momentum")
        if not self.summed or lr is None or momentum is None or momentum.high >= 1 or lr.low <= 0:
            return None
        return Coordinate(EFFECTIVE, "log", lr.low / (1 - momentum.low), lr.high / (1 - momentum.high))

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The effective learning rate first, where there is one, then those searched."""
        return self.numeric if self.effective is None else (self.effective, *self.numeric)

    @property
    def decoupled(self) -> tuple[Coordinate, ...]:
        """The searched ones with the effective learning rate in the place of the learning rate."""
        effective = self.effective
        if effective is None:
            return self.numeric
        return tuple(effective if coordinate.name == "lr" else coordinate for coordinate in self.numeric)


def study_axes(experiment: Experiment, boundary: pd.DataFrame, batch_size: int, search: pd.DataFrame) -> StudyAxes:
    """Read what was searched in a study: its declared space, widened as it was at the end.

    Args:
        experiment: the declared space.
        boundary: the boundary verdicts, whose `widened_to` moved the box.
        batch_size: the study.
        search: its trials, whose range stands for the box where no space was declared (imports without one).

    Returns:
        The axes; none where nothing varied.
    """
    space = _last(experiment.space_at(batch_size), boundary[boundary["batch_size"] == batch_size])
    # An import may not say what made the updates, or in words of its own: then its momentum is taken for SGD's.
    unknown = experiment.imported is not None and experiment.optimizer.lower() not in OPTIMIZERS
    summed = unknown or has_effective_lr(experiment.optimizer.lower())
    if not space.axes:
        return _observed(search, summed)
    numeric: dict[str, Coordinate] = {}
    parents: dict[str, tuple[str, tuple[str, ...]]] = {}
    for address, axis in space.axes.items():
        name = hyperparameter(address)
        if not isinstance(axis, Box) or name not in search.columns:
            continue
        scale: Scale = "log" if isinstance(axis, Log) else "reverse_log" if isinstance(axis, ReverseLog) else "linear"
        low, high = axis.low, axis.high
        if name in numeric:
            low, high = min(low, numeric[name].low), max(high, numeric[name].high)
        numeric[name] = Coordinate(name, scale, low, high, conditional="." in address)
        if "." in address:
            choice, option, _ = address.split(".")
            parents[name] = (choice, (*parents.get(name, ("", ()))[1], option))
    choices = {
        name: tuple(axis.options)
        for name, axis in space.axes.items()
        if isinstance(axis, Choice) and len(axis.options) > 1 and name in search.columns
    }
    return StudyAxes(tuple(numeric.values()), choices, parents, declared=True, summed=summed)


def _last(space: SearchSpace, boundary: pd.DataFrame) -> SearchSpace:
    for row in boundary[boundary["widened_to"].notna()].sort_values("round").to_dict("records"):
        box = space.box(row["dimension"]).model_copy(update={row["side"]: row["widened_to"]})
        space = space.replace(row["dimension"], box)
    return space


def _observed(search: pd.DataFrame, summed: bool) -> StudyAxes:
    """What varied among the trials, on the scale that its name or its range suggests."""
    numeric, choices = [], {}
    for name in (column for column in search.columns if column not in TRIALS.names):
        values = search[name].dropna()
        if values.nunique() < 2:
            continue
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            low, high = float(values.min()), float(values.max())
            numeric.append(Coordinate(name, tried_scale(name, low, high), low, high))
        else:
            choices[name] = tuple(sorted(map(str, values.unique())))
    return StudyAxes(tuple(numeric), choices, {}, declared=False, summed=summed)


def values_of(frame: pd.DataFrame | Mapping[str, Any], name: str) -> Floats:
    """A coordinate's values at trials or points, given as columns; NaN where it does not exist.

    Args:
        frame: hyperparameters by name.
        name: a hyperparameter, or `effective_lr`.
    """
    if name == EFFECTIVE:
        lr, momentum = values_of(frame, "lr"), values_of(frame, "momentum")
        rest = np.where(momentum < 1, 1 - momentum, np.nan)
        return np.asarray(lr / rest)
    return np.asarray(pd.to_numeric(pd.Series(np.atleast_1d(np.asarray(frame[name]))), errors="coerce"), dtype=float)


__all__ = ["EFFECTIVE", "Coordinate", "Scale", "StudyAxes", "study_axes", "values_of"]
