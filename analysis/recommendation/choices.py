"""Choosing a batch size: the best one for an objective under limits, what binds, and what would have to give."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from bcrit.analysis.recommendation.terms import Floats, Terms, quantities

LIMITED = {"max_hours": "hours", "max_cost": "cost", "max_steps": "steps", "max_examples": "examples"}
"""The quantity that each limit limits."""

End = Literal["", "_low", "_high"]

_SCAN = 600  # batch sizes a pass: steps of 1 to 3 % on any range of interest, and three passes reach rounding
_TOLERANCE = 1e-9  # a limit computed from the curve itself is met, not missed by rounding


@dataclass(frozen=True)
class Place:
    """A batch size on one kind and number of devices.

    Attributes:
        terms: the fit and the hardware.
        batch_size: in the unit of the fit.
        takes: the row of `quantities` there.
    """

    terms: Terms
    batch_size: float
    takes: Mapping[str, float]


@dataclass(frozen=True)
class LimitMissed:
    """A limit that has to give.

    Attributes:
        limit: its name.
        given: its value.
        needed: the least value that would do, by the estimate.
        needed_high: the upper end of its interval there: the value that would do safely; None without an interval.
        alone: whether it is enough to raise this one limit; otherwise all that are listed must be raised together.
        batch_size: where that value would do.
        device: on which kind of device.
        devices: on how many.
    """

    limit: str
    given: float
    needed: float
    needed_high: float | None
    alone: bool
    batch_size: float
    device: str | None
    devices: int | None


def optimum(offers: Iterable[Terms], objective: str, limits: Mapping[str, float], end: End = "") -> Place | None:
    """Find the batch size and hardware with the least objective among those that keep all limits.

    Batch sizes are those within the measured range. On the curve the range is scanned three times, each time around
    the last pass's best (or, where none keeps the limits, around the one that comes nearest), down to single batch
    sizes; the smallest wins a tie. This finds the closed-form optima of `Hyperbola` to the whole number, and works for
    measured step times, which have no closed form. Of two kinds of hardware that tie, the faster wins.

    Args:
        offers: what a training may run on.
        objective: a column of `quantities`.
        limits: by name, see `LIMITED`.
        end: which end of the interval must keep the limits; the estimate by default.

    Returns:
        The place, or None if none keeps all limits.
    """
    found = [place for terms in offers if (place := _optimum_on(terms, objective, limits, end)) is not None]
    # Without step times the hours are NaN, but then there is one offer only and nothing is compared.
    return min(found, key=lambda place: (place.takes[objective], place.takes["hours"]), default=None)


def _optimum_on(terms: Terms, objective: str, limits: Mapping[str, float], end: End) -> Place | None:
    # On fixed hardware cost is hours times a constant; hours still tell batch sizes apart where it is free.
    sought = "hours" if objective in ("cost", "hours_x_cost") else objective
    sizes, place = terms.sizes(_SCAN), None
    for _ in range(3 if terms.on_curve and len(sizes) > 1 else 1):
        if not len(sizes):
            return None
        table = quantities(terms, sizes)
        excess = _excess(table, limits, end)
        kept = excess <= 1 + _TOLERANCE
        best = int(np.argmin(np.where(kept, table[sought], math.inf) if kept.any() else excess))
        takes = {str(name): float(number) for name, number in table.iloc[best].items()}
        place = Place(terms, float(sizes[best]), takes) if kept[best] else None
        around = sizes[max(best - 1, 0) : best + 2]
        sizes = terms.rounded(np.append(np.geomspace(around[0], around[-1], _SCAN), around))
    return place


def binding_limits(
    offers: Sequence[Terms], objective: str, limits: Mapping[str, float], best: Place
) -> tuple[str, ...]:
    """Find the limits that decide: the fewest whose removal betters the objective, of these the ones that do most.

    One limit, unless each of several excludes all that is better: then removing one of them alone would gain nothing.

    Args:
        offers: what a training may run on.
        objective: what was minimised.
        limits: under which.
        best: the optimum.

    Returns:
        Their names; empty where no limit changes the choice.
    """

    def value(place: Place | None) -> float:
        assert place is not None  # fewer limits cannot make it infeasible
        return place.takes[objective]

    for count in range(1, len(limits) + 1):
        few = combinations(limits, count)
        least, names = min((value(optimum(offers, objective, without(limits, names))), names) for names in few)
        if least * (1 + _TOLERANCE) < value(best):
            return names
    return ()


def missed_limits(offers: Sequence[Terms], limits: Mapping[str, float]) -> tuple[LimitMissed, ...]:
    """Say which limits have to give, by how much and where, when no batch size on any hardware keeps all of them.

    If raising one limit alone is enough, each such limit is listed with the least value that would do while the others
    stay. Otherwise the limits that the balanced choice misses are listed with its values: raised together they are
    enough.

    Args:
        offers: what a training may run on.
        limits: which none of them keeps.

    Returns:
        At least one limit.
    """
    alone = []
    for name, given in limits.items():
        place = optimum(offers, LIMITED[name], without(limits, [name]))
        if place is not None:
            alone.append(_missed(name, given, place, alone=True))
    if alone:
        return tuple(alone)
    balanced = optimum(offers, balance(offers), {})
    assert balanced is not None  # without limits every batch size will do
    found = [_missed(name, given, balanced, alone=False) for name, given in limits.items()]
    return tuple(missed for missed in found if missed.needed > missed.given)


def balance(offers: Sequence[Terms]) -> Literal["hours_x_cost", "steps_x_examples"]:
    """What the balanced choice minimises: hours x cost where hardware differs, else steps x examples."""
    return "hours_x_cost" if len(offers) > 1 else "steps_x_examples"


def without(limits: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """The other limits."""
    return {other: limit for other, limit in limits.items() if other not in names}


def _missed(name: str, given: float, place: Place, alone: bool) -> LimitMissed:
    hardware, high = place.terms.hardware, place.takes[f"{LIMITED[name]}_high"]
    return LimitMissed(
        limit=name,
        given=given,
        needed=place.takes[LIMITED[name]],
        needed_high=None if math.isnan(high) else high,
        alone=alone,
        batch_size=place.batch_size,
        device=hardware.device if hardware else None,
        devices=hardware.devices if hardware else None,
    )


def _excess(table: pd.DataFrame, limits: Mapping[str, float], end: End) -> Floats:
    """The largest ratio of what is taken to what is allowed, at each batch size; infinite where it is not known."""
    ratios = [table[f"{LIMITED[name]}{end}"].fillna(math.inf).to_numpy() / limit for name, limit in limits.items()]
    return np.asarray(np.max([np.zeros(len(table)), *ratios], axis=0))


__all__ = ["LIMITED", "LimitMissed", "Place", "balance", "binding_limits", "missed_limits", "optimum", "without"]
