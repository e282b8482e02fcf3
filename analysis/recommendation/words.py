"""A recommendation in words: two sentences, and the whole decision as one paragraph.

Each text is a list of clauses; a clause yields the sentences it has to say, which may be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from bcrit.analysis.numbers import duration, enumeration, readable, rounded_up
from bcrit.analysis.recommendation import choices
from bcrit.analysis.recommendation.doubts import Certainty, beyond, broken

if TYPE_CHECKING:
    from bcrit.analysis.recommendation import Recommendation

_CALLED: Final = {"max_hours": "deadline", "max_cost": "budget"}  # the others are limits, told apart by their unit
_LONGER: Final = f"{readable(100 * choices.ROOM)} % longer"


def _stretch(low: float, high: float) -> str:
    return f"{readable(low)} to {readable(high)}"


class Wording:
    """What can be said of a recommendation that has no words yet."""

    def __init__(self, found: Recommendation, offers: Sequence[choices.Terms], target: str | None) -> None:
        """`offers` are the fit and the hardware it was computed from."""
        self.found = found
        self.goal = f"the target ({target})" if target else "the target"
        self.advised = found.advised or ""
        self.point, self.best = (found.choices.get(name) for name in (self.advised, found.best_on_curve))
        self.sure = found.certainty.get(found.best_on_curve, Certainty())
        self.terms = offers[0] if self.point is None else choices.terms_at(self.point, offers)
        self.fit, self.unit, self.on_curve = offers[0].fit, found.unit, offers[0].on_curve
        self.level = f"{readable(100 * found.level)} % interval"

    def sentences(self) -> tuple[str, str]:
        """What to train at and what that takes; where larger batches stop paying."""
        found, fit, point = self.found, self.fit, self.point
        if point is None:
            missed = found.infeasible
            joined = (" or " if missed[0].alone else " and ").join(self._least(entry) for entry in missed)
            first = f"No batch size in the measured range keeps the limits; it would take {joined}."
        elif not self.on_curve:
            first = " ".join(self._not_yet())
        else:
            between, spent = point.interval("steps"), [f"{readable(point.examples)} {self.unit}"]
            if point.hours is not None and point.cost is not None:
                spent.append(duration(point.hours))
                spent += [f"at a cost of {readable(point.cost)}"] if found.cost_unit == "currency" else []
            steps = f"about {readable(point.steps)} steps" + (f" ({self.level} {between})" if between else "")
            first = f"Train at {choices.place_text(point.batch_size, point.hardware)}: {steps}, {', '.join(spent)}."
            if beside := [*self._beside(point)]:
                first += f" {beside[0]}"
        if not fit.identified["b_crit"]:
            return first, (
                "How far larger batches pay is not known: the critical batch size is not determined by these "
                "measurements."
            )
        less = "a quarter"  # on the hyperbola at B = b_crit, S(2B) / S(B) = 1.5 / 2
        if fit.trough is not None or fit.lack_of_fit:
            here, twice = self.terms.curve.steps([fit.b_crit, 2 * fit.b_crit]).tolist()
            less = f"{readable(100 * (1 - twice / here))} %"
        return first, (
            f"Beyond the critical batch size of {readable(fit.b_crit)} {fit.unit} ({self.level} "
            f"{_stretch(fit.b_crit_low, fit.b_crit_high)}), doubling the batch size saves less than {less} of the "
            "steps."
        )

    def paragraph(self) -> str:
        """Say what to do, what it takes, what decides, what else could be chosen, what was assumed, what would change.

        Where b_crit is not identified the first words are not to decide yet, and what to measure first; where the
        limits cannot be kept, not to start, and what would have to give.
        """
        middle = self._cannot() if self.point is None else self._decided(self.point)
        return " ".join([*self._not_yet(), *middle, *self._next(), *self._assumed()])

    # --- the paragraph ---

    def _not_yet(self) -> Iterator[str]:
        """That it is too early, why, and what to measure first."""
        if self.on_curve:
            return
        if self.fit.boxes is not None and self.fit.boxes.decide:
            why = "optima stand at the edge of their search boxes, and better ones may lie outside"
            yield f"Do not decide on this yet: {why}. {self.fit.next_sentence()}"
            return
        known, sizes = self.fit.identified, sorted(self.terms.measured)
        smallest, largest = readable(sizes[0]), readable(sizes[-1])
        why = "the measurements scatter too much to show where larger batches stop paying off"
        first = "more batch sizes, and repeat each with more seeds"
        if self.fit.sigma is None:
            why = f"{len(sizes)} batch sizes cannot show where larger batches stop paying off"
            first = "at least four more batch sizes"
        elif not known["s_min"]:
            why = f"the measurements, up to batch size {largest}, do not show where larger batches stop paying off"
            first = f"batch sizes {'' if known['e_min'] else f'below {smallest} and '}above {largest}"
        elif not known["e_min"]:
            why = f"the measurements, down to batch size {smallest}, do not show how little small batches would need"
            first = f"batch sizes below {smallest}"
            if sizes[0] <= 1:
                why = f"the steps hardly fall from batch size {smallest} on, and there is no smaller one"
                yield f"Do not count on larger batches: {why}. Repeat the measurements with more seeds first."
                return
        yield f"Do not decide on this yet: {why}. Measure {self.found.next_measurement or first} first."

    def _cannot(self) -> Iterator[str]:
        """That the limits cannot be kept, what comes nearest, and what would have to give."""
        found, limits = self.found, self.found.limits
        anywhere = " on any of the hardware given" if found.several else ""
        yield f"Do not start under these limits: no batch size in the measured range keeps them{anywhere}."
        needed = [self._needed(missed) for missed in found.infeasible]
        wheres = [self._where(missed) for missed in found.infeasible]
        if found.infeasible[0].alone:
            yield f"Allow {', or '.join(f'{n}, at {where}' for n, where in zip(needed, wheres, strict=True))}."
        else:  # these are all of one place
            yield f"It would take {' and '.join(needed)} together, at {wheres[0]}."
        yield from beyond(self.terms, limits)

    def _decided(self, point: choices.FrontierPoint) -> Iterator[str]:
        """What to do and why."""
        what = (self._do, self._settings, self._beside, self._how_exact)
        for clause in (*what, self._binds, self._kept, self._else, self._change):
            yield from clause(point)

    def _do(self, point: choices.FrontierPoint) -> Iterator[str]:
        found, where = self.found, choices.place_text(point.batch_size, point.hardware)
        if self.on_curve:
            yield f"Train at {where}."
        else:
            yield f"If training must start before that, use {where}, the best of the batch sizes that were measured."
        spent = [
            f"about {readable(point.steps)} steps (updates of the model)",
            f"{readable(point.examples)} {self.unit}",
        ]
        times = [end for end in (point.hours_low, point.hours, point.hours_high) if end is not None]
        if point.hours is not None and point.cost is not None:
            spent.append(duration(point.hours, beside=times))
            if found.cost_unit == "currency" or found.several or point.devices != 1:
                spent.append(self._money(point.cost))
        # The interval of what is paid: of the time where it is known, else of the steps.
        between = ""
        if hours := point.interval("hours", lambda each: duration(each, beside=times)):
            between = f"; the {self.level} of the time is {hours}"
            between += f", of the cost {point.interval('cost')}" if found.cost_unit == "currency" else ""
        elif steps := point.interval("steps"):
            between = f"; the {self.level} of the steps is {steps}"
        yield f"This takes {enumeration(spent)}{between}."

    def _settings(self, _: choices.FrontierPoint) -> Iterator[str]:
        at = self.found.hyperparameters.get(self.advised)
        if at is not None and at.listed:
            yield f"Set {at.listed}: {at.origin}."

    def _beside(self, point: choices.FrontierPoint) -> Iterator[str]:
        """The optimum of the curve, where it is not a measured batch size, and the stretch that does nearly as well."""
        best, room = self.best, self.sure.room
        if not self.on_curve or best is None:
            return
        was = f"; {readable(point.batch_size)} was measured."
        if self.found.limits:  # the stretch may break one
            if best != point:
                yield f"By the curve {self._gain(best, point)}{was}"
            return
        stretch = "" if room is None or room[0] == room[1] else f"rom {_stretch(*room)} it takes at most {_LONGER}"
        if best != point:
            yield f"By the curve {readable(best.batch_size)} is best{stretch and f', and f{stretch} than there'}{was}"
        elif stretch:
            yield f"F{stretch}."

    def _how_exact(self, _: choices.FrontierPoint) -> Iterator[str]:
        """Whether the measurements know the best size, where more than the stretch is open."""
        low, high, room = self.sure.batch_size_low, self.sure.batch_size_high, self.sure.room
        if self.found.limits or low is None or high is None or low == high:  # what binds is said instead
            return
        if room is None or low < room[0] or high > room[1]:
            yield f"The best size is known to within {_stretch(low, high)} ({self.level})."

    def _binds(self, point: choices.FrontierPoint) -> Iterator[str]:
        """Which limits decide, what would be chosen without them, and from where on it would no longer be the same."""
        found, free = self.found, self.found.unbound
        if not found.binding or free is None:
            least = {"max_hours": found.choices["fastest"].hours, "max_cost": found.choices["cheapest"].cost}
            for name in found.limits:  # loose ones, and how tight they would have to be to matter
                taken = getattr(point, choices.LIMITED[name])
                told = f"The {self._limit(name)} does not change the choice"
                amount = self._amount(name, taken)
                if taken == least.get(name):
                    yield f"{told}, but nothing here keeps one below {amount}."
                else:
                    yield f"{told}; only one below {amount} would."
            return
        named, gain = " and the ".join(map(self._limit, found.binding)), self._gain(free, point)
        if len(found.binding) > 1:
            yield f"What decides is the {named} together: without them, {gain}; lifting fewer of them gains nothing."
            return
        yield f"What decides is the {named}: without it, {gain}."
        other, binding = choices.next_beyond(found.frontier, found.limits, found.binding), found.binding[0]
        if other is not None and other != free:
            more = self._amount(binding, getattr(other, choices.LIMITED[binding]), up=True)
            yield f"Already with {more}, {self._gain(other, point)}."

    def _kept(self, point: choices.FrontierPoint) -> Iterator[str]:
        """Whether the limits are kept with the upper end of the interval too, and what would keep them safely."""
        found, over, safe = self.found, broken(point, self.found.limits), self.found.choices.get("safe")
        if not found.limits:
            return
        if any(getattr(point, f"{choices.LIMITED[name]}_high") is None for name in found.limits):
            yield "There is no interval, so how safely the limits are kept is not known."
            return
        if not over:
            yield f"By the measurements this is safe: the upper end of the {self.level} is within the limits too."
            return
        money = {"max_cost": "a cost of "}
        reach = " and ".join(money.get(name, "") + self._amount(name, high, up=True) for name, high in over.items())
        yield f"This is not safe: the estimate keeps the limits, but the {self.level} reaches up to {reach}."
        if safe is None:
            yield f"No choice is safe, so begin only if {reach} would do too."
            return
        taken = f"{readable(safe.steps)} steps and {readable(safe.examples)} {self.unit}"
        taken += "" if safe.hours is None else f", {self._paid(safe)}"
        yield f"If the limits must hold, train at {self._where(safe)} instead: {taken}."

    def _else(self, point: choices.FrontierPoint) -> Iterator[str]:
        """What else could be chosen where no limits are given."""
        found = self.found
        if found.limits or not self.on_curve:
            return
        cheapest, fastest = found.choices["cheapest"], found.choices["fastest"]
        both = (cheapest, fastest)
        cheaper, faster = (f"{self._where(other)} ({self._paid(other, *both)})" for other in both)
        if point.hours is None:
            yield from self._exchange(point)
        elif not found.several:
            yield "On this hardware the fastest batch size is also the cheapest, because every hour costs the same."
            if found.cost_unit == "currency":
                yield "Another price changes the cost, not the batch size."
        elif cheapest == fastest == self.best:
            yield "Of all the hardware given this is both the fastest and the cheapest."
        elif self.best == cheapest:
            yield f"This is the cheapest. If only time counts, train at {faster}."
        elif self.best == fastest:
            yield f"This is the fastest. If only money counts, train at {cheaper}."
        else:
            either = f"If only money counts, train at {cheaper}; if only time counts, at {faster}."
            yield f"This weighs time and money alike. {either}"

    def _exchange(self, point: choices.FrontierPoint) -> Iterator[str]:
        """What moving the batch size does where only steps and examples are known."""
        size, unit = point.batch_size, self.unit
        twice, half = (float(steps) / point.steps for steps in self.terms.curve.steps([2 * size, size / 2]))
        fewer, more = readable(100 * (1 - twice)), readable(100 * (2 * twice - 1))
        less, slower = readable(100 * (1 - half / 2)), readable(100 * (half - 1))
        yield (
            f"This weighs steps and {unit} alike: twice the batch size saves {fewer} % of the steps and needs {more} % "
            f"more {unit}, half of it saves {less} % of the {unit} and needs {slower} % more steps. Hours and cost are "
            "not known: time a step at two batch sizes or more before you pay for hardware. If a step takes equally "
            "long at every size, larger is faster; if its time grows with the size, a larger batch saves no time and "
            "costs more."
        )

    def _change(self, point: choices.FrontierPoint) -> Iterator[str]:
        """Prices, hardware, measurements beyond the range: what would lead to another choice."""
        found = self.found
        for entry in found.break_even:
            if entry.chosen_below is not None:
                below, now = readable(entry.chosen_below), readable(entry.price_per_device_hour)
                yield f"{entry.device} becomes the choice below a price of {below} per device-hour (now {now})."
                continue
            kept = " and the ".join(self._limit(name) for name in found.limits if name != "max_cost")
            why = "it is not faster" if found.objective == "hours" else f"it does not keep the {kept}"
            if found.objective != "hours" and point.cost == 0:
                why = "what is chosen costs nothing"
            yield f"No price makes {entry.device} the choice: {why}."
        if found.cost_unit == "device-hours" and len(found.kinds) > 1:
            yield "No prices were given, so an hour of every device counts the same here: give prices first."
        if rivals := self.sure.rivals:
            yield f"It is a close race: within the interval of the measurements {' or '.join(rivals)} may be better."
        if not self.on_curve:
            return
        if point.step_time_source == "extrapolated":
            yield "No step was timed at this size: time one first, and see that it fits into memory."
        best = self.best if point.hours is not None and not found.binding else None
        which = None if best is None else self.terms.edge(best.batch_size)
        if which is not None:
            yield f"It is the {which}est batch size measured; {which}er ones may be faster still."
        if which == "small":
            yield "Larger ones only take longer here, because a step's time grows nearly as fast as the batch."

    def _next(self) -> Iterator[str]:
        if self.on_curve and self.found.next_measurement is not None:
            yield f"To be surer, measure {self.found.next_measurement} next."

    def _assumed(self) -> Iterator[str]:
        tuned = self.fit.boxes is None  # else a caveat says where they are not
        parts = ["the hyperparameters are tuned for the batch size that is used"] if tuned else []
        if self.terms.hardware is not None:
            parts += ["steps take as long as they did when timed", "evaluation takes no time"]
        assumed = f"{', '.join(parts)}, and training" if parts else "training"
        yield f"Assumed: {assumed} stops once {self.goal} is reached."
        if self.on_curve and self.terms.curve.sigma >= 0.005:
            # Intervals are those of the tuned curve; a single run has its own luck on top.
            yield f"Single runs scatter around these numbers, by {100 * self.terms.curve.sigma:.2g} % or more."

    # --- phrases ---

    def _amount(self, limit: str, value: float, up: bool = False, beside: Sequence[float] = ()) -> str:
        """A value of what is limited, with its unit; upwards, the least limit as it is printed that lets it through."""
        if limit == "max_hours":
            return duration(value, up, beside)
        if limit == "max_cost" and self.found.cost_unit == "device-hours":
            return f"{duration(value, up, beside)} of device time"
        unit = {"max_steps": "steps", "max_examples": self.unit}.get(limit, self.found.cost_unit)
        number = readable(rounded_up(value) if up else value)
        return number if unit == "currency" else f"{number} {unit}"  # money has no unit

    def _limit(self, name: str) -> str:
        """`deadline of 3 h`, `budget of 42`, `limit of 1,000 steps`."""
        return f"{_CALLED.get(name, 'limit')} of {self._amount(name, self.found.limits[name])}"

    def _needed(self, missed: choices.LimitMissed) -> str:
        """What a limit would have to be, with how much more that is."""
        name, needed, high, ratio = missed.limit, missed.needed, missed.needed_high, missed.needed / missed.given
        more = f"{readable(100 * (ratio - 1))} % more" if ratio < 2 else f"{readable(ratio)} times as much"
        beside = (needed, missed.given, high or needed)
        if high is not None and high > needed:
            more += f"; {self._amount(name, high, up=True, beside=beside)} to be safe"
        enough = f"{_CALLED.get(name, 'limit')} of {self._amount(name, needed, True, beside)}"
        return f"a {enough} instead of {self._amount(name, missed.given, beside=beside)} ({more})"

    def _where(self, point: choices.FrontierPoint | choices.LimitMissed) -> str:
        return choices.place_text(point.batch_size, point.hardware if self.found.several else "")

    def _money(self, cost: float) -> str:
        """`a cost of 42`, or `42 h of device time` where no price was given."""
        priced = self.found.cost_unit == "currency"
        return f"a cost of {readable(cost)}" if priced else f"{duration(cost)} of device time"

    def _paid(self, point: choices.FrontierPoint, *others: choices.FrontierPoint) -> str:
        """In the units of those that stand beside it."""
        if point.hours is None or point.cost is None:
            return f"{readable(point.steps)} steps"
        beside = [other.hours for other in others if other.hours is not None]
        return f"{self._money(point.cost)} in {duration(point.hours, beside=beside)}"

    def _gain(self, better: choices.FrontierPoint, point: choices.FrontierPoint) -> str:
        """What another place would save."""
        paid = f"({self._paid(better, point)} instead of {self._paid(point, better)})"
        saves = {
            "cost": f"be cheaper {paid}",
            "hours": f"be faster {paid}",
            "examples": f"need fewer {self.unit} ({readable(better.examples)}, not {readable(point.examples)})",
            "steps": f"need fewer steps ({readable(better.steps)}, not {readable(point.steps)})",
        }
        return f"{self._where(better)} would {saves[self.found.objective]}"

    def _least(self, missed: choices.LimitMissed) -> str:
        """What a limit would have to be, by the name of its option."""
        needed, given = readable(rounded_up(missed.needed)), readable(missed.given)
        if missed.limit == "max_hours":
            both = (missed.needed, missed.given)
            needed, given = duration(missed.needed, up=True, beside=both), duration(missed.given, beside=both)
        where = f" on {missed.hardware}" if self.found.several else ""
        return f"{missed.limit} at least {needed} (given {given}){where}"
