"""The frontier: what a training to the target takes at each batch size, in steps, examples, hours and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bcrit.analysis.recommendation.hardware import title
from bcrit.analysis.recommendation.step_time import Source
from bcrit.analysis.recommendation.terms import Floats, Terms, quantities


@dataclass(frozen=True)
class FrontierPoint:
    """One batch size on one kind and number of devices.

    `_low` and `_high` are the ends of the interval of steps, times what a step takes; where step times have repeats,
    hours and cost hold their scatter too (`bcrit.analysis.recommendation.terms.quantities`).

    Attributes:
        batch_size: in the unit of the fit.
        steps: to the target: the curve, or where b_crit is not identified the measured median.
        steps_low: lower end of its interval; None without one.
        steps_high: upper end.
        examples: batch_size x steps.
        examples_low: lower end.
        examples_high: upper end.
        hours: steps x step time / 3600; None without step times.
        hours_low: lower end.
        hours_high: upper end.
        cost: hours x devices x price, or hours x devices without a price.
        cost_low: lower end.
        cost_high: upper end.
        step_seconds: time of one step.
        step_time_source: measured, interpolated or extrapolated.
        measured: whether a study reached the target at this batch size.
        device: kind of device; None where it has no name or step times are not known.
        devices: how many; None without step times.
        efficiency: e_min / examples, the share of the examples that a very small batch size would need too; None where
            b_crit is not identified.
        efficiency_low: lower end, from the interval of b_crit.
        efficiency_high: upper end.
        efficient: whether no other point of the frontier is better in hours or in cost without being worse in the
            other (without step times: in steps or examples).
    """

    batch_size: float
    steps: float
    steps_low: float | None
    steps_high: float | None
    examples: float
    examples_low: float | None
    examples_high: float | None
    hours: float | None
    hours_low: float | None
    hours_high: float | None
    cost: float | None
    cost_low: float | None
    cost_high: float | None
    step_seconds: float | None
    step_time_source: Source | None
    measured: bool
    device: str | None
    devices: int | None
    efficiency: float | None
    efficiency_low: float | None
    efficiency_high: float | None
    efficient: bool

    @property
    def hardware(self) -> str:
        """What it runs on, as sentences and tables name it; empty where there is nothing to tell apart."""
        return title(self.device, self.devices)


def frontier(offers: Sequence[Terms], chosen: Mapping[int, Sequence[float]]) -> tuple[FrontierPoint, ...]:
    """The frontier at the measured batch sizes, at powers of sqrt(2) between them, and at the chosen ones.

    Args:
        offers: what a training may run on.
        chosen: number of an offer -> batch sizes to include there.

    Returns:
        Points by offer, then by rising batch size, all within the measured range.
    """
    found: list[FrontierPoint] = []
    for number, terms in enumerate(offers):
        measured = np.array(sorted(terms.measured))
        # Half a power of two: a grid fine enough to read by eye, chosen, not studied.
        count = round(2 * math.log2(measured[-1] / measured[0])) + 1
        found += points(terms, np.union1d(terms.sizes(count), chosen.get(number, [])))
    good = _efficient(found)
    return tuple(replace(point, efficient=bool(is_good)) for point, is_good in zip(found, good, strict=True))


def points(terms: Terms, batch_sizes: Floats) -> tuple[FrontierPoint, ...]:
    """Frontier points at the given batch sizes; which of them are efficient is not judged yet."""
    table, hardware = quantities(terms, batch_sizes), terms.hardware
    names = [field.name for field in fields(FrontierPoint) if field.name in table.columns]
    found = []
    for row in table[names].to_dict("records"):
        known: dict[str, Any] = {str(name): None if math.isnan(value) else value for name, value in row.items()}
        found.append(
            FrontierPoint(
                **known,
                step_time_source=hardware.step_times.source(known["batch_size"]) if hardware else None,
                measured=known["batch_size"] in terms.measured,
                device=hardware.device if hardware else None,
                devices=hardware.devices if hardware else None,
                efficient=False,
            )
        )
    return tuple(found)


def terms_at(point: FrontierPoint, offers: Sequence[Terms]) -> Terms:
    """The offer that a point belongs to."""
    return next(
        terms
        for terms in offers
        if terms.hardware is None or (terms.hardware.device, terms.hardware.devices) == (point.device, point.devices)
    )


def _efficient(found: Sequence[FrontierPoint]) -> list[bool]:
    """Pareto's rule: (n,) points against each other."""
    timed = all(point.hours is not None for point in found)
    taken = np.array([(p.hours, p.cost) if timed else (p.steps, p.examples) for p in found], dtype=float)  # (n, 2)
    no_worse = np.all(taken[None] <= taken[:, None], axis=-1)  # [i, j]: j is no worse than i
    better = np.any(taken[None] < taken[:, None], axis=-1)
    return [not dominated for dominated in np.any(no_worse & better, axis=-1).tolist()]


__all__ = ["FrontierPoint", "frontier", "points", "terms_at"]
