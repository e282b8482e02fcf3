"""Choosing a batch size: the best one for an objective under limits, what binds, and what would have to give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.recommendation.frontier import Terms, quantities, whole

Floats = npt.NDArray[np.float64]

LIMITED = {"max_hours": "hours", "max_cost": "cost", "max_steps": "steps", "max_examples": "examples"}
"""The quantity that each limit limits."""

_SCAN = 4000  # batch sizes a pass: steps of 0.3 % or finer on any range of interest, and three passes reach rounding
_TOLERANCE = 1e-9  # a limit computed from the curve itself is met, not missed by rounding


@dataclass(frozen=True)
class LimitMissed:
    """A limit that has to give.

    Attributes:
        limit: its name.
        given: its value.
        needed: the least value that would do.
        alone: whether it is enough to raise this one limit; otherwise all that are listed must be raised together.
    """

    limit: str
    given: float
    needed: float
    alone: bool


def optimum(terms: Terms, objective: str, limits: Mapping[str, float]) -> float | None:
    """Find the batch size with the least objective among those that keep all limits, within the measured range.

    On the curve the range is scanned three times, each time around the last pass's best, down to single batch sizes;
    the smallest wins a tie. This finds the closed-form optima of `Hyperbola` to the whole number, and works for
    measured step times, which have no closed form.

    Args:
        terms: the fit, step times, prices.
        objective: a column of `quantities`.
        limits: by name, see `LIMITED`.

    Returns:
        The batch size, or None if none keeps all limits.
    """
    sizes = np.array(sorted(terms.measured))
    for _ in range(3 if terms.on_curve else 1):
        if terms.on_curve:
            sizes = whole(np.geomspace(sizes[0], sizes[-1], _SCAN), terms)
        table = quantities(terms, sizes)
        value = table[objective].where(_kept(table, limits), math.inf).to_numpy()
        best = int(np.argmin(value))
        if not math.isfinite(value[best]):
            return None
        chosen = float(sizes[best])
        sizes = sizes[max(best - 1, 0) : best + 2]
    return chosen


def binding_limit(terms: Terms, objective: str, limits: Mapping[str, float], best: float) -> str | None:
    """Find the limit whose removal would better the objective most; None where no limit changes the choice.

    Args:
        terms: the fit, step times, prices.
        objective: what was minimised.
        limits: under which.
        best: the optimum.
    """

    def value(batch_size: float | None) -> float:
        assert batch_size is not None  # fewer limits cannot make it infeasible
        return float(quantities(terms, np.array([batch_size]))[objective].iloc[0])

    if value(best) <= value(optimum(terms, objective, {})) * (1 + _TOLERANCE):
        return None
    return min(limits, key=lambda name: value(optimum(terms, objective, _without(limits, name))))


def missed_limits(terms: Terms, limits: Mapping[str, float]) -> tuple[LimitMissed, ...]:
    """Say which limits have to give, and by how much, when no batch size keeps all of them.

    If raising one limit alone is enough, each such limit is listed with the least value that would do while the others
    stay.
    Otherwise the limits that the balanced choice misses are listed with its values: raised together they are enough.

    Args:
        terms: the fit, step times, prices.
        limits: which no batch size keeps.

    Returns:
        At least one limit.
    """
    alone = []
    for name, given in limits.items():
        size = optimum(terms, LIMITED[name], _without(limits, name))
        if size is not None:
            needed = float(quantities(terms, np.array([size]))[LIMITED[name]].iloc[0])
            alone.append(LimitMissed(name, given, needed, alone=True))
    if alone:
        return tuple(alone)
    balanced = optimum(terms, "steps_x_examples", {})
    assert balanced is not None  # without limits every batch size will do
    row = quantities(terms, np.array([balanced])).iloc[0]
    needed_by_limit = {name: float(row[LIMITED[name]]) for name in limits}
    return tuple(
        LimitMissed(name, limits[name], needed, alone=False)
        for name, needed in needed_by_limit.items()
        if needed > limits[name]
    )


def _kept(table: pd.DataFrame, limits: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    kept = np.ones(len(table), dtype=bool)
    for name, limit in limits.items():
        kept &= table[LIMITED[name]].to_numpy() <= limit * (1 + _TOLERANCE)
    return kept


def _without(limits: Mapping[str, float], name: str) -> dict[str, float]:
    return {other: limit for other, limit in limits.items() if other != name}
