"""How sure a choice is: which batch sizes, and which hardware, the measurements cannot tell from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bcrit.analysis.recommendation.choices import LIMITED, End, Place, optimum
from bcrit.analysis.recommendation.terms import Terms, quantities

ROOM = 0.1
"""A stretch of batch sizes is named in which training takes at most this share longer. Chosen, not studied."""

_GRID = 400  # batch sizes at which the stretch is sought, a step of 1 to 3 %
_CURVES = 41  # values of b_crit across its interval at which kinds of hardware are compared


@dataclass(frozen=True)
class Certainty:
    """What the fit leaves open about one choice.

    Attributes:
        batch_size_low: lower end of the interval of the best batch size on the chosen hardware; None where b_crit is
            not identified. Both ends lie within the measured range.
        batch_size_high: upper end.
        rivals: other hardware that is the better choice for some values in the interval of the fit.
        room_low: from here on to `room_high`, training takes at most a tenth longer than at the choice; None without
            step times or where b_crit is not identified.
        room_high: see `room_low`.
    """

    batch_size_low: float | None
    batch_size_high: float | None
    rivals: tuple[str, ...]
    room_low: float | None
    room_high: float | None


def certainty(
    offers: Sequence[Terms], objective: str, place: Place, limits: Mapping[str, float], binding: Sequence[str]
) -> Certainty:
    """Carry the interval of the fit to a choice, by the interval that the fit itself has.

    Where no limit binds, the best batch size depends on the curve through b_crit alone: S(B) t(B) = s_min (1 + b_crit /
    B) t(B), and s_min scales every batch size alike. It never falls as b_crit rises, because (1 + b / B) falls the
    faster in B the larger b is. So the interval of b_crit gives that of the best batch size exactly: recompute at its
    two ends. The same values tell which hardware can win.

    Where a limit binds, the choice is where the curve crosses it. Its interval is where the pointwise interval of the
    curve crosses it: recompute with the limits put on the lower and on the upper ends. Where the upper ends keep the
    limits nowhere, the interval ends at the batch size that needs least of what is limited.

    The scatter of step times is in hours and cost, not here.

    Args:
        offers: what a training may run on.
        objective: what was minimised.
        place: the choice.
        limits: under which it was chosen.
        binding: the limits that decide, if any do.
    """
    if not place.terms.on_curve:
        return Certainty(None, None, (), None, None)
    if not binding:
        found = [_at(place.terms, b, objective) for b in (place.terms.fit.b_crit_low, place.terms.fit.b_crit_high)]
        rivals = _winners(offers, objective)
    else:
        ends: tuple[End, ...] = ("_low", "_high")
        found = [optimum([place.terms], objective, limits, end) for end in ends]
        if None in found:
            found += [optimum([place.terms], LIMITED[name], {}) for name in binding]
        rivals = {won.terms.hardware.title for end in ends if (won := optimum(offers, objective, limits, end))
                  and won.terms.hardware is not None}  # fmt: skip
    sizes = [place.batch_size, *(other.batch_size for other in found if other is not None)]
    own = place.terms.hardware.title if place.terms.hardware else ""
    return Certainty(min(sizes), max(sizes), tuple(sorted(rivals - {own})), *_room(place))


def _at(terms: Terms, b_crit: float, objective: str) -> Place | None:
    return optimum([terms.at(b_crit)], objective, {})


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
    return {_title(offers[int(number)]) for number in set(np.argmin(least, axis=0).tolist())}


def _title(terms: Terms) -> str:
    return terms.hardware.title if terms.hardware else ""


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


__all__ = ["ROOM", "Certainty", "certainty"]
