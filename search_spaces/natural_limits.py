"""Natural domains against the dimensions of a space: what lies outside, and how far a box may be widened."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Integer, Linear
from bcrit.search_spaces.presets import Domain
from bcrit.search_spaces.space import SearchSpace, hyperparameter


def domain_problems(name: str, dimension: Box | Choice | Fixed, domains: Mapping[str, Domain]) -> list[str]:
    """The ends of a dimension, or its value, that cannot be.

    Args:
        name: of the hyperparameter.
        dimension: of it.
        domains: by hyperparameter; what is not there may be anything.

    Returns:
        One sentence a problem.
    """
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
    """Give every box the hard limits of its natural domain, so that widening never leaves it.

    Where the domain's end is itself impossible (lr 0, momentum 1), a linear box stops a hundredth of the way short of
    it; scales that never reach it need no limit.

    Args:
        space: all of it inside its domains.
        domains: by hyperparameter.

    Returns:
        The space; limits that it has already stay.
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
