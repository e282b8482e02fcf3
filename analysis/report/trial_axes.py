"""The plane in which the trials of a study are seen, for any search space, and its search boxes in that plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcrit.search_spaces.dimensions import Box, Log, ReverseLog
from bcrit.search_spaces.space import SearchSpace, hyperparameter

_EDGE = 12  # points on each edge of a drawn box, which is curved where the axes are not its scales

Columns = dict[str, Any]
"""Values by hyperparameter: columns of a frame, or arrays of equal length."""


@dataclass(frozen=True)
class Coordinate:
    """One axis of the plane.

    Attributes:
        title: its words.
        log: whether it is logarithmic.
        of: its value at points given as columns.
        addresses: the dimensions it is computed from.
    """

    title: str
    log: bool
    of: Callable[[Any], Any]
    addresses: tuple[str, ...]


def coordinates(space: SearchSpace) -> tuple[Coordinate, ...]:
    """Choose the axes: (lr / (1 - momentum), 1 - momentum) where both are searched, else the first two numeric ones.

    The optimum moves along lr / (1 - momentum), so the plain plane shows a diagonal band (Shallue et al. 2018).
    Dimensions that exist under one option only count where there are no others.

    Args:
        space: as declared.

    Returns:
        None, one or two.
    """
    boxes = {address: axis for address, axis in space.axes.items() if isinstance(axis, Box)}
    if "lr" in boxes and "momentum" in boxes:
        effective = Coordinate(
            "lr / (1 − momentum)", True, lambda at: at["lr"] / (1 - at["momentum"]), ("lr", "momentum")
        )
        return effective, _own("momentum", boxes["momentum"], log=True)
    always = [address for address in boxes if "." not in address] or list(boxes)
    return tuple(_own(address, boxes[address]) for address in always[:2])


def _own(address: str, box: Box, log: bool = False) -> Coordinate:
    name = hyperparameter(address)
    if log or isinstance(box, ReverseLog):
        return Coordinate(f"1 − {name}", True, lambda at: 1 - at[name], (address,))
    return Coordinate(name, isinstance(box, Log), lambda at: at[name], (address,))


def outline(space: SearchSpace, plane: tuple[Coordinate, ...]) -> list[Any]:
    """The corners and edges of a box in the plane: one array for each coordinate; a span of two ends on a line."""
    addresses = list(dict.fromkeys(address for coordinate in plane for address in coordinate.addresses))
    up, down = np.linspace(0, 1, _EDGE), np.linspace(1, 0, _EDGE)
    low, high = np.zeros(_EDGE), np.ones(_EDGE)
    around = [[up, high, down, low], [low, up, high, down]] if len(addresses) == 2 else [[np.array([0.0, 1.0])]]
    at: Columns = {}
    for address, units in zip(addresses, around, strict=True):
        box = space.box(address)
        at[hyperparameter(address)] = np.array([box.from_unit(unit) for unit in np.concatenate(units)])
    return [coordinate.of(at) for coordinate in plane]


def columns(trials: pd.DataFrame, plane: tuple[Coordinate, ...]) -> list[pd.Series[float]]:
    """The trials in the plane; NaN where a hyperparameter does not exist."""
    return [coordinate.of(trials).astype(float) for coordinate in plane]


__all__ = ["Coordinate", "columns", "coordinates", "outline"]
