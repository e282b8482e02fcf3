"""Which batch size to train at: the frontier, the choices on it, and what speaks against them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.numbers import readable
from bcrit.analysis.optimum import OptimumLaws
from bcrit.analysis.recommendation.choices import (
    FrontierPoint,
    LimitMissed,
    Place,
    Terms,
    balance,
    binding_limits,
    frontier,
    missed_limits,
    optimum,
    place_text,
    terms_at,
)
from bcrit.analysis.recommendation.doubts import BreakEven, Certainty, break_even, broken, caveats, certainty
from bcrit.analysis.recommendation.hardware import Hardware, StepTimes, hardware_problems, value_problems
from bcrit.analysis.recommendation.hyperparameters import HyperparametersAt, hyperparameters_at
from bcrit.analysis.recommendation.words import Wording
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces import InputError

__all__ = ["Asked", "Recommendation", "recommend"]


@dataclass(frozen=True)
class Asked:
    """On what terms a run is to be recommended from: its report and `bcrit recommend RUN` keep to them."""

    terms: Mapping[str, float]  # prices and limits by the names that `recommend` gives them
    hardware: tuple[Hardware, ...] | None = None  # None = the step times that the run itself measured


@dataclass(frozen=True)
class Recommendation:
    """Batch sizes to choose from, with what each takes; where several are given, on which kind of device.

    All choices are whole numbers (where the measured batch sizes are) within the measured range. The first three know
    no limits:

    * `cheapest` has the least cost; without step times, the fewest examples.
    * `fastest` has the fewest hours; without step times, the fewest steps. On a fixed number of devices cost is hours
      times a constant, so with step times on one kind of hardware it is also the cheapest.
    * `balanced`, on one kind of hardware or none, has the least product of steps and examples. On the hyperbola (S /
      s_min) (E / e_min) = (1 + b_crit / B) (1 + B / b_crit) is least, 4, at B = b_crit: neither can be halved further.
      It does not depend on the hardware. Where there are several kinds or numbers of devices, it has the least product
      of hours and cost instead, the knee of their frontier: no other choice lowers one by a larger factor than it
      raises the other.
    * `best`, with limits: what is not limited is minimised. The cheapest under a limit of hours or steps; the fastest
      where only cost or examples are limited.
    * `safe`, with limits: the same where the upper ends of the intervals keep the limits too; left out where none does.
    * `measured` is the one that the sentences name: on the hardware of the best on the curve (`best_on_curve`), the
      best of the measured batch sizes, whose hyperparameters need no guess; left out where a limit needs another.
    """

    frontier: tuple[FrontierPoint, ...]  # by hardware, then by rising batch size; every choice is among them
    choices: Mapping[str, FrontierPoint]  # by name; no `best` without limits or where none is feasible
    # `best` with limits, else `balanced` where there are no step times or several kinds of hardware, else `cheapest`.
    best_on_curve: str
    # The choice that the sentences recommend: `measured`, or that of the curve where a limit needs another batch size;
    # None where the limits cannot be kept.
    advised: str | None
    # What these two choices minimise, or would under the limits: cost, hours, examples, steps, or `balanced_by`.
    objective: str
    balanced_by: Literal["steps_x_examples", "hours_x_cost"]  # the product that `balanced` minimises
    limits: Mapping[str, float]  # those that were given
    # The limits that keep `best` from being better; several where only lifting them together would help, and empty
    # where none does.
    binding: tuple[str, ...]
    unbound: FrontierPoint | None  # the best without those; None where none binds
    feasible: bool  # whether a batch size keeps all limits; True without limits
    infeasible: tuple[LimitMissed, ...]  # the limits that have to give, where not feasible
    certainty: Mapping[str, Certainty]  # what the fit leaves open, by name of choice, but `measured`
    break_even: tuple[BreakEven, ...]  # at which price another kind of device would be advised
    hyperparameters: Mapping[str, HyperparametersAt]  # by name of choice; empty where none were given
    cost_unit: Literal["device-hours", "currency"] | None  # currency where a price was given; None without step times
    level: float  # confidence of all intervals
    unit: str  # what batch sizes count
    next_measurement: str | None = None  # as in "measure ... next"; None where the choice is clear
    caveats: tuple[str, ...] = ()  # what was assumed and what is doubtful
    sentences: tuple[str, ...] = ()  # the recommendation in two
    paragraph: str = ""  # the whole decision in plain words, for a reader of nothing else

    @property
    def several(self) -> bool:
        """Whether there are several kinds or numbers of devices to choose from."""
        return len({(point.device, point.devices) for point in self.frontier}) > 1

    @property
    def kinds(self) -> set[str | None]:
        """The kinds of device to choose from."""
        return {point.device for point in self.frontier}

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit recommend --json`: finite numbers or null; limits that bind together are joined."""
        found: dict[str, Any] = plain(self)
        return {**found, "binding": " and ".join(self.binding) or None}


