"""Which batch size to train at: the frontier, the choices on it, and what speaks against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bcrit.analysis.curve.fit import HyperbolaFit
from bcrit.analysis.optimum.optimum import OptimumLaws
from bcrit.analysis.recommendation import words
from bcrit.analysis.recommendation.choices import (
    BreakEven,
    Certainty,
    LimitMissed,
    Place,
    balance,
    binding_limits,
    break_even,
    certainty,
    missed_limits,
    optimum,
    without,
)
from bcrit.analysis.recommendation.hardware import Hardware, StepTimes, hardware_problems, value_problems
from bcrit.analysis.recommendation.hyperparameters import HyperparametersAt, hyperparameters_at
from bcrit.analysis.recommendation.terms import FrontierPoint, Terms, frontier, terms_at
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.wording import readable
from bcrit.search_spaces import InputError


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
    """

    frontier: tuple[FrontierPoint, ...]  # by hardware, then by rising batch size; every choice is among them
    choices: Mapping[str, FrontierPoint]  # by name; no `best` without limits or where none is feasible
    # The choice that the sentences recommend: `best` with limits, else `balanced` where there are no step times or
    # several kinds of hardware, else `cheapest`; None where the limits cannot be kept.
    advised: str | None
    # What the advised choice minimises, or would under the limits: cost, hours, examples, steps, or `balanced_by`.
    objective: str
    balanced_by: Literal["steps_x_examples", "hours_x_cost"]  # the product that `balanced` minimises
    limits: Mapping[str, float]  # those that were given
    # The limits that keep `best` from being better; several where only lifting them together would help, and empty
    # where none does.
    binding: tuple[str, ...]
    unbound: FrontierPoint | None  # the best without those; None where none binds
    feasible: bool  # whether a batch size keeps all limits; True without limits
    infeasible: tuple[LimitMissed, ...]  # the limits that have to give, where not feasible
    certainty: Mapping[str, Certainty]  # what the fit leaves open, by name of choice
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

    Assumes that hyperparameters are tuned at every batch size, that the step times hold for the hardware that will be
    used, and that training stops when the target is reached. Limits are held by the estimate; the choice `safe` holds
    them with the upper end of the interval too. Where b_crit is not identified only the measured batch sizes are
    offered, with their measured steps.

    Args:
        fit: steps to target by batch size.
        step_times: seconds a step on `devices` devices, or everything that a training may run on; None = not known.
        price_per_device_hour: in any currency; None = count device-hours. With `Hardware`, each has its own.
        devices: devices in use, 1 or more; None = 1. With `Hardware`, each has its own.
        max_hours: longest training.
        max_cost: dearest training, in the currency of the price, or in device-hours.
        max_steps: most steps.
        max_examples: most examples.
        hyperparameters: batch size -> best hyperparameters of its study.
        laws: how the optimum moves with the batch size, for sizes that were not searched; None = read between studies.
        target: what is to be reached, as a sentence names it: `val_loss < 0.15`.
        next_measurement: what to measure next, as in "measure ... next": `batch size 512`; None = what the fit
            suggests, told where it is not identified or leaves the choice open.

    Returns:
        The recommendation; limits that cannot be kept are told in it, not raised.

    Raises:
        InputError: a value is out of its range, hours or cost are limited and no step times are given, or a price is
            given twice, or nothing was timed where steps were measured.

    Example:
        >>> import pandas as pd
        >>> from bcrit.analysis.curve.fit import fit_hyperbola
        >>> table = pd.DataFrame({"batch_size": [16, 64, 256, 1024], "steps": [362.5, 128.1, 69.5, 54.9]})
        >>> found = recommend(fit_hyperbola(table), max_steps=100)
        >>> found.choices["best"].batch_size, found.binding
        (100.0, ('max_steps',))
    """  # noqa: DOC502  (raised below)
    limits = _given(max_hours=max_hours, max_cost=max_cost, max_steps=max_steps, max_examples=max_examples)
    hardware = _hardware(step_times, price_per_device_hour, devices, limits)
    offers = _offers(fit, hardware)
    found = _judged(*_chosen(offers, limits), offers)
    best, choices = hyperparameters or {}, found.choices
    at = {name: hyperparameters_at(point.batch_size, best, laws) for name, point in choices.items() if best}
    found = replace(found, hyperparameters=at, next_measurement=next_measurement or _next_measurement(found, offers))
    said = words.Wording(found, offers, hardware, target)
    return replace(found, caveats=said.caveats(), sentences=said.sentences(), paragraph=said.paragraph())


def _given(**limits: float | None) -> dict[str, float]:
    return {name: limit for name, limit in limits.items() if limit is not None}


def _hardware(
    step_times: StepTimes | Sequence[Hardware] | None,
    price: float | None,
    devices: int | None,
    limits: Mapping[str, float],
) -> tuple[Hardware, ...]:
    """What a training may run on, checked together with the limits; empty where step times are not known.

    Raises:
        InputError: names everything that is wrong.
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
    """The hardware that was timed where steps were measured.

    Raises:
        InputError: there is none.
    """
    if not hardware:
        return (Terms(fit, None),)
    offers = tuple(terms for item in hardware if len((terms := Terms(fit, item)).sizes(2)))
    if not offers:
        raise InputError("recommend", ["no batch size that was timed lies where steps were measured; time one there"])
    return offers


