"""A recommendation in words: two sentences, the whole decision as one paragraph, and what was assumed or is doubtful.

Each text is a list of clauses; a clause yields the sentences it has to say, which may be none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bcrit.analysis.recommendation.choices import LIMITED, ROOM, BreakEven, LimitMissed, without
from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.analysis.recommendation.terms import FrontierPoint, Terms, terms_at
from bcrit.analysis.wording import duration, enumeration, readable, unit_of_duration
from bcrit.search_spaces.presets import EXTRAPOLATIONS, STEPS_OF

if TYPE_CHECKING:
    from bcrit.analysis.recommendation.recommend import Recommendation

_WIDE = 2.0  # a stretch of batch sizes over this factor leaves the exact size free; chosen, not studied
_GRID = 400  # batch sizes, a step of 1 to 3 %
_NAMES = {"max_hours": "deadline", "max_cost": "budget", "max_steps": "limit", "max_examples": "limit"}
"""What the limits are called in prose; the last two are told apart by their unit."""


def place(batch_size: float, hardware: str = "") -> str:
    """`batch size 64 on 8 x h100`."""
    return f"batch size {readable(batch_size)}" + (f" on {hardware}" if hardware else "")


def listed(values: Mapping[str, Any]) -> str:
    """`lr = 0.1, momentum = 0.9`; a width that also stands in steps is left out."""
    return ", ".join(
        f"{name} = {readable(value) if isinstance(value, int | float) and not isinstance(value, bool) else value}"
        for name, value in values.items()
        if value is not None and not (name in STEPS_OF and STEPS_OF[name] in values)
    )


def rounded_up(value: float) -> float:
    """To the digits that `readable` shows, upwards, so that the limit that is printed would be enough."""
    if value <= 0:  # no digits to round to; nothing costs less than nothing
        return value
    unit = 1.0 if value >= 100 else 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit - 1e-9) * unit


def hours_up(hours: float) -> float:
    """`rounded_up` in the unit that `duration` shows."""
    _, scale = unit_of_duration(hours)
    return rounded_up(hours * scale) / scale


def is_open(found: Recommendation) -> bool:
    """Whether the fit leaves the choice open: other hardware, or batch sizes at which the choice costs a tenth more."""
    if found.advised is None:
        return False
    sure = found.certainty[found.advised]
    if sure.rivals or sure.room is None or sure.batch_size_low is None:
        return bool(sure.rivals)
    low, high = sure.room
    return not (low <= sure.batch_size_low and (sure.batch_size_high or math.inf) <= high)


def _stretch(low: float, high: float) -> str:
    return f"{readable(low)} to {readable(high)}"


def _sizes(sizes: Sequence[float]) -> str:
    return " and ".join(readable(size) for size in sizes)


_LONGER = f"{readable(100 * ROOM)} % longer"


@dataclass(frozen=True)
class Wording:
    """What can be said of a recommendation that has no words yet."""

    found: Recommendation
    offers: Sequence[Terms]  # the fit and the hardware it was computed from
    hardware: Sequence[Hardware]  # all that was given, also what is not offered
    target: str | None = None  # what is to be reached

    @cached_property
    def point(self) -> FrontierPoint | None:
        """The advised choice."""
        return None if self.found.advised is None else self.found.choices[self.found.advised]

    @cached_property
    def terms(self) -> Terms:
        """Those of the advised choice."""
        return self.offers[0] if self.point is None else terms_at(self.point, self.offers)

    @property
    def level(self) -> str:
        """`95 % interval`."""
        return f"{readable(100 * self.found.level)} % interval"

    def sentences(self) -> tuple[str, str]:
        """What to train at and what that takes; where larger batches stop paying."""
        found, fit, point = self.found, self.offers[0].fit, self.point
        if point is None:
            missed = found.infeasible
            joined = (" or " if missed[0].alone else " and ").join(self._least(entry) for entry in missed)
            first = f"No batch size in the measured range keeps the limits; it would take {joined}."
        else:
            spread = f" ({self.level} {point.estimate('steps').interval()})" if _known(point, "steps") else ""
            spent = [f"{readable(point.examples)} {found.unit}"]
            if point.hours is not None and point.cost is not None:
                spent.append(duration(point.hours))
                if found.cost_unit == "currency":
                    spent.append(f"at a cost of {readable(point.cost)}")
            steps = f"about {readable(point.steps)} steps{spread}"
            first = f"Train at {place(point.batch_size, point.hardware)}: {steps}, {', '.join(spent)}."
            room = found.certainty[found.advised or ""].room
            # With limits, the stretch may break one.
            if found.advised not in ("best", "balanced") and room is not None and room[0] != room[1]:
                first += f" From {_stretch(*room)} it takes at most {_LONGER}."
        if not fit.identified["b_crit"]:
            return first, (
                "How far larger batches pay is not known: the critical batch size is not determined by these "
                "measurements."
            )
        # At B = b_crit, S(2B) / S(B) = 1.5 / 2.
        return first, (
            f"Beyond the critical batch size of {readable(fit.b_crit)} {fit.unit} ({self.level} "
            f"{_stretch(fit.b_crit_low, fit.b_crit_high)}), doubling the batch size saves less than a quarter of the "
            "steps."
        )

    def paragraph(self) -> str:
        """Say what to do, what it takes, what decides, what else could be chosen, what was assumed, what would change.

        Where b_crit is not identified the first words are not to decide yet, and what to measure first; where the
        limits cannot be kept, not to start, and what would have to give.
        """
        return " ".join(
            [
                *self._not_yet(),
                *(self._cannot() if self.point is None else self._decided(self.point)),
                *self._rough(),
                *self._assumed(),
            ]
        )

    def caveats(self) -> tuple[str, ...]:
        """What was assumed and what is doubtful, that about the fit first."""
        clauses = (self._doubts_on_fit, self._doubts_on_limits, self._doubts_on_time, self._doubts_on_settings)
        return tuple(sentence for clause in clauses for sentence in clause())

    # --- the paragraph ---

    def _not_yet(self) -> Iterator[str]:
        """That it is too early, why, and what to measure first."""
        terms = self.offers[0]
        if terms.on_curve:
            return
        fit, sizes = terms.fit, sorted(terms.measured)
        smallest, largest = readable(sizes[0]), readable(sizes[-1])
        first = "more batch sizes, and repeat each with more seeds"
        why = "the measurements scatter too much to show where larger batches stop paying off"
        far = f"the measurements, up to batch size {largest}, do not show where larger batches stop paying off"
        if fit.sigma is None:
            why = f"{len(sizes)} batch sizes cannot show where larger batches stop paying off"
            first = "at least four more batch sizes"
        elif not fit.identified["s_min"] and not fit.identified["e_min"]:
            why, first = far, f"batch sizes below {smallest} and above {largest}"
        elif not fit.identified["s_min"]:
            why, first = far, f"batch sizes above {largest}"
        elif not fit.identified["e_min"]:
            why = f"the measurements, down to batch size {smallest}, do not show how little small batches would need"
            first = f"batch sizes below {smallest}"
            if sizes[0] <= 1:
                why = f"the steps hardly fall from batch size {smallest} on, and there is no smaller one"
                yield f"Do not count on larger batches: {why}. Repeat the measurements with more seeds first."
                return
        yield f"Do not decide on this yet: {why}. Measure {self.found.next_measurement or first} first."

    def _cannot(self) -> Iterator[str]:
        """That the limits cannot be kept, what comes nearest, and what would have to give."""
        found, missed, curve, limits = self.found, self.found.infeasible, self.terms.fit.curve, self.found.limits
        anywhere = " on any of the hardware given" if found.several else ""
        yield f"Do not start under these limits: no batch size in the measured range keeps them{anywhere}."
        needed = [self._needed(entry) for entry in missed]
        wheres = [place(entry.batch_size, entry.hardware if found.several else "") for entry in missed]
        if missed[0].alone:
            yield f"Allow {', or '.join(f'{n}, at {where}' for n, where in zip(needed, wheres, strict=True))}."
        else:  # these are all of one place
            yield f"It would take {' and '.join(needed)} together, at {wheres[0]}."
        if not self.terms.on_curve:
            return
        if "max_steps" in limits and curve.batch_size_for_steps(limits["max_steps"]) is None:
            yield f"Larger batches cannot help: even the largest takes at least {readable(curve.s_min)} steps."
        if "max_examples" in limits and curve.batch_size_for_examples(limits["max_examples"]) is None:
            least = f"{readable(curve.e_min)} {found.unit}"
            yield f"Smaller batches cannot help: even the smallest takes at least {least}."
        yield from self._beyond()

    def _decided(self, point: FrontierPoint) -> Iterator[str]:
        """What to do and why."""
        for clause in (self._do, self._settings, self._how_exact, self._binds, self._kept, self._else, self._change):
            yield from clause(point)

    def _do(self, point: FrontierPoint) -> Iterator[str]:
        found, where = self.found, place(point.batch_size, point.hardware)
        if self.terms.on_curve:
            yield f"Train at {where}."
        else:
            yield f"If training must start before that, use {where}, the best of the batch sizes that were measured."
        spent = [
            f"about {readable(point.steps)} steps (updates of the model)",
            f"{readable(point.examples)} {found.unit}",
        ]
        if point.hours is not None and point.cost is not None:
            spent.append(duration(point.hours))
            if found.cost_unit == "currency" or found.several or point.devices != 1:
                spent.append(self._money(point.cost))
        # The interval of what is paid: of the time where it is known, else of the steps.
        between = ""
        if _known(point, "hours"):
            between = f"; the {self.level} of the time is {point.estimate('hours').interval(duration)}"
            if found.cost_unit == "currency" and _known(point, "cost"):
                between += f", of the cost {point.estimate('cost').interval()}"
        elif _known(point, "steps"):
            between = f"; the {self.level} of the steps is {point.estimate('steps').interval()}"
        yield f"This takes {enumeration(spent)}{between}."

    def _settings(self, _: FrontierPoint) -> Iterator[str]:
        found = self.found
        at = found.hyperparameters.get(found.advised or "")
        if at is None or not (values := listed(at.values)):
            return
        between = _sizes(at.studies)
        origin = {
            "measured": "the best that was found at this batch size",
            "interpolated": f"read between the best at batch sizes {between}, so try them once before the full run",
            "law": (
                f"the learning rate by the law that all studies support, the rest from batch size {between}, so try "
                "them once before the full run"
            ),
            "extrapolated": f"extrapolated from batch size {between}, so tune them again",
            "nearest": f"those of batch size {between}, the nearest that was searched, so tune them again",
        }
        yield f"Set {values}: {origin[at.source]}."
        room = found.certainty[found.advised or ""].room
        if at.source != "measured" and found.advised != "best" and room is not None:
            near = [size for size in at.studies if room[0] <= size <= room[1]]
            if near:
                longer = f"at most {_LONGER}"
                yield f"Batch size {readable(near[0])} was searched itself and takes {longer}: the safer start."

    def _how_exact(self, _: FrontierPoint) -> Iterator[str]:
        """Whether the exact size matters, and whether the measurements know it."""
        if self.found.advised == "best":  # the stretch may break a limit; what binds is said instead
            return
        sure, wide = self.found.certainty[self.found.advised or ""], True
        if sure.room is not None and sure.room[0] < sure.room[1]:
            first, last = sure.room
            yield (
                f"The exact size matters little: from {_stretch(first, last)} it takes at most {_LONGER}."
                if last >= _WIDE * first
                else f"Stay close to it: outside of {_stretch(first, last)} it takes more than {_LONGER}."
            )
            wide = (sure.batch_size_low or first) < first or (sure.batch_size_high or last) > last
        elif sure.room is not None:
            wide = False
        low, high = sure.batch_size_low, sure.batch_size_high
        if wide and low is not None and high is not None and low < high:
            yield f"The best size is known to within {_stretch(low, high)} ({self.level})."

    def _binds(self, point: FrontierPoint) -> Iterator[str]:
        """Which limits decide, what would be chosen without them, and from where on it would no longer be the same."""
        found = self.found
        if not found.binding or found.unbound is None:
            yield from (self._does_not_bind(name, point) for name in found.limits)
            return
        free, other, binding = found.unbound, self._next(), found.binding[0]
        named = " and the ".join(self._limit(name) for name in found.binding)
        if len(found.binding) > 1:
            gain = self._gain(free, point)
            yield f"What decides is the {named} together: without them, {gain}; lifting fewer of them gains nothing."
            return
        yield f"What decides is the {named}: without it, {self._gain(free, point)}."
        if other is not None and other != free:
            more = self._enough(binding, getattr(other, LIMITED[binding]))
            yield f"Already with {more}, {self._gain(other, point)}."

    def _does_not_bind(self, name: str, point: FrontierPoint) -> str:
        """That a limit is loose, and how tight it would have to be to matter."""
        told, choices = f"The {self._limit(name)} does not change the choice", self.found.choices
        least = {"max_hours": choices["fastest"].hours, "max_cost": choices["cheapest"].cost}.get(name)
        taken = getattr(point, LIMITED[name])
        if taken == least:
            return f"{told}, but nothing here keeps one below {self._amount(name, taken)}."
        return f"{told}; only one below {self._amount(name, taken)} would."

    def _next(self) -> FrontierPoint | None:
        """Beyond a deadline or a budget, the least product of hours and cost: what giving way a little would bring."""
        found = self.found
        if found.binding not in (("max_hours",), ("max_cost",)) or not found.several:
            return None
        (binding,) = found.binding
        quantity, limit, others = LIMITED[binding], found.limits[binding], without(found.limits, found.binding)
        beyond = [
            point
            for point in found.frontier
            if point.efficient
            and getattr(point, quantity) > limit
            and all(getattr(point, LIMITED[name]) <= value for name, value in others.items())
        ]
        return min(beyond, key=lambda point: (point.hours or 0.0) * (point.cost or 0.0), default=None)

    def _kept(self, point: FrontierPoint) -> Iterator[str]:
        """Whether the limits are kept with the upper end of the interval too, and what would keep them safely."""
        found = self.found
        if not found.limits:
            return
        highs = {name: getattr(point, f"{LIMITED[name]}_high") for name in found.limits}
        if any(high is None for high in highs.values()):
            yield "There is no interval, so how safely the limits are kept is not known."
            return
        over = {name: high for name, high in highs.items() if high > found.limits[name]}
        if not over:
            yield f"By the measurements this is safe: the upper end of the {self.level} is within the limits too."
            return
        reach = " and ".join(
            ("a cost of " if n == "max_cost" else "") + self._enough(n, high) for n, high in over.items()
        )
        yield f"This is not safe: the estimate keeps the limits, but the {self.level} reaches up to {reach}."
        safe = found.choices.get("safe")
        if safe is None:
            yield f"No choice is safe, so begin only if {reach} would do too."
            return
        taken = f"{readable(safe.steps)} steps and {readable(safe.examples)} {found.unit}"
        taken += "" if safe.hours is None else f", {self._paid(safe)}"
        yield f"If the limits must hold, train at {self._where(safe)} instead: {taken}."

    def _else(self, point: FrontierPoint) -> Iterator[str]:
        """What else could be chosen where no limits are given."""
        found = self.found
        if found.limits or not self.terms.on_curve:
            return
        cheapest, fastest = found.choices["cheapest"], found.choices["fastest"]
        cheaper, faster = (f"{self._where(other)} ({self._paid(other)})" for other in (cheapest, fastest))
        if point.hours is None:
            yield from self._exchange(point)
        elif not found.several:
            yield "On this hardware no batch size is faster, and none is cheaper, because every hour costs the same."
            if found.cost_unit == "currency":
                yield "Another price changes the cost, not the batch size."
        elif cheapest == fastest == point:
            yield "Of all the hardware given this is both the fastest and the cheapest."
        elif point == cheapest:
            yield f"This is the cheapest. If only time counts, train at {faster}."
        elif point == fastest:
            yield f"This is the fastest. If only money counts, train at {cheaper}."
        else:
            yield (
                f"This weighs time and money alike. If only money counts, train at {cheaper}; if only time counts, at "
                f"{faster}."
            )

    def _exchange(self, point: FrontierPoint) -> Iterator[str]:
        """What moving the batch size does where only steps and examples are known."""
        curve, size, unit = self.terms.fit.curve, point.batch_size, self.found.unit
        fewer = 100 * (1 - float(curve.steps(2 * size)) / point.steps)
        more = 100 * (float(curve.examples(2 * size)) / point.examples - 1)
        less = 100 * (1 - float(curve.examples(size / 2)) / point.examples)
        slower = 100 * (float(curve.steps(size / 2)) / point.steps - 1)
        yield (
            f"This weighs steps and {unit} alike: twice the batch size saves {readable(fewer)} % of the steps and "
            f"needs {readable(more)} % more {unit}, half of it saves {readable(less)} % of the {unit} and needs "
            f"{readable(slower)} % more steps. Hours and cost are not known: time a step at two batch sizes or more "
            "before you pay for hardware. If a step takes equally long at every size, larger is faster; if its time "
            "grows with the size, a larger batch saves no time and costs more."
        )

    def _change(self, point: FrontierPoint) -> Iterator[str]:
        """Prices, hardware, measurements beyond the range: what would lead to another choice."""
        found = self.found
        yield from (self._price(entry) for entry in found.break_even)
        if found.cost_unit == "device-hours" and len(found.kinds) > 1:
            yield "No prices were given, so an hour of every device counts the same here: give prices first."
        if rivals := found.certainty[found.advised or ""].rivals:
            yield f"It is a close race: within the interval of the measurements {' or '.join(rivals)} may be better."
        if not self.terms.on_curve:
            return
        if point.step_time_source == "extrapolated":
            yield "No step was timed at this size: time one first, and see that it fits into memory."
        which = _edge(point, self.terms) if point.hours is not None and not found.binding else None
        if which is not None:
            yield f"It is the {which}est batch size measured; {which}er ones may be faster still."
        if which == "small":
            yield "Larger ones only take longer here, because a step's time grows nearly as fast as the batch."

    def _price(self, entry: BreakEven) -> str:
        found = self.found
        if entry.chosen_below is not None:
            return (
                f"{entry.device} becomes the choice below a price of {readable(entry.chosen_below)} per device-hour "
                f"(now {readable(entry.price_per_device_hour)})."
            )
        kept = " and the ".join(self._limit(name) for name in found.limits if name != "max_cost")
        why = "it is not faster" if found.objective == "hours" else f"it does not keep the {kept}"
        if found.objective != "hours" and self.point is not None and self.point.cost == 0:
            why = "what is chosen costs nothing"
        return f"No price makes {entry.device} the choice: {why}."

    def _rough(self) -> Iterator[str]:
        """That the points bend away from the curve, and where a curve with a free knee has its optimum."""
        found, terms, knee, bent = self.found, self.terms, self.terms.fit.p_norm, self._bend()
        if bent is not None:
            other = ""
            if knee is not None and found.advised not in (None, "best"):
                sizes = terms.sizes(_GRID)
                steps = knee.steps(sizes)
                paid = sizes * steps**2 if terms.hardware is None else steps * terms.hardware.step_times.seconds(sizes)
                best = readable(float(sizes[int(np.argmin(paid))]))
                other = f"; a curve that follows the bend has its best size at {best}"
            yield f"Take all this as rough: the measurements bend away from the assumed curve, and {bent}{other}."
        if terms.on_curve and found.next_measurement is not None:
            yield f"To be surer, measure {found.next_measurement} next."

    def _bend(self) -> str | None:
        """How far the curve is off at worst, where the points bend away from it; None where they do not."""
        fit = self.offers[0].fit
        if not fit.lack_of_fit or not self.offers[0].on_curve:
            return None
        worst = max((s for s in fit.studies if s.log_residual is not None), key=lambda s: abs(s.log_residual or 0))
        off = 100 * abs(math.expm1(worst.log_residual or 0))
        side = "below" if (worst.log_residual or 0) < 0 else "above"
        return (
            f"at batch size {readable(worst.batch_size)} the measured steps are {readable(off)} % {side} the curve "
            "that is used here"
        )

    def _assumed(self) -> Iterator[str]:
        terms, parts = self.terms, ["the hyperparameters are tuned for the batch size that is used"]
        if terms.hardware is not None:
            parts += ["steps take as long as they did when timed", "evaluation takes no time"]
        goal = f"the target ({self.target})" if self.target else "the target"
        yield f"Assumed: {', '.join(parts)}, and training stops once {goal} is reached."
        if terms.on_curve and terms.fit.sigma is not None and terms.fit.sigma >= 0.005:
            # Intervals are those of the tuned curve; a single run has its own luck on top.
            yield f"Single runs scatter around these numbers, by {100 * terms.fit.sigma:.2g} % or more."

    # --- the caveats ---

    def _doubts_on_fit(self) -> Iterator[str]:
        notes = self.offers[0].fit.notes
        if not self.offers[0].on_curve:
            why = next((note for note in notes if "not identified" in note or "nothing is called" in note), "")
            yield f"Only measured batch sizes are offered, with their measured steps and no interval. {why}".rstrip()
        elif (bent := self._bend()) is not None:
            yield f"The points bend away from the hyperbola: {bent}."

    def _doubts_on_limits(self) -> Iterator[str]:
        found = self.found
        if not found.feasible:
            yield from self._beyond() if self.offers[0].on_curve else ()
            return
        over = False
        for name, limit in found.limits.items():
            high = getattr(found.choices["best"], f"{LIMITED[name]}_high")
            if high is not None and high > limit:
                over = True
                yield (
                    f"The best choice keeps {name} = {readable(limit)} by the estimate, but the upper end of its "
                    f"interval is {readable(high)}."
                )
        safe = found.choices.get("safe")
        if over and safe is not None:
            yield f"The upper ends of the intervals keep the limits at {place(safe.batch_size, safe.hardware)}."
        if over and safe is None:
            yield "No choice keeps the limits with the upper ends of its intervals too."

    def _beyond(self) -> Iterator[str]:
        """Where the curve would keep a limit that no measured batch size keeps."""
        terms, limits = self.offers[0], self.found.limits
        curve, least, most = terms.fit.curve, min(terms.measured), max(terms.measured)
        larger = curve.batch_size_for_steps(limits["max_steps"]) if "max_steps" in limits else None
        smaller = curve.batch_size_for_examples(limits["max_examples"]) if "max_examples" in limits else None
        if larger is not None and larger > most:
            where = f"from batch size {readable(larger)} on, beyond the largest measured, {readable(most)}"
            yield f"The curve would keep max_steps {where}; measure there before relying on it."
        if smaller is not None and smaller < least:
            where = f"up to batch size {readable(smaller)}, below the smallest measured, {readable(least)}"
            yield f"The curve would keep max_examples {where}; measure there before relying on it."

    def _doubts_on_time(self) -> Iterator[str]:
        found, hardware = self.found, [terms.hardware for terms in self.offers if terms.hardware is not None]
        cheapest, fastest = found.choices["cheapest"], found.choices["fastest"]
        if not hardware:
            yield (
                "Step times are not known, so there are no hours and no cost: cheapest means fewest examples, fastest "
                "fewest steps."
            )
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
        elif cheapest == fastest:
            yield "Cheapest and fastest agree, because on a fixed number of devices cost is hours times a constant."
        for item in hardware:
            mine = [p for p in found.choices.values() if (p.device, p.devices) == (item.device, item.devices)]
            if any(point.step_time_source == "extrapolated" for point in mine):
                sizes, on = item.step_times.batch_sizes, f" on {item.title}" if item.title else ""
                yield (
                    f"Step times{on} were measured from batch size {_stretch(sizes[0], sizes[-1])} only; a choice "
                    "outside uses a linear model, and whether a larger batch fits into memory is not known. Splitting "
                    "a step into several passes (gradient accumulation) would not make it faster."
                )
        for item in self.hardware:
            if item not in hardware:
                only = readable(item.step_times.batch_sizes[0])
                timed = f"it was timed only at batch size {only}, and the steps there are not known"
                yield f"{item.title} is not offered: {timed}."
        which_end = _edge(fastest, terms_at(fastest, self.offers))  # the optimum may lie beyond what was measured
        if which_end is not None:
            text = f"The fastest choice, {readable(fastest.batch_size)}, is the {which_end}est batch size measured"
            yield f"{text}; {which_end}er ones may be faster still."

    def _doubts_on_settings(self) -> Iterator[str]:
        found = self.found
        if not found.hyperparameters:
            return
        at = found.hyperparameters[found.advised or next(iter(found.hyperparameters))]
        between = _sizes(at.studies)
        origin = {
            "interpolated": f"are interpolated between batch sizes {between}; nothing was trained there",
            "extrapolated": f"are extrapolated from batch sizes {between}; retune them",
            "nearest": f"are those of the nearest study, at batch size {between}; retune them",
        }
        if at.source in origin:
            yield f"The hyperparameters {origin[at.source]}."
        elif at.source == "law":
            rest = f"the rest is read at batch sizes {between}; nothing was trained there"
            yield f"The learning rate follows the law that the studies support, {rest}."
        # Steps and examples count updates; a gradient that is taken twice shows in neither.
        kinds = [str(point.values.get("extrapolation", "")) for point in found.hyperparameters.values()]
        count = max(EXTRAPOLATIONS.get(kind, 1) for kind in kinds)
        if count > 1:
            yield (
                f"An update takes the gradient of each of its examples {'twice' if count == 2 else f'{count} times'}, "
                f"as the extrapolation needs one of its own: examples count data, and gradients are {count} times as "
                "many."
            )

    # --- phrases ---

    def _where(self, point: FrontierPoint) -> str:
        return place(point.batch_size, point.hardware if self.found.several else "")

    def _money(self, cost: float) -> str:
        """`a cost of 42`, or `42 device-hours` where no price was given."""
        known = self.found.cost_unit == "device-hours"
        return f"{readable(cost)} device-hours" if known else f"a cost of {readable(cost)}"

    def _paid(self, point: FrontierPoint) -> str:
        if point.hours is None or point.cost is None:
            return f"{readable(point.steps)} steps"
        return f"{self._money(point.cost)} in {duration(point.hours)}"

    def _limit(self, name: str) -> str:
        return f"{_NAMES[name]} of {self._amount(name, self.found.limits[name])}"

    def _amount(self, limit: str, value: float) -> str:
        """A value of what is limited, with its unit; money has none."""
        if limit == "max_hours":
            return duration(value)
        if limit == "max_cost":
            return readable(value) + (" device-hours" if self.found.cost_unit == "device-hours" else "")
        return f"{readable(value)} {'steps' if limit == 'max_steps' else self.found.unit}"

    def _enough(self, limit: str, value: float) -> str:
        """The least limit that lets through a value, as it is printed, with its unit."""
        return self._amount(limit, hours_up(value) if limit == "max_hours" else rounded_up(value))

    def _gain(self, better: FrontierPoint, point: FrontierPoint) -> str:
        """What another place would save."""
        unit, paid = self.found.unit, f"({self._paid(better)} instead of {self._paid(point)})"
        saves = {
            "cost": f"be cheaper {paid}",
            "hours": f"be faster {paid}",
            "examples": f"need fewer {unit} ({readable(better.examples)}, not {readable(point.examples)})",
            "steps": f"need fewer steps ({readable(better.steps)}, not {readable(point.steps)})",
        }
        return f"{self._where(better)} would {saves[self.found.objective]}"

    def _needed(self, missed: LimitMissed) -> str:
        """What a limit would have to be, with how much more that is."""
        ratio = missed.needed / missed.given
        more = f"{readable(100 * (ratio - 1))} % more" if ratio < 2 else f"{readable(ratio)} times as much"
        if missed.needed_high is not None and missed.needed_high > missed.needed:
            more += f"; {self._enough(missed.limit, missed.needed_high)} to be safe"
        needed, given = self._enough(missed.limit, missed.needed), self._amount(missed.limit, missed.given)
        return f"a {_NAMES[missed.limit]} of {needed} instead of {given} ({more})"

    def _least(self, missed: LimitMissed) -> str:
        """The same by the name of the option."""
        shown, up = (duration, hours_up) if missed.limit == "max_hours" else (readable, rounded_up)
        where = f" on {missed.hardware}" if self.found.several else ""
        return f"{missed.limit} at least {shown(up(missed.needed))} (given {shown(missed.given)}){where}"


def _known(point: FrontierPoint, quantity: str) -> bool:
    """Whether both ends of an interval are known."""
    return getattr(point, f"{quantity}_low") is not None and getattr(point, f"{quantity}_high") is not None


def _edge(point: FrontierPoint, terms: Terms) -> Literal["larg", "small"] | None:
    """Whether a batch size is the largest or the smallest measured: the stem of the word."""
    if terms.hardware is not None and terms.hardware.step_times.fixed:
        return None
    if point.batch_size == max(terms.measured):
        return "larg"
    return "small" if point.batch_size == min(terms.measured) else None