def recommend(
    fit: HyperbolaFit,
    step_times: StepTimes | Sequence[Hardware] | None = None,
    *,
    price_per_device_hour: float | None = None,
    devices: int | None = None,
    max_hours: float | None = None,
    max_cost: float | None = None,
    max_steps: float | None = None,
    max_examples: float | None = None,
    hyperparameters: Mapping[float, Mapping[str, Any]] | None = None,
    laws: OptimumLaws | None = None,
    target: str | None = None,
    next_measurement: str | None = None,
) -> Recommendation:
    """Recommend batch sizes within the measured range, and the hardware where several kinds are given.

    Steps are read from a curve whose shape is free (`averaged_steps`), so that their intervals hold what the hyperbola
    leaves out. With S = s_min (1 + (b / B)^p)^(1/p) or the noisy quadratic as the truth, 6 to 10 batch sizes a factor 2
    or 4 apart and 2 to 10 % noise, 95 % intervals of the hours at the recommended batch size covered 95, 95, 94, 94,
    94, 94 and 94 % (p = 0.6, 0.8, 1, 1.2, 1.4, 2; the quadratic); those of the hyperbola 36, 50, 93, 49, 30, 15 and
    25 % (`benchmarks/coverage.py`).

    Assumes that hyperparameters are tuned at every batch size, that the step times hold for the hardware that will be
    used, and that training stops when the target is reached. Limits are held by the estimate; the choice `safe` holds
    them with the upper end of the interval too. Where b_crit is not identified only the measured batch sizes are
    offered, with their measured steps.

    Prices, devices and limits are as in `bcrit recommend`, whose options have these names; `Hardware` has its own price
    and number of devices. `hyperparameters` are the best of each study, by batch size, `laws` how they move between;
    `target` and `next_measurement` are as sentences name them: `val_loss < 0.15`, `batch size 512`. Limits that cannot
    be kept are told in the answer; a value out of its range, or hours without step times, are an InputError.

    Example:
        >>> import pandas as pd
        >>> from bcrit.analysis.curve import fit_hyperbola
        >>> table = pd.DataFrame({"batch_size": [16, 64, 256, 1024], "steps": [362.5, 128.1, 69.5, 54.9]})
        >>> found = recommend(fit_hyperbola(table), max_steps=100)
        >>> found.choices["best"].batch_size, found.binding
        (100.0, ('max_steps',))
    """
    given = {"max_hours": max_hours, "max_cost": max_cost, "max_steps": max_steps, "max_examples": max_examples}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    hardware = _hardware(step_times, price_per_device_hour, devices, limits)
    offers = _offers(fit, hardware)
    found = _chosen(offers, limits)
    best, choices = hyperparameters or {}, found.choices
    at = {name: hyperparameters_at(point.batch_size, best, laws) for name, point in choices.items() if best}
    found = replace(found, hyperparameters=at, next_measurement=next_measurement or _next_measurement(found, offers))
    words, doubts = Wording(found, offers, target), caveats(found, offers, hardware)
    return replace(found, caveats=doubts, sentences=words.sentences(), paragraph=words.paragraph())


def _hardware(
    step_times: StepTimes | Sequence[Hardware] | None,
    price: float | None,
    devices: int | None,
    limits: Mapping[str, float],
) -> tuple[Hardware, ...]:
    """What a training may run on, checked together with the limits; empty where step times are not known.

    An InputError names everything that is wrong.
    """
    problems = [
        f"'{name}' must be a positive number, but it is {limit:g}; leave it out for no limit"
        for name, limit in limits.items()
        if not 0 < limit < math.inf
    ]
    found: tuple[Hardware, ...] = ()
    if step_times is not None and not isinstance(step_times, StepTimes):
        found = tuple(step_times)
        problems += hardware_problems(found)
        if price is not None or devices is not None:
            problems.append("price and number of devices stand in the hardware already; leave them out here")
    else:
        count = 1 if devices is None else devices
        problems += value_problems(count, price)
        found = () if step_times is None else (Hardware(step_times, None, count, price),)
    if step_times is None:
        problems += [
            f"'{name}' needs step times, and there are none; give a table of batch_size and step_seconds"
            for name in ("max_hours", "max_cost")
            if name in limits
        ]
    if problems:
        raise InputError("recommend", problems)
    return found


