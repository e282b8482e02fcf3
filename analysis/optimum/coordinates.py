"""The numeric hyperparameters of a run as coordinates: their scale, their box in each study, their values at trials."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.numbers import Floats
from bcrit.analysis.studies import searched_spaces
from bcrit.search_spaces.dimensions import Box, Choice, Integer, Log, ReverseLog
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import OPTIMIZERS, STEPS_OF, Scale, has_effective_lr, tried_scale
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.tables import TRIALS

EFFECTIVE: Final = "effective_lr"
"""lr / (1 - momentum), along which the optimum moves when momentum does (Shallue et al. 2018, section 4.7)."""


@dataclass(frozen=True)
class Coordinate:
    """One numeric hyperparameter, or one computed from two, in one study."""

    name: str  # the column, or `effective_lr`
    scale: Scale  # of the coordinate in which equal distances matter equally
    low: float  # ends of the study's box, in the hyperparameter's unit
    high: float
    conditional: bool = False  # it exists under some options of a choice only

    @property
    def ends(self) -> tuple[float, float]:
        """The scaled coordinate of `low` and of `high`, rising: minus log(1 - value) for reverse_log."""
        low, high = self.scaled([self.low, self.high]).tolist()
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
        return between(self.scaled(values), *self.ends)


def between(scaled: Floats, low: float, high: float) -> Floats:
    """The place from 0 at `low` to 1 at `high`; the middle where there is no room."""
    return (scaled - low) / (high - low) if high > low else np.full(np.shape(scaled), 0.5)


@dataclass(frozen=True)
class StudyAxes:
    """What was searched in one study."""

    # One that exists under several options stands once, with the span of its boxes.
    numeric: tuple[Coordinate, ...]
    choices: Mapping[str, tuple[str, ...]]  # options by name of the hyperparameter
    parents: Mapping[str, tuple[str, tuple[str, ...]]]  # conditional one -> (choice, options under which it exists)
    declared: bool  # whether a search space was; else the range of the trials stands for it
    summed: bool = True  # whether lr / (1 - momentum) is what matters, by the optimizer

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
        return tuple(effective if effective and coordinate.name == "lr" else coordinate for coordinate in self.numeric)


def study_axes(experiment: Experiment, boundary: pd.DataFrame, batch_size: int, search: pd.DataFrame) -> StudyAxes:
    """What was searched in a study: its declared space, widened as it was at the end.

    Where no space was declared (imports without one) the range of its trials, `search`, stands for the box.
    """
    space = searched_spaces(experiment, boundary, batch_size)[-1]
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


def _observed(search: pd.DataFrame, summed: bool) -> StudyAxes:
    """What varied among the trials, on the scale that its name or its range suggests."""
    numeric, choices = [], {}
    for name in TRIALS.beside(search.columns):
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
    """A coordinate's values at trials or points, given as columns; NaN where it does not exist."""
    if name == EFFECTIVE:
        lr, momentum = values_of(frame, "lr"), values_of(frame, "momentum")
        return np.asarray(lr / np.where(momentum < 1, 1 - momentum, np.nan))
    return np.asarray(pd.to_numeric(pd.Series(np.atleast_1d(np.asarray(frame[name]))), errors="coerce"), dtype=float)


def whole_names(trials: pd.DataFrame, experiment: Experiment) -> frozenset[str]:
    """The hyperparameters that are whole numbers by what was declared or by how the trials recorded them.

    A column of whole numbers in which one is missing (a study without a best point, a hyperparameter that exists under
    some options only) becomes one of fractions in pandas, so that the values themselves do not tell. Lengths of
    schedules in steps are whole without a declaration.
    """
    declared = {hyperparameter(name) for name, axis in experiment.space.axes.items() if isinstance(axis, Integer)}
    recorded = {str(name) for name in trials.columns if pd.api.types.is_integer_dtype(trials[name])}
    return frozenset(declared | recorded | set(STEPS_OF.values()))


def as_whole(point: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """A point with these hyperparameters as whole numbers; nothing is rounded, a fraction stays one."""
    return {
        name: int(value) if name in names and isinstance(value, float) and value.is_integer() else value
        for name, value in point.items()
    }
