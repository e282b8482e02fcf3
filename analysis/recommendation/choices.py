"""Choosing a batch size: the best one under limits, what binds or has to give, how sure it is, at which prices."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from bcrit.analysis.recommendation.hardware import title
from bcrit.analysis.recommendation.terms import Floats, Terms, quantities

LIMITED = {"max_hours": "hours", "max_cost": "cost", "max_steps": "steps", "max_examples": "examples"}
"""The quantity that each limit limits."""

ROOM = 0.1
"""A stretch of batch sizes is named in which training takes at most this share longer. Chosen, not studied."""

End = Literal["", "_low", "_high"]

_SCAN = 600  # batch sizes a pass: steps of 1 to 3 % on any range of interest, and three passes reach rounding
_TOLERANCE = 1e-9  # a limit computed from the curve itself is met, not missed by rounding
_GRID = 400  # batch sizes at which the stretch is sought, a step of 1 to 3 %
_CURVES = 41  # values of b_crit across its interval at which kinds of hardware are compared


@dataclass(frozen=True)
class Place:
    """A batch size on one kind and number of devices."""

    terms: Terms
    batch_size: float
    takes: Mapping[str, float]  # the row of `quantities` there


def optimum(offers: Iterable[Terms], objective: str, limits: Mapping[str, float], end: End = "") -> Place | None:
    """Find the batch size and hardware with the least objective among those that keep all limits; None if none does.

    The objective is a column of `quantities`, and `end` of the interval must keep the limits. Batch sizes are those
    within the measured range. On the curve the range is scanned three times, each time around the last pass's best (or,
    where none keeps the limits, around the one that comes nearest), down to single batch sizes; the smallest wins a
    tie. This finds the closed-form optima of `Hyperbola` to the whole number, and works for measured step times, which
    have no closed form. Of two kinds of hardware that tie, the faster wins.
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


def _excess(table: pd.DataFrame, limits: Mapping[str, float], end: End) -> Floats:
    """The largest ratio of what is taken to what is allowed, at each batch size; infinite where it is not known."""
    ratios = [table[f"{LIMITED[name]}{end}"].fillna(math.inf).to_numpy() / limit for name, limit in limits.items()]
    return np.asarray(np.max([np.zeros(len(table)), *ratios], axis=0))


def balance(offers: Sequence[Terms]) -> Literal["hours_x_cost", "steps_x_examples"]:
    """What the balanced choice minimises: hours x cost where hardware differs, else steps x examples."""
    return "hours_x_cost" if len(offers) > 1 else "steps_x_examples"