def _offers(fit: HyperbolaFit, hardware: Sequence[Hardware]) -> tuple[Terms, ...]:
    """The hardware that was timed where steps were measured; that there is none is an InputError."""
    if not hardware:
        return (Terms(fit, None),)
    offers = tuple(terms for item in hardware if len((terms := Terms(fit, item)).sizes(2)))
    if not offers:
        raise InputError("recommend", ["no batch size that was timed lies where steps were measured; time one there"])
    return offers


def _chosen(offers: Sequence[Terms], limits: Mapping[str, float]) -> Recommendation:
    """The choices with how sure they are, the limits that bind or have to give, and the frontier through them."""
    hardware = offers[0].hardware
    cheap, fast = ("cost", "hours") if hardware else ("examples", "steps")
    if hardware and all(terms.price_per_hour == 0 for terms in offers):
        cheap = "hours"  # every training is free; the shorter one is still preferred
    objectives = {"cheapest": cheap, "fastest": fast, "balanced": balance(offers)}
    # Under limits, what they do not limit is minimised.
    wanted = cheap if {"max_hours", "max_steps"} & set(limits) else fast
    places = {name: optimum(offers, objective, {}) for name, objective in objectives.items()}
    best = optimum(offers, wanted, limits) if limits else None
    binding, unbound = ((), None) if best is None else binding_limits(offers, wanted, limits, best)
    if best is not None:
        places |= {"best": best, "safe": optimum(offers, wanted, limits, "_high")}
    on_curve = "best" if limits else "balanced" if len(offers) > 1 or hardware is None else "cheapest"
    objective = wanted if limits else objectives[on_curve]
    chosen = places.get(on_curve)
    if chosen is not None:
        places = {"measured": optimum([chosen.terms], objective, limits, measured=True), **places}
    # The fastest batch size of each hardware is shown too, whether or not the hardware is chosen.
    fastest = (optimum([terms], fast, {}) for terms in offers)
    points = frontier(offers, [place for place in (*places.values(), unbound, *fastest) if place is not None])

    def at(place: Place) -> FrontierPoint:
        return next(p for p in points if terms_at(p, offers) is place.terms and p.batch_size == place.batch_size)

    known = {name: place for name, place in places.items() if place is not None}
    choices = {name: at(place) for name, place in known.items()}
    sure = {}
    for name, place in known.items():
        if name != "measured":
            own = limits if name in ("best", "safe") else {}
            sure[name] = certainty(offers, objectives.get(name, wanted), place, own, binding if own else ())
    # Where the balanced choice is the cheapest too, another kind takes its place when it is cheaper.
    priced = cheap if not limits and choices[on_curve] == choices["cheapest"] else objective
    return Recommendation(
        frontier=points,
        choices=choices,
        best_on_curve=on_curve,
        advised=None if chosen is None else "measured" if "measured" in choices else on_curve,
        objective=objective,
        balanced_by=balance(offers),
        limits=limits,
        binding=binding,
        unbound=None if unbound is None else at(unbound),
        feasible=chosen is not None,
        infeasible=() if chosen is not None else missed_limits(offers, limits),
        certainty=sure,
        break_even=() if chosen is None else break_even(offers, priced, limits, chosen),
        hyperparameters={},
        cost_unit=None
        if hardware is None
        else "device-hours"
        if hardware.price_per_device_hour is None
        else "currency",
        level=offers[0].fit.level,
        unit=offers[0].fit.unit,
    )


def _next_measurement(found: Recommendation, offers: Sequence[Terms]) -> str | None:
    """What to measure: all that the fit lacks; the choice itself where it may break a limit; more where it is open."""
    terms, sure = offers[0], Certainty()
    if found.advised is not None:
        point, sure = found.choices[found.advised], found.certainty[found.best_on_curve]
        terms = terms_at(point, offers)
        if terms.on_curve and found.limits and broken(point, found.limits):
            return None if point.measured else f"{place_text(point.batch_size)} itself"
    times = terms.hardware.step_times if terms.hardware else None
    suggested = terms.fit.next_batch_size(None if times is None or times.fixed else times.seconds)
    if not suggested or (terms.on_curve and not sure.open):
        return None
    # The last is paid in seconds where they are known, else in examples: what money is spent on.
    sizes = sorted({entry.batch_size for entry in suggested} if not terms.on_curve else {suggested[-1].batch_size})
    return f"batch size{'s' if len(sizes) > 1 else ''} {' and '.join(readable(size) for size in sizes)}"
