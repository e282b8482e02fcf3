"""Hyperparameters at a batch size that was not searched itself, read between the studies on either side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from search_spaces.presets import DOMAINS


@dataclass(frozen=True)
class HyperparametersAt:
    """Hyperparameters to train with.

    Attributes:
        batch_size: for which.
        values: by name.
        source: measured (the best point of the study at this batch size), interpolated (between the best points of the
            two neighbours), or nearest (the best point of the nearer neighbour, because the two chose different
            options).
        studies: the batch sizes of the studies that were used.
    """

    batch_size: float
    values: Mapping[str, Any]
    source: Literal["measured", "interpolated", "nearest"]
    studies: tuple[float, ...]


def hyperparameters_at(batch_size: float, best: Mapping[float, Mapping[str, Any]]) -> HyperparametersAt:
    """Read the hyperparameters at one batch size off the studies' best points.

    Between two studies that chose the same options, numbers are interpolated linearly in log B and in the coordinate
    in which they are searched: log(value), log(1 - value) for momentum, the value itself where it may be 0. This
    assumes that the optimum moves smoothly; nothing was trained there.

    Args:
        batch_size: inside or outside of the studies; outside, the nearest is taken.
        best: batch size -> the best point's hyperparameters; not empty.

    Returns:
        The values, and where they come from.
    """
    if batch_size in best:
        return HyperparametersAt(batch_size, dict(best[batch_size]), "measured", (batch_size,))
    below, above = (
        max((b for b in best if b < batch_size), default=None),
        min((b for b in best if b > batch_size), default=None),
    )
    if below is not None and above is not None and _same_options(best[below], best[above]):
        share = math.log(batch_size / below) / math.log(above / below)
        values = {name: _between(name, best[below][name], best[above][name], share) for name in best[below]}
        for name, value in values.items():  # a width between two whole ones is whole
            if isinstance(best[below][name], int) and isinstance(best[above][name], int):
                values[name] = round(value)
        return HyperparametersAt(batch_size, values, "interpolated", (below, above))
    nearest = min(best, key=lambda b: abs(math.log(b / batch_size)))
    return HyperparametersAt(batch_size, dict(best[nearest]), "nearest", (nearest,))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_options(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether both have the same hyperparameters and agree in all that are not numbers."""
    return set(below) == set(above) and all(
        (_is_number(below[name]) and _is_number(above[name])) or below[name] == above[name] for name in below
    )


def _between(name: str, low: Any, high: Any, share: float) -> Any:
    if low == high:
        return low
    domain = DOMAINS.get(name)
    if domain is not None and not domain.includes_high and domain.high == 1:
        return -math.expm1((1 - share) * math.log1p(-low) + share * math.log1p(-high))
    if min(low, high) > 0 and not (domain is not None and domain.includes_low):
        return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return (1 - share) * low + share * high
