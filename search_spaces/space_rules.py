"""What a search space must hold and must not: natural domains, and the rules of schedules and of extrapolation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Integer, Linear
from bcrit.search_spaces.presets import AVERAGING, EXTRAPOLATIONS, OWN, SCHEDULES, WARMUP, Domain
from bcrit.search_spaces.space import SearchSpace, hyperparameter

_SUMMED: Final = {"momentum", "nesterov", "lars", "rmsprop", "extrap_momentum", OWN}


def has_effective_lr(optimizer: str) -> bool:
    """Whether lr / (1 - momentum) is what matters where steps are small: the velocity is a sum, v = momentum v + g.

    So it is for the heavy ball and Nesterov, for LARS, whose ratio stands inside the sum, and for RMSprop, whose
    velocity sums normalised gradients. A velocity that is a mean, v = momentum v + (1 - momentum) g, as Adam's, does
    not grow with momentum, and Muon's update has the same norm whatever its velocity's is. What a training function
    of the user's calls momentum is taken for SGD's. False also where nobody knows.
    """
    return optimizer in _SUMMED


def with_default_boxes(schedules: Mapping[str, Mapping[str, Any] | None], given: set[str]) -> dict[str, dict[str, Any]]:
    """Give every schedule its default box for those of its parameters that are not named.

    A warm-up of the user's own, in the space (whose names are `given`) or in steps, takes the default's place.
    """
    named = {str(schedule): dict(inner or {}) for schedule, inner in schedules.items()}
    own = bool(given & set(WARMUP)) or any("warmup_steps" in inner for inner in named.values())
    found = {}
    for schedule, inner in named.items():
        boxes = {k: box for k, box in SCHEDULES.get(schedule, {}).items() if not (own and k in WARMUP)}
        found[schedule] = {**boxes, **inner}
    return found


def missing_names(space: SearchSpace, needed: Iterable[str]) -> list[str]:
    """Those of the needed hyperparameters that some point of the space would lack."""
    always = set(space.root)
    for dimension in space.root.values():
        if isinstance(dimension, Choice):
            always |= set.intersection(*(set(inner) for inner in dimension.options.values()))
    return sorted(set(needed) - always)


def schedule_problems(space: SearchSpace) -> list[str]:
    """Schedules and parameters of theirs that do not exist, and what must not depend on an option."""
    problems = []
    schedule = space.root.get("schedule")
    for option, inner in (schedule.options if isinstance(schedule, Choice) else {}).items():
        if option not in SCHEDULES:
            problems.append(f"there is no schedule '{option}'; the schedules are {', '.join(SCHEDULES)}")
        elif unknown := sorted(set(inner) - set(SCHEDULES[option]) - set(WARMUP)):
            needs = ", ".join(SCHEDULES[option]) or "no parameters"
            problems.append(f"schedule '{option}' has {needs}, but the space names {', '.join(unknown)}")
    for address in space.addresses:
        if hyperparameter(address) in AVERAGING and "." in address:
            problems.append(f"'{address}' must stand in the space itself: every trial needs the same metrics; move it")
    return problems


def extrapolation_problems(optimizer: str, space: SearchSpace, batch_sizes: Iterable[int]) -> list[str]:
    """Kinds of extrapolation that do not exist or do not fit, and local batches that do not divide the batch."""
    problems = []
    kind, local = space.root.get("extrapolation"), space.root.get("local_batch_size")
    kinds = list(kind.options) if isinstance(kind, Choice) else [kind.value] if isinstance(kind, Fixed) else []
    if unknown := [str(k) for k in kinds if k not in EXTRAPOLATIONS] + (["a number"] if isinstance(kind, Box) else []):
        problems.append(f"'extrapolation' is one of {', '.join(EXTRAPOLATIONS)}, but it is {', '.join(unknown)}")
    if "velocity" in kinds and optimizer != "extrap_momentum":
        problems.append("extrapolation 'velocity' is along the heavy ball's velocity; use optimizer extrap_momentum")
    if isinstance(local, Fixed) and isinstance(local.value, int):
        if uneven := [b for b in batch_sizes if b > local.value and b % local.value]:
            problems.append(
                f"'local_batch_size' must divide the batch sizes above it, but {local.value} does not divide "
                f"{', '.join(map(str, uneven))}; change either"
            )
    elif local is not None:
        problems.append("'local_batch_size' must be one whole number, the same at every batch size; write 32, say")
    return problems


def domain_problems(name: str, dimension: Box | Choice | Fixed, domains: Mapping[str, Domain]) -> list[str]:
    """The ends of a dimension, or its value, that cannot be; a name without a domain may be anything."""
    domain = domains.get(name)
    if domain is None:
        return []
    if isinstance(dimension, Choice):
        return [f"'{name}' must be a number or a numeric dimension, but it is a choice"]
    ends = {"low": dimension.low, "high": dimension.high} if isinstance(dimension, Box) else {"value": dimension.value}
    return [
        f"'{name}' lies in {domain}, but {end}={value}; choose a value inside"
        for end, value in ends.items()
        if isinstance(value, str | bool) or not domain.contains(value)
    ]


def with_natural_limits(space: SearchSpace, domains: Mapping[str, Domain]) -> SearchSpace:
    """Give every box the hard limits of its natural domain, so that widening never leaves it; limits of its own stay.

    Where the domain's end is itself impossible (lr 0, momentum 1), a linear box stops a hundredth of the way short of
    it; scales that never reach it need no limit.
    """
    for address, dimension in space.axes.items():
        domain = domains.get(hyperparameter(address))
        if domain is None or not isinstance(dimension, Box):
            continue
        limits: dict[str, float] = {}
        straight = isinstance(dimension, Linear | Integer)
        if dimension.hard_low is None and (domain.includes_low or (straight and math.isfinite(domain.low))):
            limits["hard_low"] = domain.low if domain.includes_low else domain.low + (dimension.low - domain.low) / 100
        if dimension.hard_high is None and (domain.includes_high or (straight and math.isfinite(domain.high))):
            room = domain.high - dimension.high
            limits["hard_high"] = domain.high if domain.includes_high else domain.high - room / 100
        space = space.replace(address, dimension.model_copy(update=limits))
    return space
