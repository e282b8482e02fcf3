"""Sentences on why a choice is the choice: what binds, how safely, what else there is, what would change it."""

from __future__ import annotations

from bcrit.analysis.recommendation.break_even import BreakEven
from bcrit.analysis.recommendation.caveats import edge
from bcrit.analysis.recommendation.choices import LIMITED, without
from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.result import Recommendation
from bcrit.analysis.recommendation.sentences import LIMIT_NAMES, amount, enough, money, place
from bcrit.analysis.recommendation.terms import Terms
from bcrit.analysis.wording import duration, readable


def what_binds(found: Recommendation, point: FrontierPoint) -> list[str]:
    """Which limits decide, what would be chosen without them, and from where on it would no longer be the same."""
    if not found.limits:
        return []
    if not found.binding or found.unbound is None:
        return [_does_not_bind(found, name, point) for name in found.limits]
    free, other, (binding, *more_of_them) = found.unbound, _next(found), found.binding
    if more_of_them:
        named = " and the ".join(_limit(found, name) for name in found.binding)
        gain = _gain(found, free, point)
        return [f"What decides is the {named} together: without them, {gain}; lifting fewer of them gains nothing."]
    told = f"What decides is the {_limit(found, binding)}: without it, {_gain(found, free, point)}."
    if other is None or other == free:
        return [told]
    more = enough(found, binding, getattr(other, LIMITED[binding]))
    return [told, f"Already with {more}, {_gain(found, other, point)}."]


def limits_kept(found: Recommendation, point: FrontierPoint) -> list[str]:
    """Whether the limits are kept with the upper end of the interval too, and what would keep them safely."""
    if not found.limits:
        return []
    highs = {name: getattr(point, f"{LIMITED[name]}_high") for name in found.limits}
    if any(high is None for high in highs.values()):
        return ["There is no interval, so how safely the limits are kept is not known."]
    over = {name: high for name, high in highs.items() if high > found.limits[name]}
    level = f"{readable(100 * found.level)} % interval"
    if not over:
        return [f"By the measurements this is safe: the upper end of the {level} is within the limits too."]
    reach = " and ".join(
        f"a cost of {enough(found, name, high)}" if name == "max_cost" else enough(found, name, high)
        for name, high in over.items()
    )
    told = f"This is not safe: the estimate keeps the limits, but the {level} reaches up to {reach}."
    safe = found.choices.get("safe")
    if safe is None:
        return [f"{told} No choice is safe, so begin only if {reach} would do too."]
    where = place(safe.batch_size, safe.hardware if found.several else "")
    return [f"{told} If the limits must hold, train at {where} instead: {_taken(found, safe)}."]


def alternatives(found: Recommendation, point: FrontierPoint, terms: Terms) -> list[str]:
    """What else could be chosen where no limits are given."""
    if found.limits or not terms.on_curve:
        return []
    cheapest, fastest = found.choices["cheapest"], found.choices["fastest"]
    if not found.several:
        return [_exchange(found, point, terms)] if point.hours is None else _one_hardware(found, point)
    told = []
    if cheapest == fastest == point:
        told.append("Of all the hardware given this is both the fastest and the cheapest.")
    elif point == cheapest:
        told.append(f"This is the cheapest. If only time counts, train at {_other(found, fastest)}.")
    elif point == fastest:
        told.append(f"This is the fastest. If only money counts, train at {_other(found, cheapest)}.")
    else:
        told.append(
            f"This weighs time and money alike. If only money counts, train at {_other(found, cheapest)}; if only time "
            f"counts, at {_other(found, fastest)}."
        )
    return told


def what_would_change(found: Recommendation, point: FrontierPoint, terms: Terms) -> list[str]:
    """Prices, hardware, measurements beyond the range: what would lead to another choice."""
    told = [_price(found, entry) for entry in found.break_even]
    if found.cost_unit == "device-hours" and len({p.device for p in found.frontier}) > 1:
        told.append("No prices were given, so an hour of every device counts the same here: give prices first.")
    rivals = found.certainty[found.advised or ""].rivals
    if rivals:
        told.append(f"It is a close race: within the interval of the measurements {' or '.join(rivals)} may be better.")
    if not terms.on_curve:
        return told
    if point.step_time_source == "extrapolated":
        told.append("No step was timed at this size: time one first, and see that it fits into memory.")
    which = edge(point, terms) if point.hours is not None and not found.binding else None
    if which is not None:
        told.append(f"It is the {which}est batch size measured; {which}er ones may be faster still.")
    if which == "small":
        told.append("Larger ones only take longer here, because a step's time grows nearly as fast as the batch.")
    return told


