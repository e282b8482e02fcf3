"""The search space of runs whose tracker kept none: the smallest box around what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.dimensions import Box
from search_spaces.space import SearchSpace

# Positive values that span this factor were chosen on a logarithmic scale, as learning rates and weight decays are.
# Chosen, not studied.
_LOG_FACTOR = 10.0
_MOMENTUM = "momentum"


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
        "scale": _scale(name, low, high, whole=all(isinstance(v, int) for v in different)),
        "low": low,
        "high": high,
    }


def _scale(name: str, low: float, high: float, whole: bool) -> str:
    if name == _MOMENTUM and 0 <= low and high < 1:
        return "reverse_log"
    if low > 0 and high / low >= _LOG_FACTOR:
        return "log"
    return "integer" if whole else "linear"


__all__ = ["tried_in_study", "tried_space"]