def without(limits: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """The other limits."""
    return {other: limit for other, limit in limits.items() if other not in names}


def binding_limits(
    offers: Sequence[Terms], objective: str, limits: Mapping[str, float], best: Place
) -> tuple[str, ...]:
    """The limits that decide: the fewest whose removal betters the objective, of these the ones that do most.

    One limit, unless each of several excludes all that is better: then removing one of them alone would gain nothing.
    Empty where no limit changes the choice.
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


@dataclass(frozen=True)
class LimitMissed:
    """A limit that has to give."""

    limit: str
    given: float
    needed: float  # the least value that would do, by the estimate
    needed_high: float | None  # the upper end of its interval there: what would do safely; None without an interval
    alone: bool  # whether raising this one is enough; otherwise all that are listed must be raised together
    batch_size: float  # where that value would do
    device: str | None  # on which kind of device
    devices: int | None  # on how many

    @property
    def hardware(self) -> str:
        """On what, as sentences and tables name it."""
        return title(self.device, self.devices)


def missed_limits(offers: Sequence[Terms], limits: Mapping[str, float]) -> tuple[LimitMissed, ...]:
    """Say which limits have to give, by how much and where, when no batch size on any hardware keeps all of them.

    If raising one limit alone is enough, each such limit is listed with the least value that would do while the others
    stay. Otherwise the limits that the balanced choice misses are listed with its values: raised together they are
    enough.
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


@dataclass(frozen=True)
class Certainty:
    """What the fit leaves open about one choice."""

    # The interval of the best batch size on the chosen hardware; None where b_crit is not identified. Both ends lie
    # within the measured range.
    batch_size_low: float | None
    batch_size_high: float | None
    rivals: tuple[str, ...]  # other hardware that is the better choice for some values in the interval of the fit
    # Between these, training takes at most a tenth longer than at the choice; None without step times or where b_crit
    # is not identified.
    room_low: float | None
    room_high: float | None

    @property
    def room(self) -> tuple[float, float] | None:
        """The stretch with room, where it is known."""
        return None if self.room_low is None or self.room_high is None else (self.room_low, self.room_high)


def certainty(
    offers: Sequence[Terms], objective: str, place: Place, limits: Mapping[str, float], binding: Sequence[str]
) -> Certainty:
    """Carry the interval of the fit to a choice that minimised this objective, with the fit's own level.

    Where no limit binds, the best batch size depends on the curve through b_crit alone: S(B) t(B) = s_min (1 + b_crit /
    B) t(B), and s_min scales every batch size alike. It never falls as b_crit rises, because (1 + b / B) falls the
    faster in B the larger b is. So the interval of b_crit gives that of the best batch size exactly: recompute at its
    two ends. The same values tell which hardware can win.

    Where a limit binds, the choice is where the curve crosses it. Its interval is where the pointwise interval of the
    curve crosses it: recompute with the limits put on the lower and on the upper ends. Where the upper ends keep the
    limits nowhere, the interval ends at the batch size that needs least of what is limited.

    The scatter of step times is in hours and cost, not here.
    """
    terms, fit = place.terms, place.terms.fit
    if not terms.on_curve:
        return Certainty(None, None, (), None, None)
    if not binding:
        found = [optimum([terms.at(b)], objective, {}) for b in (fit.b_crit_low, fit.b_crit_high)]
        rivals = _winners(offers, objective)
    else:
        ends: tuple[End, ...] = ("_low", "_high")
        found = [optimum([terms], objective, limits, end) for end in ends]
        if None in found:
            found += [optimum([terms], LIMITED[name], {}) for name in binding]
        rivals = {won.terms.title for end in ends if (won := optimum(offers, objective, limits, end))}
    sizes = [place.batch_size, *(other.batch_size for other in found if other is not None)]
    return Certainty(min(sizes), max(sizes), tuple(sorted(rivals - {terms.title})), *_room(place))


def _winners(offers: Sequence[Terms], objective: str) -> set[str]:
    """The hardware that has the least objective for some b_crit within its interval."""
    if len(offers) == 1:
        return set()
    fit, least = offers[0].fit, []
    b_crit = np.geomspace(fit.b_crit_low, fit.b_crit_high, _CURVES)[:, None]
    for terms in offers:
        sizes, hardware = terms.sizes(_GRID), terms.hardware
        assert hardware is not None  # several offers differ in their hardware
        hours = (1 + b_crit / sizes) * hardware.step_times.seconds(sizes)  # (_CURVES, n), s_min left out
        shortest = hours.min(axis=-1, initial=math.inf)
        per_hour = {"hours": 1.0, "cost": terms.price_per_hour}
        least.append(shortest**2 * per_hour["cost"] if objective == "hours_x_cost" else shortest * per_hour[objective])
    return {offers[int(number)].title for number in set(np.argmin(least, axis=0).tolist())}


def _room(place: Place) -> tuple[float, float] | tuple[None, None]:
    """How far the batch size may be moved for a tenth more time: the optimum is flat, and step times scatter."""
    if place.terms.hardware is None:
        return None, None
    sizes = np.union1d(place.terms.sizes(_GRID), place.batch_size)
    hours = quantities(place.terms, sizes)["hours"].to_numpy()
    slower = sizes[hours > (1 + ROOM) * place.takes["hours"]]
    inside = sizes[hours <= (1 + ROOM) * place.takes["hours"]]
    # The stretch without a gap around the choice.
    low = inside[inside > max((b for b in slower if b < place.batch_size), default=0.0)]
    high = inside[inside < min((b for b in slower if b > place.batch_size), default=math.inf)]
    return float(low[0]), float(high[-1])


@dataclass(frozen=True)
class BreakEven:
    """Another kind of device, and what it would have to cost."""

    device: str
    devices: int | None  # how many would be used then
    batch_size: float | None  # then
    price_per_device_hour: float  # what one costs now
    # Below this price it would be the choice; None where it cannot be at any price, because it does not keep the other
    # limits or is not faster, or because the choice costs nothing.
    chosen_below: float | None


def break_even(
    offers: Sequence[Terms], objective: str, limits: Mapping[str, float], chosen: Place
) -> tuple[BreakEven, ...]:
    """The price at which each other kind of device draws level with the choice, all other prices as they are.

    What is minimised, cost or hours x cost, is proportional to the price, so the other kind draws level at its price
    times the ratio of the two values. Where hours are minimised within a budget, the other kind wins as soon as the
    budget pays for a training on it that is shorter. Empty where there is one kind, no price, or where prices do not
    enter the choice.
    """
    hardware = chosen.terms.hardware
    if (
        hardware is None
        or hardware.price_per_device_hour is None
        or (objective == "hours" and "max_cost" not in limits)
    ):
        return ()
    others: dict[str, list[Terms]] = {}
    for terms in offers:
        assert terms.hardware is not None  # the choice has hardware, so all have
        if terms.hardware.device != hardware.device:
            others.setdefault(str(terms.hardware.device), []).append(terms)
    found = [_of_kind(own, objective, limits, chosen) for own in others.values()]
    return tuple(entry for entry in found if entry.price_per_device_hour > 0)


def _of_kind(own: Sequence[Terms], objective: str, limits: Mapping[str, float], chosen: Place) -> BreakEven:
    hardware = own[0].hardware
    assert hardware is not None and hardware.price_per_device_hour is not None
    price, prices = hardware.price_per_device_hour, []
    for terms in own:
        place = optimum([terms], objective, without(limits, ["max_cost"]))
        if place is None or terms.hardware is None:
            continue
        if objective == "hours":
            if place.takes["hours"] < chosen.takes["hours"]:
                below = limits["max_cost"] / place.takes["hours"] / terms.hardware.devices
                prices.append((below, terms.hardware.devices, place.batch_size))
        elif place.takes[objective] > 0:
            below = price * chosen.takes[objective] / place.takes[objective]
            prices.append((below, terms.hardware.devices, place.batch_size))
    # Below 0 there is no price: the choice costs nothing.
    best = max((entry for entry in prices if entry[0] > 0), key=lambda entry: entry[0], default=None)
    below_it, devices, batch_size = best or (None, None, None)
    return BreakEven(str(hardware.device), devices, batch_size, price, below_it)
