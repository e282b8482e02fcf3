"""A search space: named dimensions, some under one option of a choice; and what it must hold and must not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import ConfigDict, RootModel

from bcrit.search_spaces.dimensions import Box, Choice, Dimension, Fixed, Integer, Linear, Side, Value
from bcrit.search_spaces.presets import AVERAGING, EXTRAPOLATIONS, SCHEDULES, WARMUP, Domain
from bcrit.search_spaces.problems import did_you_mean

Point = dict[str, Value]
"""Hyperparameters by name; conditional ones only where their option is chosen."""


class SearchSpace(RootModel[dict[str, Dimension]]):
    """Named dimensions in the order of the file.

    An *axis* is a dimension with its address: `lr`, `schedule`, `schedule.linear.end_factor`. Every axis has one scaled
    coordinate in [0, 1], so that one low-discrepancy point gives one point of the space whatever options it takes.
    """

    model_config = ConfigDict(frozen=True)

    @property
    def axes(self) -> dict[str, Box | Choice]:
        """All searched dimensions by address (fixed ones left out)."""
        return {address: dimension for address, dimension in self._walk() if not isinstance(dimension, Fixed)}

    @property
    def dimensions(self) -> dict[str, Box | Choice | Fixed]:
        """All dimensions by address, fixed ones included."""
        return dict(self._walk())

    @property
    def addresses(self) -> list[str]:
        """The addresses of all dimensions, fixed ones included."""
        return list(self.dimensions)

    def _walk(self) -> Iterator[tuple[str, Box | Choice | Fixed]]:
        for name, dimension in self.root.items():
            yield name, dimension
            if isinstance(dimension, Choice):
                for option, inner in dimension.options.items():
                    for inner_name, leaf in inner.items():
                        yield f"{name}.{option}.{inner_name}", leaf

    def active(self, point: Mapping[str, Any]) -> dict[str, Box | Choice | Fixed]:
        """The dimensions that exist at a point, by address (fixed ones included)."""
        found: dict[str, Box | Choice | Fixed] = {}
        for name, dimension in self.root.items():
            found[name] = dimension
            if isinstance(dimension, Choice):
                option = str(point.get(name))
                found |= {f"{name}.{option}.{inner}": leaf for inner, leaf in dimension.options.get(option, {}).items()}
        return found

    def from_unit(self, units: Mapping[str, float]) -> Point:
        """Turn one scaled coordinate per axis into a point; coordinates of options not taken are ignored."""
        point: Point = {}
        for name, dimension in self.root.items():
            point[name] = _value(dimension, units, name)
            if isinstance(dimension, Choice):
                option = str(point[name])
                for inner, leaf in dimension.options[option].items():
                    point[inner] = _value(leaf, units, f"{name}.{option}.{inner}")
        return point

    def to_unit(self, point: Mapping[str, Any]) -> dict[str, float]:
        """The scaled coordinates of a point, one for each searched axis that exists there."""
        units: dict[str, float] = {}
        for address, dimension in self.active(point).items():
            if not isinstance(dimension, Fixed):
                units[address] = dimension.to_unit(point[hyperparameter(address)])
        return units

    def sample(self, rng: np.random.Generator) -> Point:
        """Draw a point uniformly in the scaled coordinates."""
        axes = list(self.axes)
        return self.from_unit(dict(zip(axes, rng.random(len(axes)).tolist(), strict=True)))

    def clip(self, point: Mapping[str, Any]) -> Point:
        """Move every value of a point into its dimension's box."""
        clipped: Point = dict(point)
        for address, dimension in self.active(point).items():
            if isinstance(dimension, Box):
                name = hyperparameter(address)
                clipped[name] = dimension.clip(point[name])
        return clipped

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether a point has every hyperparameter it needs, no other, and all inside their boxes."""
        active = {hyperparameter(address): dimension for address, dimension in self.active(point).items()}
        return set(active) == set(point) and all(d.contains(point[name]) for name, d in active.items())

    def box(self, address: str) -> Box:
        """The numeric dimension at an address; where nothing numeric is, that is a KeyError."""
        dimension = self.axes[address]
        if not isinstance(dimension, Box):
            raise KeyError(f"{address} is a choice; only numeric dimensions have a box")
        return dimension

    def replace(self, address: str, box: Box | Fixed) -> SearchSpace:
        """The space with one numeric dimension, or one that is not searched, exchanged."""
        name, *inner = address.split(".")
        dimension: Any = box
        if inner:
            choice = self.root[name]
            assert isinstance(choice, Choice)
            option, leaf = inner
            options = {**choice.options, option: {**choice.options[option], leaf: box}}
            dimension = choice.model_copy(update={"options": options})
        return SearchSpace.model_construct(root={**self.root, name: dimension})

    def widen(self, address: str, side: Side, share: float) -> SearchSpace:
        """The space with one box widened on one side by `share` of its scaled width."""
        return self.replace(address, self.box(address).widen(side, share))


def hyperparameter(address: str) -> str:
    """The column name behind an axis' address: `schedule.linear.end_factor` -> `end_factor`."""
    return address.rsplit(".", 1)[-1]


def _value(dimension: Box | Choice | Fixed, units: Mapping[str, float], address: str) -> Value:
    if isinstance(dimension, Fixed):
        return dimension.value
    return dimension.from_unit(units[address])


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
            near, known = did_you_mean(option, SCHEDULES), ", ".join(SCHEDULES)
            problems.append(f"there is no schedule '{option}'; {near}the schedules are {known}")
        elif unknown := sorted(set(inner) - set(SCHEDULES[option]) - set(WARMUP)):
            needs = ", ".join(SCHEDULES[option]) or "no parameters"
            near = did_you_mean(unknown[0], SCHEDULES[option]).strip()
            named = f"schedule '{option}' has {needs}, but the space names {', '.join(unknown)}"
            problems.append(f"{named}; {near}" if near else named)
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
