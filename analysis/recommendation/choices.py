"""What a training to the target takes at each batch size on each kind of hardware, and the best place under limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.curve.average import AveragedSteps, averaged_steps
from bcrit.analysis.numbers import Estimate, Floats, readable
from bcrit.analysis.recommendation.hardware import Hardware, Source, title

End = Literal["", "_low", "_high"]

LIMITED: Final = {"max_hours": "hours", "max_cost": "cost", "max_steps": "steps", "max_examples": "examples"}
"""The quantity that each limit limits."""
ROOM: Final = 0.1
"""A stretch of batch sizes is named in which training takes at most this share longer. Chosen, not studied."""

_SIGNS: Final[Mapping[End, float]] = {"": 0.0, "_low": -1.0, "_high": 1.0}
_SCAN = 600  # batch sizes a pass: steps of 1 to 3 % on any range of interest, and three passes reach rounding
_TOLERANCE = 1e-9  # a limit computed from the curve itself is met, not missed by rounding


@dataclass(frozen=True)
class Terms:
    """What a training is paid in, and where its numbers come from."""

    fit: HyperbolaFit
    hardware: Hardware | None  # None = step times are not known: no hours and no cost

    @property
    def measured(self) -> dict[float, float]:
        """Median steps to target by batch size, of the studies that reached it."""
        return {study.batch_size: study.steps for study in self.fit.studies if study.steps is not None}

    @property
    def on_curve(self) -> bool:
        """Whether steps are read from a curve; where b_crit is not identified only the measured studies are shown."""
        return self.fit.identified["b_crit"]

    @cached_property
    def curve(self) -> AveragedSteps:
        """Where steps are read from then."""
        return averaged_steps(self.fit)

    @cached_property
    def floors(self) -> Mapping[str, float]:
        """The least of what each limit limits that a measured batch size took, by its own median; NaN without any."""
        table = quantities(self, self.sizes(0), measured=True)
        return {name: float(table[quantity].min()) for name, quantity in LIMITED.items()}

    @property
    def title(self) -> str:
        """Of its hardware; empty without."""
        return self.hardware.title if self.hardware else ""

    @property
    def where(self) -> tuple[str | None, int | None]:
        """Kind and number of devices."""
        return (self.hardware.device, self.hardware.devices) if self.hardware else (None, None)

    @property
    def price_per_hour(self) -> float:
        """What one hour on all the devices costs; in device-hours without a price."""
        if self.hardware is None:
            return math.nan
        price = self.hardware.price_per_device_hour
        return self.hardware.devices * (1.0 if price is None else price)

    def sizes(self, count: int) -> Floats:
        """Batch sizes to look at, rising: the measured ones, and with a curve `count` more within their range."""
        measured, between = np.array(sorted(self.measured)), self.on_curve and count > 0
        found = np.unique(np.append(np.geomspace(measured[0], measured[-1], count), measured))
        found = self.rounded(found) if between else measured
        if self.hardware is None or not self.hardware.step_times.fixed:
            return found
        (only,) = self.hardware.step_times.batch_sizes
        inside = measured[0] <= only <= measured[-1] if between else only in self.measured
        return np.array([only] if inside else [])

    def rounded(self, batch_sizes: Floats) -> Floats:
        """Whole numbers where the measured ones are whole; rising, without repeats."""
        whole = all(size == round(size) for size in self.measured)
        return np.unique(np.rint(batch_sizes) if whole else batch_sizes)

    def edge(self, batch_size: float) -> Literal["larg", "small"] | None:
        """Whether a batch size is the largest or the smallest measured: the stem of the word."""
        if self.hardware is not None and self.hardware.step_times.fixed:
            return None
        if batch_size == max(self.measured):
            return "larg"
        return "small" if batch_size == min(self.measured) else None


def quantities(terms: Terms, batch_sizes: Floats, measured: bool = False) -> pd.DataFrame:
    """What a training takes at many batch sizes: the numeric columns of `FrontierPoint`, NaN where not known.

    Steps are those of `AveragedSteps` with its interval; without a curve, or as `measured`, they are measured medians,
    and only measured batch sizes may be asked for.

    The ends of hours and cost are those of steps and of the step time together, as independent errors in the logarithm:
    half a width is the root of the sum of both squares. Where step times have no repeats, their own error is not known
    and not in the ends. `steps_x_examples` and `hours_x_cost` are added, the products that balanced choices minimise.
    """
    fit, hardware = terms.fit, terms.hardware
    nothing: Floats = np.full(batch_sizes.shape, math.nan)
    found: dict[str, Floats] = {"batch_size": batch_sizes}
    if terms.on_curve and not measured:
        found |= {
            f"steps{end}": np.exp(log) for end, log in zip(_SIGNS, terms.curve.log_ratio(batch_sizes), strict=True)
        }
        # E(B) / e_min - 1 = B / b_crit falls as b_crit rises, so the interval is that of b_crit carried over.
        wasted = 1 / fit.curve.efficiency(batch_sizes) - 1
        for end, b_crit in zip(_SIGNS, (fit.b_crit, fit.b_crit_low, fit.b_crit_high), strict=True):
            found[f"efficiency{end}"] = 1 / (1 + wasted * fit.b_crit / b_crit)
    else:
        found |= {f"{name}{end}": nothing for name in ("steps", "efficiency") for end in _SIGNS}
        found["steps"] = np.array([terms.measured[size] for size in batch_sizes.tolist()])
    times, half = nothing, np.zeros(batch_sizes.shape)
    if hardware is not None:
        times = hardware.step_times.seconds(batch_sizes)
        half = hardware.step_times.log_half_width(batch_sizes, fit.level)
    found["step_seconds"] = times
    for end, sign in _SIGNS.items():
        apart = np.hypot(np.log(found[f"steps{end}"] / found["steps"]), half)
        found[f"examples{end}"] = batch_sizes * found[f"steps{end}"]
        found[f"hours{end}"] = found["steps"] * times / 3600 * np.exp(sign * apart)
        found[f"cost{end}"] = found[f"hours{end}"] * terms.price_per_hour
    found["steps_x_examples"] = found["steps"] * found["examples"]
    found["hours_x_cost"] = found["hours"] * found["cost"]
    return pd.DataFrame(found)


@dataclass(frozen=True)
class FrontierPoint:
    """One batch size on one kind and number of devices.

    `_low` and `_high` are the ends of the interval of steps, times what a step takes; where step times have repeats,
    hours and cost hold their scatter too (`quantities`). None where they are not known.
    """

    batch_size: float  # in the unit of the fit
    steps: float  # to the target: the curve, or where b_crit is not identified the measured median
    steps_low: float | None
    steps_high: float | None
    examples: float  # batch_size x steps
    examples_low: float | None
    examples_high: float | None
    hours: float | None  # steps x step time / 3600; None without step times
    hours_low: float | None
    hours_high: float | None
    cost: float | None  # hours x devices x price, or hours x devices without a price
    cost_low: float | None
    cost_high: float | None
    step_seconds: float | None  # time of one step
    step_time_source: Source | None
    measured: bool  # whether a study reached the target at this batch size
    device: str | None  # kind; None where it has no name or step times are not known
    devices: int | None  # how many; None without step times
    # e_min / E(B) of the fit, the share of the examples that the thriftiest batch size would need too; None where
    # b_crit is not identified. Its ends are from the interval of b_crit.
    efficiency: float | None
    efficiency_low: float | None
    efficiency_high: float | None
    # Whether no other point of the frontier is better in hours or in cost without being worse in the other (without
    # step times: in steps or examples).
    efficient: bool

    @property
    def hardware(self) -> str:
        """What it runs on, as sentences and tables name it; empty where there is nothing to tell apart."""
        return title(self.device, self.devices)

    def estimate(self, quantity: str) -> Estimate:
        """Steps, examples, hours, cost or efficiency with its interval."""
        value, low, high = (getattr(self, quantity + end) for end in _SIGNS)
        return Estimate(value, low, high)

    def interval(self, quantity: str, shown: Callable[[float], str] = readable) -> str:
        """`70.2 to 114`; empty where an end is not known."""
        of = self.estimate(quantity)
        return "" if of.low is None or of.high is None else of.interval(shown)


def frontier(offers: Sequence[Terms], chosen: Sequence[Place]) -> tuple[FrontierPoint, ...]:
    """The frontier at the measured batch sizes, at powers of sqrt(2) between them, and at the chosen places.

    Points stand by offer, then by rising batch size, all within the measured range.
    """
    found: list[FrontierPoint] = []
    names = {field.name for field in fields(FrontierPoint)}
    for terms in offers:
        smallest, largest = min(terms.measured), max(terms.measured)
        # Half a power of two: a grid fine enough to read by eye, chosen, not studied.
        sizes = terms.sizes(round(2 * math.log2(largest / smallest)) + 1)
        table = quantities(terms, np.union1d(sizes, [place.batch_size for place in chosen if place.terms is terms]))
        (device, devices), times = terms.where, terms.hardware.step_times if terms.hardware else None
        for row in table[[name for name in table if name in names]].to_dict("records"):
            known: dict[str, Any] = {str(name): None if math.isnan(value) else value for name, value in row.items()}
            size = known["batch_size"]
            known |= {"step_time_source": times.source(size) if times else None, "measured": size in terms.measured}
            found.append(FrontierPoint(**known, device=device, devices=devices, efficient=False))
    # Pareto's rule: (n,) points against each other.
    timed = all(point.hours is not None for point in found)
    taken = np.array([(p.hours, p.cost) if timed else (p.steps, p.examples) for p in found], dtype=float)  # (n, 2)
    no_worse = np.all(taken[None] <= taken[:, None], axis=-1)  # [i, j]: j is no worse than i
    better = np.any(taken[None] < taken[:, None], axis=-1)
    beaten = np.any(no_worse & better, axis=-1).tolist()
    return tuple(replace(point, efficient=not worse) for point, worse in zip(found, beaten, strict=True))


def terms_at(point: FrontierPoint, offers: Sequence[Terms]) -> Terms:
    """The offer that a point belongs to."""
    return next(terms for terms in offers if terms.hardware is None or terms.where == (point.device, point.devices))


@dataclass(frozen=True)
class Place:
    """A batch size on one kind and number of devices."""

    terms: Terms
    batch_size: float
    takes: Mapping[str, float]  # the row of `quantities` there


def optimum(
    offers: Iterable[Terms], objective: str, limits: Mapping[str, float], end: End = "", measured: bool = False
) -> Place | None:
    """Find the batch size and hardware with the least objective among those that keep all limits; None if none does.

    The objective is a column of `quantities`, and `end` of the interval must keep the limits. Batch sizes are those
    within the measured range, or the `measured` ones alone. On the curve the range is scanned three times, each time
    around the last pass's best (or, where none keeps the limits, around the one that comes nearest), down to single
    batch sizes; the smallest wins a tie. This finds the closed-form optima of `Hyperbola` to the whole number, and
    works for measured step times, which have no closed form. Of two kinds of hardware that tie, the faster wins.

    A limit that no measured batch size kept in its own measurement is not kept by a curve that passes below them all.
    """
    found = [place for terms in offers if (place := _optimum_on(terms, objective, limits, end, measured)) is not None]
    # Without step times the hours are NaN, but then there is one offer only and nothing is compared.
    return min(found, key=lambda place: (place.takes[objective], place.takes["hours"]), default=None)


def _optimum_on(terms: Terms, objective: str, limits: Mapping[str, float], end: End, measured: bool) -> Place | None:
    if any(terms.floors[name] > limit * (1 + _TOLERANCE) for name, limit in limits.items()):
        return None
    # On fixed hardware cost is hours times a constant; hours still tell batch sizes apart where it is free.
    sought = "hours" if objective in ("cost", "hours_x_cost") else objective
    sizes, place = terms.sizes(0 if measured else _SCAN), None
    if terms.on_curve and (sizes >= terms.fit.curve.b_opt).any():  # below it both steps and examples rise
        sizes = sizes[sizes >= terms.fit.curve.b_opt]
    for _ in range(3 if terms.on_curve and len(sizes) > 1 and not measured else 1):
        if not len(sizes):
            return None
        table = quantities(terms, sizes)
        # The largest ratio of what is taken to what is allowed, at each batch size; infinite where it is not known.
        ratios = [table[f"{LIMITED[name]}{end}"].fillna(math.inf).to_numpy() / limit for name, limit in limits.items()]
        excess = np.max([np.zeros(len(table)), *ratios], axis=0)
        kept = excess <= 1 + _TOLERANCE
        best = int(np.argmin(np.where(kept, table[sought], math.inf) if kept.any() else excess))
        takes = {str(name): float(number) for name, number in table.iloc[best].items()}
        place = Place(terms, float(sizes[best]), takes) if kept[best] else None
        around = sizes[max(best - 1, 0) : best + 2]
        sizes = terms.rounded(np.append(np.geomspace(around[0], around[-1], _SCAN), around))
    return place


def balance(offers: Sequence[Terms]) -> Literal["hours_x_cost", "steps_x_examples"]:
    """What the balanced choice minimises: hours x cost where hardware differs, else steps x examples."""
    return "hours_x_cost" if len(offers) > 1 else "steps_x_examples"


def without(limits: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    """The other limits."""
    return {other: limit for other, limit in limits.items() if other not in names}


def binding_limits(
    offers: Sequence[Terms], objective: str, limits: Mapping[str, float], best: Place
) -> tuple[tuple[str, ...], Place | None]:
    """The limits that decide, and the best without them.

    They are the fewest whose removal betters the objective, of these the ones that do most: one limit, unless each of
    several excludes all that is better; then removing one of them alone would gain nothing. None where no limit changes
    the choice.
    """
    for count in range(1, len(limits) + 1):
        freed = {names: optimum(offers, objective, without(limits, names)) for names in combinations(limits, count)}
        # Fewer limits cannot make it infeasible.
        gains = {names: place.takes[objective] for names, place in freed.items() if place is not None}
        names = min(gains, key=lambda names: (gains[names], names))
        if gains[names] * (1 + _TOLERANCE) < best.takes[objective]:
            return names, freed[names]
    return (), None


@dataclass(frozen=True)
class LimitMissed:
    """A limit that has to give."""

    limit: str
    given: float
    needed: float  # the least value that would do, by the estimate, and that a measured batch size kept
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

    def missed(name: str, place: Place, alone: bool) -> LimitMissed:
        needed, high = (place.takes[f"{LIMITED[name]}{end}"] for end in ("", "_high"))
        needed = np.fmax(needed, place.terms.floors[name])
        safely = None if math.isnan(high) else max(high, needed)
        return LimitMissed(name, limits[name], float(needed), safely, alone, place.batch_size, *place.terms.where)

    found = []
    for name in limits:
        places = (optimum([terms], LIMITED[name], without(limits, [name])) for terms in offers)
        ways = [missed(name, place, alone=True) for place in places if place is not None]
        found += [min(ways, key=lambda way: way.needed)] if ways else []
    place = None if found else optimum(offers, balance(offers), {})
    if place is not None:
        every = (missed(name, place, alone=False) for name in limits)
        found = [one for one in every if one.needed > one.given]
    return tuple(found)


def next_beyond(
    points: Sequence[FrontierPoint], limits: Mapping[str, float], binding: Sequence[str]
) -> FrontierPoint | None:
    """Beyond a deadline or a budget, the least product of hours and cost: what giving way a little would bring."""
    if tuple(binding) not in (("max_hours",), ("max_cost",)) or len({(p.device, p.devices) for p in points}) < 2:
        return None
    quantity, limit, others = LIMITED[binding[0]], limits[binding[0]], without(limits, binding)
    found = [
        point
        for point in points
        if point.efficient
        and getattr(point, quantity) > limit
        and all(getattr(point, LIMITED[name]) <= value for name, value in others.items())
    ]
    return min(found, key=lambda point: (point.hours or 0.0) * (point.cost or 0.0), default=None)


def place_text(batch_size: float, hardware: str = "") -> str:
    """`batch size 64 on 8 x h100`."""
    return f"batch size {readable(batch_size)}" + (f" on {hardware}" if hardware else "")
