"""Which hyperparameters are whole numbers: a table that lacks a value somewhere holds them as fractions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bcrit.search_spaces.dimensions import Integer
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import hyperparameter


def whole_names(trials: pd.DataFrame, experiment: Experiment) -> frozenset[str]:
    """The hyperparameters that are whole numbers by what was declared or by how the trials recorded them.

    A column of whole numbers in which one is missing (a study without a best point, a hyperparameter that exists under
    some options only) becomes one of fractions in pandas, so that the values themselves do not tell.

    Args:
        trials: the trials table.
        experiment: the declared space; lengths of schedules in steps are whole without a declaration.

    Returns:
        Their names.
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


__all__ = ["as_whole", "whole_names"]