def _objectives(offers: Sequence[Terms]) -> dict[str, str]:
    """What each choice without limits minimises."""
    cheap, fast = ("cost", "hours") if offers[0].hardware else ("examples", "steps")
    if offers[0].hardware and all(terms.price_per_hour == 0 for terms in offers):
        cheap = "hours"  # every training is free; the shorter one is still preferred
    return {"cheapest": cheap, "fastest": fast, "balanced": balance(offers)}


def _under_limits(objectives: Mapping[str, str], limits: Mapping[str, float]) -> str:
    """What is minimised under limits: what they do not limit."""
    return objectives["cheapest" if {"max_hours", "max_steps"} & set(limits) else "fastest"]


def _chosen(offers: Sequence[Terms], limits: Mapping[str, float]) -> tuple[Recommendation, dict[str, Place]]:
    """The choices, the limits that bind or have to give, and the frontier through them."""
    objectives = _objectives(offers)
    wanted = _under_limits(objectives, limits)
    sought = {name: optimum(offers, objective, {}) for name, objective in objectives.items()}
    binding: tuple[str, ...] = ()
    if limits:
        sought["best"] = optimum(offers, wanted, limits)
        sought["safe"] = optimum(offers, wanted, limits, "_high") if sought["best"] else None
    if limits and sought["best"] is not None:
        binding = binding_limits(offers, wanted, limits, sought["best"])
        sought["unbound"] = optimum(offers, wanted, without(limits, binding)) if binding else None
    places = {name: found for name, found in sought.items() if found is not None}
    # The fastest batch size of each hardware is shown too, whether or not the hardware is chosen.
    shown = [*places.values(), *(best for t in offers if (best := optimum([t], objectives["fastest"], {})))]
    sizes = {n: [p.batch_size for p in shown if p.terms is terms] for n, terms in enumerate(offers)}
    points = frontier(offers, sizes)
    choices = {name: _point(points, found) for name, found in places.items()}
    feasible = not limits or "best" in places
    several = len(offers) > 1
    advised = "best" if limits else "balanced" if several or offers[0].hardware is None else "cheapest"
    priced = offers[0].hardware is not None and offers[0].hardware.price_per_device_hour is not None
    unit: Literal["currency", "device-hours"] = "currency" if priced else "device-hours"
    found = Recommendation(
        frontier=points,
        choices={name: point for name, point in choices.items() if name != "unbound"},
        advised=advised if feasible else None,
        objective=wanted if limits else objectives[advised],
        balanced_by=balance(offers),
        limits=limits,
        binding=binding,
        unbound=choices.get("unbound"),
        feasible=feasible,
        infeasible=() if feasible else missed_limits(offers, limits),
        certainty={},
        break_even=(),
        hyperparameters={},
        cost_unit=unit if offers[0].hardware else None,
        level=offers[0].fit.level,
        unit=offers[0].fit.unit,
    )
    return found, places


def _judged(found: Recommendation, places: Mapping[str, Place], offers: Sequence[Terms]) -> Recommendation:
    """How sure each choice is, and what would have to cost what for another."""
    objectives = _objectives(offers)
    limited = _under_limits(objectives, found.limits)
    sure = {}
    for name in found.choices:
        objective = objectives.get(name, limited)
        limits = found.limits if name in ("best", "safe") else {}
        sure[name] = certainty(offers, objective, places[name], limits, found.binding if limits else ())
    prices: tuple[BreakEven, ...] = ()
    if found.advised is not None:
        # Where the balanced choice is the cheapest too, another kind takes its place when it is cheaper.
        cheapest = not found.limits and found.choices[found.advised] == found.choices["cheapest"]
        objective = objectives["cheapest"] if cheapest else found.objective
        prices = break_even(offers, objective, found.limits, places[found.advised])
    return replace(found, certainty=sure, break_even=prices)


def _next_measurement(found: Recommendation, offers: Sequence[Terms]) -> str | None:
    """What to measure: all that the fit lacks; the choice itself where it may break a limit; more where it is open."""
    terms = offers[0] if found.advised is None else terms_at(found.choices[found.advised], offers)
    if terms.on_curve and found.advised == "best" and found.choices.get("safe") != found.choices["best"]:
        best = found.choices["best"]
        return None if best.measured else f"batch size {readable(best.batch_size)} itself"
    times = terms.hardware.step_times if terms.hardware else None
    suggested = terms.fit.next_batch_size(None if times is None or times.fixed else times.seconds)
    if not suggested or not (words.is_open(found) or not terms.on_curve):
        return None
    # The last is paid in seconds where they are known, else in examples: what money is spent on.
    sizes = sorted({entry.batch_size for entry in suggested} if not terms.on_curve else {suggested[-1].batch_size})
    return f"batch size{'s' if len(sizes) > 1 else ''} {' and '.join(readable(size) for size in sizes)}"


def _point(points: Sequence[FrontierPoint], place: Place) -> FrontierPoint:
    hardware = place.terms.hardware
    where = (hardware.device, hardware.devices) if hardware else (None, None)
    return next(p for p in points if (p.device, p.devices) == where and p.batch_size == place.batch_size)
