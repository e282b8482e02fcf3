"""The frontier: what a training to the target takes at each batch size, in steps, examples, hours and cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.fit.result import HyperbolaFit
from analysis.recommendation.step_time import Source, StepTimes

Floats = npt.NDArray[np.float64]
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Terms:
    """What a training is paid in, and where its numbers come from.

    Attributes:
        fit: steps to target by batch size.
        step_times: seconds a step, on `devices` devices; None = not known: no hours and no cost.
        devices: how many are paid for while it trains.
        price_per_device_hour: in the user's currency; None = cost is counted in device-hours.
    """

    fit: HyperbolaFit
    step_times: StepTimes | None
    devices: int
    price_per_device_hour: float | None

    @property
    def measured(self) -> dict[float, float]:
        """Median steps to target by batch size, of the studies that reached it."""
        return {study.batch_size: study.steps for study in self.fit.studies if study.steps is not None}

    @property
    def on_curve(self) -> bool:
        """Whether steps are read from the curve; where b_crit is not identified only the measured studies are shown."""
        return self.fit.identified["b_crit"]


@dataclass(frozen=True)
class FrontierPoint:
    """One batch size. `_low` and `_high` are the ends of the interval of steps, times what a step takes.

    Attributes:
        batch_size: in the unit of the fit.
        steps: to the target: the curve, or where b_crit is not identified the measured median.
        steps_low: lower end of its interval; None without one.
        steps_high: upper end.
        examples: batch_size x steps.
        examples_low: lower end.
        examples_high: upper end.
        hours: steps x step time / 3600; None without step times. The uncertainty of the step time is not in its ends.
        hours_low: lower end.
        hours_high: upper end.
        cost: hours x devices x price, or hours x devices without a price.
        cost_low: lower end.
        cost_high: upper end.
        step_seconds: time of one step.
        step_time_source: measured, interpolated or extrapolated.
        measured: whether a study reached the target at this batch size.
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


def quantities(terms: Terms, batch_sizes: Floats) -> pd.DataFrame:
    """What a training takes at many batch sizes: the numeric columns of `FrontierPoint`, NaN where not known.

    `steps_x_examples` is added, the product that the balanced choice minimises.

    Args:
        terms: prices, step times and the fit.
        batch_sizes: (n,); measured ones only where `terms.on_curve` does not hold.

    Returns:
        One row a batch size, in the same order.
    """
    if terms.on_curve:
        table = terms.fit.predict(batch_sizes)
    else:
        steps = [terms.measured[size] for size in batch_sizes.tolist()]
        table = pd.DataFrame({"batch_size": batch_sizes, "steps": steps, "steps_low": math.nan, "steps_high": math.nan})
    table["step_seconds"] = terms.step_times.seconds(batch_sizes) if terms.step_times else math.nan
    per_hour = terms.devices * (1.0 if terms.price_per_device_hour is None else terms.price_per_device_hour)
    for end in _ENDS:
        table[f"examples{end}"] = table["batch_size"] * table[f"steps{end}"]
        table[f"hours{end}"] = table[f"steps{end}"] * table["step_seconds"] / 3600
        table[f"cost{end}"] = table[f"hours{end}"] * per_hour
    table["steps_x_examples"] = table["steps"] * table["examples"]
    return table


def frontier(terms: Terms, chosen: list[float]) -> tuple[FrontierPoint, ...]:
    """The frontier at the measured batch sizes, at powers of sqrt(2) between them, and at the chosen ones.

    Args:
        terms: prices, step times and the fit.
        chosen: batch sizes to include.

    Returns:
        Points by rising batch size, all within the measured range.
    """
    sizes = np.array(sorted(terms.measured))
    if terms.on_curve:
        # Half a power of two: a grid fine enough to read by eye, chosen, not studied.
        count = round(2 * math.log2(sizes[-1] / sizes[0])) + 1
        sizes = np.union1d(sizes, whole(np.geomspace(sizes[0], sizes[-1], count), terms))
    return points(terms, np.union1d(sizes, chosen))


def points(terms: Terms, batch_sizes: Floats) -> tuple[FrontierPoint, ...]:
    """Frontier points at the given batch sizes."""
    table = quantities(terms, batch_sizes)
    names = [field.name for field in fields(FrontierPoint) if field.name in table.columns]
    found = []
    for row in table[names].to_dict("records"):
        known: dict[str, Any] = {str(name): None if math.isnan(value) else value for name, value in row.items()}
        size = known["batch_size"]
        source = terms.step_times.source(size) if terms.step_times else None
        found.append(FrontierPoint(**known, step_time_source=source, measured=size in terms.measured))
    return tuple(found)


def whole(batch_sizes: Floats, terms: Terms) -> Floats:
    """Batch sizes rounded to whole numbers where the measured ones are whole; rising, without repeats."""
    integral = all(size == round(size) for size in terms.measured)
    return np.unique(np.rint(batch_sizes) if integral else batch_sizes)