def _limit(found: Recommendation, name: str) -> str:
    return f"{LIMIT_NAMES[name]} of {amount(found, name, found.limits[name])}"


def _does_not_bind(found: Recommendation, name: str, point: FrontierPoint) -> str:
    """That a limit is loose, and how tight it would have to be to matter."""
    told = f"The {_limit(found, name)} does not change the choice"
    least = {"max_hours": found.choices["fastest"].hours, "max_cost": found.choices["cheapest"].cost}.get(name)
    taken = getattr(point, LIMITED[name])
    if taken == least:
        return f"{told}, but nothing here keeps one below {amount(found, name, taken)}."
    return f"{told}; only one below {amount(found, name, taken)} would."


def _next(found: Recommendation) -> FrontierPoint | None:
    """Beyond a deadline or a budget, the least product of hours and cost: what giving way a little would bring."""
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


def _gain(found: Recommendation, better: FrontierPoint, point: FrontierPoint) -> str:
    """What another place would save."""
    where = place(better.batch_size, better.hardware if found.several else "")
    return (
        where
        + {
            "cost": f" would be cheaper ({_paid(found, better)} instead of {_paid(found, point)})",
            "hours": f" would be faster ({_paid(found, better)} instead of {_paid(found, point)})",
            "examples": f" would need fewer {found.unit} ({readable(better.examples)}, not {readable(point.examples)})",
            "steps": f" would need fewer steps ({readable(better.steps)}, not {readable(point.steps)})",
        }[found.objective]
    )


def _paid(found: Recommendation, point: FrontierPoint) -> str:
    if point.hours is None or point.cost is None:
        return f"{readable(point.steps)} steps"
    return f"{money(found, point.cost)} in {duration(point.hours)}"


def _taken(found: Recommendation, point: FrontierPoint) -> str:
    steps = f"{readable(point.steps)} steps and {readable(point.examples)} {found.unit}"
    return steps if point.hours is None else f"{steps}, {_paid(found, point)}"


def _other(found: Recommendation, point: FrontierPoint) -> str:
    return f"{place(point.batch_size, point.hardware)} ({_paid(found, point)})"


def _one_hardware(found: Recommendation, point: FrontierPoint) -> list[str]:
    both = "On this hardware no batch size is faster, and none is cheaper, because every hour costs the same."
    return [both + (" Another price changes the cost, not the batch size." if found.cost_unit == "currency" else "")]


def _exchange(found: Recommendation, point: FrontierPoint, terms: Terms) -> str:
    """What moving the batch size does where only steps and examples are known."""
    curve, size = terms.fit.curve, point.batch_size
    fewer = 100 * (1 - float(curve.steps(2 * size)) / point.steps)
    more = 100 * (float(curve.examples(2 * size)) / point.examples - 1)
    less = 100 * (1 - float(curve.examples(size / 2)) / point.examples)
    slower = 100 * (float(curve.steps(size / 2)) / point.steps - 1)
    return (
        f"This weighs steps and {found.unit} alike: twice the batch size saves {readable(fewer)} % of the steps and "
        f"needs {readable(more)} % more {found.unit}, half of it saves {readable(less)} % of the {found.unit} and "
        f"needs {readable(slower)} % more steps. Hours and cost are not known: time a step at two batch sizes or more "
        "before you pay for hardware. If a step takes equally long at every size, larger is faster; if its time grows "
        "with the size, a larger batch saves no time and costs more."
    )


def _price(found: Recommendation, entry: BreakEven) -> str:
    if entry.chosen_below is None:
        kept = " and the ".join(_limit(found, name) for name in found.limits if name != "max_cost")
        why = "it is not faster" if found.objective == "hours" else f"it does not keep the {kept}"
        if found.objective != "hours" and found.choices[found.advised or ""].cost == 0:
            why = "what is chosen costs nothing"
        return f"No price makes {entry.device} the choice: {why}."
    return (
        f"{entry.device} becomes the choice below a price of {readable(entry.chosen_below)} per device-hour (now "
        f"{readable(entry.price_per_device_hour)})."
    )


__all__ = ["alternatives", "limits_kept", "what_binds", "what_would_change"]
