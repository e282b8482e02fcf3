"""What speaks against a choice: what the fit leaves open, other hardware at other prices, and the caveats in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bcrit.analysis.curve.notes import of_boxes
from bcrit.analysis.numbers import Floats, readable
from bcrit.analysis.recommendation import choices
from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.search_spaces.presets import EXTRAPOLATIONS

if TYPE_CHECKING:
    from bcrit.analysis.recommendation import Recommendation

_GRID = 400  # batch sizes at which the stretch is sought, a step of 1 to 3 %
_OUTWARD = 3000  # batch sizes beyond the measured ones, a step of half a per cent
_APART = 1.01  # factor to either side between which a slope is read, less than the grid's steps
_POWER: Final = {"steps_x_examples": 2.0, "hours_x_cost": 2.0}  # of S in what is minimised; else 1


@dataclass(frozen=True)
class Certainty:
    """What the fit leaves open about one choice."""

    # The interval of the best batch size on the chosen hardware; None where b_crit is not identified. Both ends lie
    # within the measured range.
    batch_size_low: float | None = None
    batch_size_high: float | None = None
    rivals: tuple[str, ...] = ()  # other hardware that is the better choice for some values in the interval of the fit
    # Between these, training takes at most a tenth longer than at the choice; None without step times or where b_crit
    # is not identified.
    room_low: float | None = None
    room_high: float | None = None

    @property
    def room(self) -> tuple[float, float] | None:
        """The stretch with room, where it is known."""
        return None if self.room_low is None or self.room_high is None else (self.room_low, self.room_high)

    @property
    def open(self) -> bool:
        """Whether other hardware may be better, or batch sizes at which the choice costs a tenth more."""
        if self.rivals or self.room is None or self.batch_size_low is None or self.batch_size_high is None:
            return bool(self.rivals)
        return self.batch_size_low < self.room[0] or self.batch_size_high > self.room[1]


def certainty(
    offers: Sequence[choices.Terms],
    objective: str,
    place: choices.Place,
    limits: Mapping[str, float],
    binding: Sequence[str],
) -> Certainty:
    """Carry the interval of the fit to a choice that minimised this objective, with the fit's own level.

    Where no limit binds, a batch size may be the best where the slope of the log objective in log B may be 0: the
    step time's slope is known, and that of the curve has an interval (`AveragedSteps.log_ratio`). Other hardware may
    be the better where the interval of the ratio of the two objectives, each at its own best batch size, reaches
    below 1; at the same batch size the curve does not matter.

    Where a limit binds, the choice is where the curve crosses it. Its interval is where the pointwise interval of the
    curve crosses it: recompute with the limits put on the lower and on the upper ends. Where the upper ends keep the
    limits nowhere, the interval ends at the batch size that needs least of what is limited.

    The scatter of step times is in hours and cost, not here.
    """
    terms = place.terms
    if not terms.on_curve:
        return Certainty()
    if not binding:
        others = [other for each in offers if each is not terms and (other := choices.optimum([each], objective, {}))]
        rivals = {other.terms.title for other in others if _may_win(other, place, objective)}
        sizes = [place.batch_size, *_may_be_best(terms, objective)]
    else:
        ends: tuple[choices.End, ...] = ("_low", "_high")
        found = [choices.optimum([terms], objective, limits, end) for end in ends]
        if None in found:
            found += [choices.optimum([terms], choices.LIMITED[name], {}) for name in binding]
        rivals = {won.terms.title for end in ends if (won := choices.optimum(offers, objective, limits, end))}
        sizes = [place.batch_size, *(other.batch_size for other in found if other is not None)]
    return Certainty(min(sizes), max(sizes), tuple(sorted(rivals - {terms.title})), *_room(place))


def _may_be_best(terms: choices.Terms, objective: str) -> Floats:
    """The batch sizes where the slope of the objective may be 0; empty where it falls or rises throughout."""
    sought, power = ("hours" if objective in ("cost", "hours_x_cost") else objective), _POWER.get(objective, 1.0)
    sizes = terms.sizes(_GRID)
    if len(sizes) == 1:
        return sizes
    above, below = (choices.quantities(terms, sizes * factor)[sought].to_numpy() for factor in (_APART, 1 / _APART))
    slope, low, high = power * terms.curve.log_ratio(sizes * _APART, sizes / _APART)
    rest = np.log(above / below) - slope  # what does not come from the curve, known
    return np.asarray(sizes[(rest + low <= 0) & (rest + high >= 0)])


def _may_win(other: choices.Place, place: choices.Place, objective: str) -> bool:
    """Whether other hardware has the smaller objective within the interval of the curve."""
    ratio, low, _ = place.terms.curve.log_ratio(other.batch_size, place.batch_size)[:, 0] * _POWER.get(objective, 1.0)
    return other.takes[objective] * math.exp(low - ratio) <= place.takes[objective]


def _room(place: choices.Place) -> tuple[float, float] | tuple[None, None]:
    """How far the batch size may be moved for a tenth more time: the optimum is flat, and step times scatter."""
    if place.terms.hardware is None:
        return None, None
    sizes = np.union1d(place.terms.sizes(_GRID), place.batch_size)
    hours = choices.quantities(place.terms, sizes)["hours"].to_numpy()
    slower = sizes[hours > (1 + choices.ROOM) * place.takes["hours"]]
    inside = sizes[hours <= (1 + choices.ROOM) * place.takes["hours"]]
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
    offers: Sequence[choices.Terms], objective: str, limits: Mapping[str, float], chosen: choices.Place
) -> tuple[BreakEven, ...]:
    """The price at which each other kind of device draws level with the choice, all other prices as they are.

    What is minimised, cost or hours x cost, is proportional to the price, so the other kind draws level at its price
    times the ratio of the two values. Where hours are minimised within a budget, the other kind wins as soon as the
    budget pays for a training on it that is shorter. Empty where there is one kind, no price, or where prices do not
    enter the choice.
    """
    if objective == "hours" and "max_cost" not in limits:
        return ()
    kinds: dict[str, tuple[float, list[tuple[float, int, float]]]] = {}  # price now, (price below, devices, batch size)
    for terms in offers:
        hardware = terms.hardware
        if hardware is None or not hardware.price_per_device_hour or hardware.device == chosen.terms.where[0]:
            continue
        price, below = kinds.setdefault(str(hardware.device), (hardware.price_per_device_hour, []))
        place = choices.optimum([terms], objective, choices.without(limits, ["max_cost"]))
        if place is None or place.takes[objective] <= 0:
            continue
        level = price * chosen.takes[objective] / place.takes[objective]
        if objective == "hours":
            faster = place.takes["hours"] < chosen.takes["hours"]
            longest = np.fmax(place.takes["hours"], terms.floors["max_hours"])  # what must be paid for to keep a budget
            level = limits["max_cost"] / longest / hardware.devices if faster else 0.0
        if level > 0:  # below 0 there is no price: the choice costs nothing
            below.append((level, hardware.devices, place.batch_size))
    found = []
    for device, (price, below) in kinds.items():
        best, devices, batch_size = max(below, key=lambda entry: entry[0], default=(None, None, None))
        found.append(BreakEven(device, devices, batch_size, price, best))
    return tuple(found)


# The caveats. Each clause yields the sentences it has to say, which may be none.


def caveats(found: Recommendation, offers: Sequence[choices.Terms], given: Sequence[Hardware]) -> tuple[str, ...]:
    """What was assumed and what is doubtful, that about the fit first; `given` holds what is not offered, too."""
    return (*_on_fit(offers[0]), *_on_limits(found, offers), *_on_time(found, offers, given), *_on_settings(found))


def _on_fit(terms: choices.Terms) -> Iterator[str]:
    fit = terms.fit
    if not terms.on_curve:
        why = (note for note in fit.notes if "not identified" in note or "nothing is called" in note)
        only = "Only measured batch sizes are offered, with their measured steps and no interval."
        yield f"{only} {next(why, '')}".rstrip()
    elif fit.lack_of_fit:
        off = {size: math.log(steps / float(terms.curve.steps(size))) for size, steps in terms.measured.items()}
        worst = max(off, key=lambda size: abs(off[size]))
        by = f"{readable(100 * abs(math.expm1(off[worst])))} % {'below' if off[worst] < 0 else 'above'} it"
        yield (
            "The points bend away from the hyperbola, so steps are read off a curve that follows them; at worst, at "
            f"{choices.place_text(worst)}, the measured steps are {by}."
        )
    if terms.on_curve:
        yield from of_boxes(fit)


def _on_limits(found: Recommendation, offers: Sequence[choices.Terms]) -> Iterator[str]:
    if not found.feasible:
        yield from beyond(offers[0], found.limits)
        return
    over, safe = broken(found.choices[found.advised or ""], found.limits), found.choices.get("safe")
    for name, high in over.items():
        kept = f"keeps {name} = {readable(found.limits[name])} by the estimate"
        yield f"The choice {kept}, but the upper end of its interval is {readable(high)}."
    if over and safe is not None:
        at = choices.place_text(safe.batch_size, safe.hardware)
        yield f"The upper ends of the intervals keep the limits at {at}."
    if over and safe is None:
        yield "No choice keeps the limits with the upper ends of its intervals too."


def broken(point: choices.FrontierPoint, limits: Mapping[str, float]) -> dict[str, float]:
    """The upper ends of intervals that break a limit."""
    highs = {name: getattr(point, f"{choices.LIMITED[name]}_high") for name in limits}
    return {name: high for name, high in highs.items() if high is not None and high > limits[name]}


def beyond(terms: choices.Terms, limits: Mapping[str, float]) -> Iterator[str]:
    """Where the curve would keep a limit of steps or examples that no measured batch size keeps, if it does."""
    ways = {"max_steps": ("larg", "from {} on", "beyond", max), "max_examples": ("small", "up to {}", "below", min)}
    for name, (which, until, outside, end) in ways.items():
        if name not in limits or not terms.on_curve:
            continue
        last, floor = end(terms.measured), terms.floors[name]
        # Outwards, a million times as far as was measured, the least so far: examples may rise again.
        sizes = last * np.geomspace(1, 1e6 if which == "larg" else 1e-6, _OUTWARD)
        taken = np.minimum.accumulate(terms.curve.steps(sizes) * (1 if name == "max_steps" else sizes))
        unit = "steps" if name == "max_steps" else terms.fit.unit
        if taken[0] <= limits[name] < floor:
            yield f"The curve passes below {name}, but no measured batch size took fewer than {readable(floor)} {unit}."
        elif taken[-1] > limits[name]:
            yield (
                f"{which.capitalize()}er batches cannot help: even the {which}est takes at least "
                f"{readable(float(taken[-1]))} {unit}."
            )
        elif taken[0] > limits[name]:
            where = float(np.exp(np.interp(math.log(limits[name]), np.log(taken[::-1]), np.log(sizes[::-1]))))
            measured = f"{outside} the {which}est measured, {readable(last)}; measure there before relying on it"
            yield f"The curve would keep {name} {until.format(choices.place_text(where))}, {measured}."


def _on_time(found: Recommendation, offers: Sequence[choices.Terms], given: Sequence[Hardware]) -> Iterator[str]:
    hardware, fastest = [terms.hardware for terms in offers if terms.hardware is not None], found.choices["fastest"]
    if not hardware:
        meant = "cheapest means fewest examples, fastest fewest steps"
        yield f"Step times are not known, so there are no hours and no cost: {meant}."
        return
    yield "Hours are steps times the step time on the hardware where it was measured; evaluation is not counted."
    bare = [item.title for item in hardware if item.step_times.log_sigma is None]
    if bare:
        which = f" of {', '.join(bare)}" if found.several else ""
        yield f"The step times{which} have no repeats, so that their own error is in no interval."
    if found.several:
        offered = "Only the numbers of devices that were timed are offered."
        yield f"Balanced means the least product of hours and cost. {offered}"
        if found.cost_unit == "device-hours" and len(found.kinds) > 1:
            yield "No prices are given, so an hour of every kind of device counts the same."
    elif found.choices["cheapest"] == fastest:
        yield "Cheapest and fastest agree, because on a fixed number of devices cost is hours times a constant."
    untimed = {(p.device, p.devices) for p in found.choices.values() if p.step_time_source == "extrapolated"}
    for item in (item for item in hardware if (item.device, item.devices) in untimed):
        sizes, on = item.step_times.batch_sizes, f" on {item.title}" if item.title else ""
        yield (
            f"Step times{on} were measured from batch size {readable(sizes[0])} to {readable(sizes[-1])} only; a "
            "choice outside uses a linear model, and whether a larger batch fits into memory is not known. Splitting a "
            "step into several passes (gradient accumulation) would not make it faster."
        )
    for item in (item for item in given if item not in hardware):
        only = readable(item.step_times.batch_sizes[0])
        timed = f"it was timed only at batch size {only}, and the steps there are not known"
        yield f"{item.title} is not offered: {timed}."
    which_end = choices.terms_at(fastest, offers).edge(
        fastest.batch_size
    )  # the optimum may lie beyond what was measured
    if which_end is not None:
        text = f"The fastest choice, {readable(fastest.batch_size)}, is the {which_end}est batch size measured"
        yield f"{text}; {which_end}er ones may be faster still."


def _on_settings(found: Recommendation) -> Iterator[str]:
    known = found.hyperparameters
    if not known:
        return
    if doubt := known[found.advised or next(iter(known))].doubt:
        yield doubt
    # Steps and examples count updates; a gradient that is taken twice shows in neither.
    count = max(EXTRAPOLATIONS.get(str(point.values.get("extrapolation", "")), 1) for point in known.values())
    if count > 1:
        yield (
            f"An update takes the gradient of each of its examples {'twice' if count == 2 else f'{count} times'}, as "
            f"the extrapolation needs one of its own: examples count data, and gradients are {count} times as many."
        )
