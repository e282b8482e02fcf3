"""Which batch size to train at: the frontier, the choices on it, and what speaks against them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analysis.fit.result import HyperbolaFit
from analysis.json_values import plain
from analysis.recommendation.caveats import caveats
from analysis.recommendation.choices import LimitMissed, binding_limit, missed_limits, optimum
from analysis.recommendation.frontier import FrontierPoint, Terms, frontier
from analysis.recommendation.hyperparameters import HyperparametersAt, hyperparameters_at
from analysis.recommendation.sentences import sentences
from analysis.recommendation.step_time import StepTimes
from search_spaces import InputError


@dataclass(frozen=True)
class Recommendation:
    """Batch sizes to choose from, with what each takes.

    All choices are whole numbers (where the measured batch sizes are) within the measured range. The first three know
    no limits:

    * `cheapest` has the least cost; without step times, the fewest examples.
    * `fastest` has the fewest hours; without step times, the fewest steps. On a fixed number of devices cost is hours
      times a constant, so with step times it is also the cheapest.
    * `balanced` has the least product of steps and examples. On the hyperbola (S / s_min) (E / e_min) = (1 + b_crit /
      B) (1 + B / b_crit) is least, 4, at B = b_crit: neither can be halved further. It does not depend on the
      hardware.
    * `best`, with limits: what is not limited is minimised. The cheapest under a limit of hours or steps; the fastest
      where only cost or examples are limited.

    Attributes:
        frontier: points by rising batch size; every choice is among them.
        choices: by name; no `best` without limits or where none is feasible.
        binding: the limit that keeps `best` from being better; None where none does.
        feasible: whether a batch size keeps all limits; True without limits.
        infeasible: the limits that have to give, where not feasible.
        hyperparameters: by name of choice; empty where none were given.
        cost_unit: device-hours, or currency where a price was given; None without step times.
        caveats: what was assumed and what is doubtful, in sentences.
        sentences: the recommendation in two sentences.
    """

    frontier: tuple[FrontierPoint, ...]
    choices: Mapping[str, FrontierPoint]
    binding: str | None
    feasible: bool
    infeasible: tuple[LimitMissed, ...]
    hyperparameters: Mapping[str, HyperparametersAt]
    cost_unit: Literal["device-hours", "currency"] | None
    caveats: tuple[str, ...]
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit recommend --json`: finite numbers or null."""
        found: dict[str, Any] = plain(self)
        return found


def recommend(
    fit: HyperbolaFit,
    step_times: StepTimes | None = None,
    *,
    price_per_device_hour: float | None = None,
    devices: int = 1,
    max_hours: float | None = None,
    max_cost: float | None = None,
    max_steps: float | None = None,
    max_examples: float | None = None,
    hyperparameters: Mapping[float, Mapping[str, Any]] | None = None,
) -> Recommendation:
    """Recommend batch sizes within the measured range.

    Assumes that hyperparameters are tuned at every batch size, that the step times hold for the hardware that will be
    used, and that training stops when the target is reached. Limits are held by the estimate; a caveat says where the
    upper end of the interval would break one. Where b_crit is not identified only the measured batch sizes are
    offered, with their measured steps.

    Args:
        fit: steps to target by batch size.
        step_times: seconds a step on `devices` devices; None = not known.
        price_per_device_hour: in any currency; None = count device-hours.
        devices: devices in use, 1 or more.
        max_hours: longest training.
        max_cost: dearest training, in the currency of the price, or in device-hours.
        max_steps: most steps.
        max_examples: most examples.
        hyperparameters: batch size -> best hyperparameters of its study.

    Returns:
        The recommendation; limits that cannot be kept are told in it, not raised.

    Raises:
        InputError: a value is out of its range, or hours or cost are limited and no step times are given.

    Example:
        >>> import pandas as pd
        >>> from analysis.fit.estimate import fit_hyperbola
        >>> table = pd.DataFrame({"batch_size": [16, 64, 256, 1024], "steps": [362.5, 128.1, 69.5, 54.9]})
        >>> found = recommend(fit_hyperbola(table), max_steps=100)
        >>> found.choices["best"].batch_size, found.binding
        (100.0, 'max_steps')
    """
    given = {"max_hours": max_hours, "max_cost": max_cost, "max_steps": max_steps, "max_examples": max_examples}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    problems = _problems(limits, price_per_device_hour, devices, step_times is not None)
    if problems:
        raise InputError("recommend", problems)

    terms = Terms(fit, step_times, devices, price_per_device_hour)
    cheap, fast = ("cost", "hours") if step_times else ("examples", "steps")
    if price_per_device_hour == 0 and step_times:
        cheap = "hours"  # every training is free; the shorter one is still preferred
    sizes = {
        "cheapest": optimum(terms, cheap, {}),
        "fastest": optimum(terms, fast, {}),
        "balanced": optimum(terms, "steps_x_examples", {}),
    }
    objective = cheap if {"max_hours", "max_steps"} & set(limits) else fast
    if limits:
        sizes["best"] = optimum(terms, objective, limits)
    best = sizes.get("best")
    chosen = {name: size for name, size in sizes.items() if size is not None}
    points = frontier(terms, list(chosen.values()))
    choices = {name: next(p for p in points if p.batch_size == size) for name, size in chosen.items()}
    feasible = not limits or best is not None
    infeasible = () if feasible else missed_limits(terms, limits)
    advised = (
        {name: hyperparameters_at(size, hyperparameters) for name, size in chosen.items()} if hyperparameters else {}
    )
    unit: Literal["device-hours", "currency"] = "device-hours" if price_per_device_hour is None else "currency"
    return Recommendation(
        frontier=points,
        choices=choices,
        binding=binding_limit(terms, objective, limits, best) if best is not None else None,
        feasible=feasible,
        infeasible=infeasible,
        hyperparameters=advised,
        cost_unit=unit if step_times else None,
        caveats=caveats(terms, choices, limits, advised, feasible),
        sentences=sentences(terms, choices, infeasible),
    )


def _problems(limits: Mapping[str, float], price: float | None, devices: int, timed: bool) -> list[str]:
    found = [
        f"'{name}' must be a positive number, but it is {limit:g}; leave it out for no limit"
        for name, limit in limits.items()
        if not 0 < limit < math.inf
    ]
    if price is not None and not 0 <= price < math.inf:
        found.append(
            f"'price_per_device_hour' must be 0 or more, but it is {price:g}; give what one device costs an hour"
        )
    if devices < 1:
        found.append(f"'devices' must be 1 or more, but it is {devices}; give how many devices are paid for")
    if not timed:
        found += [
            f"'{name}' needs step times, and there are none; give a table of batch_size and step_seconds"
            for name in ("max_hours", "max_cost")
            if name in limits
        ]
    return found
