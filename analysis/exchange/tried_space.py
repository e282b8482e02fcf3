"""The search space of runs whose tracker kept none: the smallest box around what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bcrit.analysis.records.tried_scale import tried_scale
from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.space import SearchSpace


def tried_space(columns: Mapping[str, Sequence[Any]]) -> SearchSpace:
    """Describe what was tried of every hyperparameter.

    An optimum on the edge of such a box lies at the smallest or largest value that anybody tried, which is what the
    boundary rule is to report; the middle of the box means as much as the values between.

    Args:
        columns: the values of each hyperparameter, one for each trial, all of one type; None where a trial has none.

    Returns:
        A fixed value, a choice or a box for each; those that not every trial has are left out, because whether they
        exist depends on the others in a way that the tracker does not tell.
    """
    return SearchSpace.model_validate(
        {name: _dimension(name, values) for name, values in columns.items() if values and None not in values}
    )


def tried_in_study(whole: SearchSpace, columns: Mapping[str, Sequence[Any]]) -> SearchSpace:
    """Narrow the space of all studies to what one of them tried, on the same scales.

    Args:
        whole: of all studies.
        columns: the values of each hyperparameter in the study.

    Returns:
        The study's space.
    """
    found: dict[str, Any] = {}
    for name, values in columns.items():
        if not values or None in values:
            continue
        dimension = whole.root.get(name)
        own = _dimension(name, values)
        if isinstance(dimension, Box) and own["scale"] != "fixed":
            own["scale"] = dimension.model_dump()["scale"]
        found[name] = own
    return SearchSpace.model_validate(found)


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    different = set(values)
    if len(different) == 1:
        return {"scale": "fixed", "value": values[0]}
    if isinstance(values[0], str):
        return {"scale": "choice", "options": sorted(different)}
    low, high = min(different), max(different)
    return {
        "scale": box_scale(name, low, high, whole=all(isinstance(v, int) for v in different)),
        "low": low,
        "high": high,
    }


def box_scale(name: str, low: float, high: float, whole: bool) -> str:
    """The scale of a box around tried values: `tried_scale`, or `integer` for whole numbers on a linear one.

    Args:
        name: of the hyperparameter, in our words.
        low: the smallest value.
        high: the largest.
        whole: whether all values are whole numbers.
    """
    scale = tried_scale(name, low, high)
    return "integer" if whole and scale == "linear" else scale


__all__ = ["box_scale", "tried_in_study", "tried_space"]
