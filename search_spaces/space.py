"""A search space: named dimensions, some of which exist only under one option of a choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import ConfigDict, RootModel

from bcrit.search_spaces.dimensions import Box, Choice, Dimension, Fixed, Side, Value

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
        for address, dimension in self._walk():
            parent = address.split(".")
            if len(parent) == 1 or point.get(parent[0]) == parent[1]:
                found[address] = dimension
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
