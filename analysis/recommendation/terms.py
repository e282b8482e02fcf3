"""What a training to the target takes at each batch size on each kind of hardware: steps, examples, hours, cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.curve.fit import HyperbolaFit
from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.recommendation.hardware import Hardware, Source, title

Floats = npt.NDArray[np.float64]
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Terms:
    """What a training is paid in, and where its numbers come from."""

    fit: HyperbolaFit
    hardware: Hardware | None  # None = step times are not known: no hours and no cost

    @property
    def measured(self) -> dict[float, float]:
        """Median steps to target by batch size, of the studies that reached it."""
        return {study.batch_size: study.steps for study in self.fit.studies if study.steps is not None}

    @property
    def on_curve(self) -> bool:
        """Whether steps are read from the curve; where b_crit is not identified only the measured studies are shown."""
        return self.fit.identified["b_crit"]

    @property
    def title(self) -> str:
        """Of its hardware; empty without."""
        return self.hardware.title if self.hardware else ""

    @property
    def price_per_hour(self) -> float:
        """What one hour on all the devices costs; in device-hours without a price."""
        if self.hardware is None:
            return math.nan
        price = self.hardware.price_per_device_hour
        return self.hardware.devices * (1.0 if price is None else price)

    def at(self, b_crit: float) -> Terms:
        """The same with another critical batch size: for what depends on the shape of the curve only."""
        return replace(self, fit=replace(self.fit, e_min=self.fit.s_min * b_crit, b_crit=b_crit))

    def sizes(self, count: int) -> Floats:
        """Batch sizes to look at, rising: `count` within the measured range, or the measured ones without a curve."""
        measured = np.array(sorted(self.measured))
        found = np.unique(np.append(np.geomspace(measured[0], measured[-1], count), measured))
        found = self.rounded(found) if self.on_curve else measured
        if self.hardware is None or not self.hardware.step_times.fixed:
            return found
        (only,) = self.hardware.step_times.batch_sizes
        inside = measured[0] <= only <= measured[-1] if self.on_curve else only in self.measured
        return np.array([only] if inside else [])

    def rounded(self, batch_sizes: Floats) -> Floats:
        """Whole numbers where the measured ones are whole; rising, without repeats."""
        whole = all(size == round(size) for size in self.measured)
        return np.unique(np.rint(batch_sizes) if whole else batch_sizes)


def quantities(terms: Terms, batch_sizes: Floats) -> pd.DataFrame:
    """What a training takes at many batch sizes: the numeric columns of `FrontierPoint`, NaN where not known.

    The ends of hours and cost are those of steps and of the step time together, as independent errors in the logarithm:
    half a width is the root of the sum of both squares. Where step times have no repeats, their own error is not known
    and not in the ends. `steps_x_examples` and `hours_x_cost` are added, the products that balanced choices minimise.
    Without a curve only measured batch sizes may be asked for.
    """
    fit, hardware = terms.fit, terms.hardware
    nothing: Floats = np.full(batch_sizes.shape, math.nan)
    found: dict[str, Floats]
    if terms.on_curve:
        curve = fit.predict(batch_sizes)
        found = {name: curve[name].to_numpy() for name in ("batch_size", "steps", "steps_low", "steps_high")}
        # e_min / E(B) = 1 / (1 + B / b_crit) rises with b_crit, so its interval is that of b_crit carried over.
        for end, b_crit in zip(_ENDS, (fit.b_crit, fit.b_crit_low, fit.b_crit_high), strict=True):
            found[f"efficiency{end}"] = 1 / (1 + batch_sizes / b_crit)
    else:
        steps = np.array([terms.measured[size] for size in batch_sizes.tolist()])
        found = {"batch_size": batch_sizes, "steps": steps, "steps_low": nothing, "steps_high": nothing}
        found |= {f"efficiency{end}": nothing for end in _ENDS}
    times, half = nothing, np.zeros(batch_sizes.shape)
    if hardware is not None:
        times = hardware.step_times.seconds(batch_sizes)
        half = hardware.step_times.log_half_width(batch_sizes, fit.level)
    found["step_seconds"] = times
    for end, sign in zip(_ENDS, (0.0, -1.0, 1.0), strict=True):
        apart = np.hypot(np.log(found[f"steps{end}"] / found["steps"]), half)
        found[f"examples{end}"] = batch_sizes * found[f"steps{end}"]
        found[f"hours{end}"] = found["steps"] * times / 3600 * np.exp(sign * apart)
        found[f"cost{end}"] = found[f"hours{end}"] * terms.price_per_hour
    found["steps_x_examples"] = found["steps"] * found["examples"]
    found["hours_x_cost"] = found["hours"] * found["cost"]
    return pd.DataFrame(found)


@dataclass(frozen=True)
class FrontierPoint:
    """One batch size on one kind and number of devices.

    `_low` and `_high` are the ends of the interval of steps, times what a step takes; where step times have repeats,
    hours and cost hold their scatter too (`quantities`). None where they are not known.
    """

    batch_size: float  # in the unit of the fit
    steps: float  # to the target: the curve, or where b_crit is not identified the measured median
    steps_low: float | None
    steps_high: float | None
    examples: float  # batch_size x steps
    examples_low: float | None
    examples_high: float | None
    hours: float | None  # steps x step time / 3600; None without step times
    hours_low: float | None
    hours_high: float | None
    cost: float | None  # hours x devices x price, or hours x devices without a price
    cost_low: float | None
    cost_high: float | None
    step_seconds: float | None  # time of one step
    step_time_source: Source | None
    measured: bool  # whether a study reached the target at this batch size
    device: str | None  # kind; None where it has no name or step times are not known
    devices: int | None  # how many; None without step times
    # e_min / examples, the share of the examples that a very small batch size would need too; None where b_crit is not
    # identified. Its ends are from the interval of b_crit.
    efficiency: float | None
    efficiency_low: float | None
    efficiency_high: float | None
    # Whether no other point of the frontier is better in hours or in cost without being worse in the other (without
    # step times: in steps or examples).
    efficient: bool

    @property
    def hardware(self) -> str:
        """What it runs on, as sentences and tables name it; empty where there is nothing to tell apart."""
        return title(self.device, self.devices)

    def estimate(self, quantity: str) -> Estimate:
        """Steps, examples, hours, cost or efficiency with its interval."""
        value, low, high = (getattr(self, quantity + end) for end in _ENDS)
        return Estimate(value, low, high)


def frontier(offers: Sequence[Terms], chosen: Mapping[int, Sequence[float]]) -> tuple[FrontierPoint, ...]:
    """The frontier at the measured batch sizes, at powers of sqrt(2) between them, and at the chosen ones.

    `chosen` has those of each offer, by its number. Points stand by offer, then by rising batch size, all within the
    measured range.
    """
    found: list[FrontierPoint] = []
    for number, terms in enumerate(offers):
        measured = np.array(sorted(terms.measured))
        # Half a power of two: a grid fine enough to read by eye, chosen, not studied.
        count = round(2 * math.log2(measured[-1] / measured[0])) + 1
        found += _points(terms, np.union1d(terms.sizes(count), chosen.get(number, [])))
    good = _efficient(found)
    return tuple(replace(point, efficient=is_good) for point, is_good in zip(found, good, strict=True))


def _points(terms: Terms, batch_sizes: Floats) -> list[FrontierPoint]:
    """Which of them are efficient is not judged yet."""
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
    return found


def terms_at(point: FrontierPoint, offers: Sequence[Terms]) -> Terms:
    """The offer that a point belongs to."""
    where = (point.device, point.devices)
    return next(t for t in offers if t.hardware is None or (t.hardware.device, t.hardware.devices) == where)


def _efficient(found: Sequence[FrontierPoint]) -> list[bool]:
    """Pareto's rule: (n,) points against each other."""
    timed = all(point.hours is not None for point in found)
    taken = np.array([(p.hours, p.cost) if timed else (p.steps, p.examples) for p in found], dtype=float)  # (n, 2)
    no_worse = np.all(taken[None] <= taken[:, None], axis=-1)  # [i, j]: j is no worse than i
    better = np.any(taken[None] < taken[:, None], axis=-1)
    return [not dominated for dominated in np.any(no_worse & better, axis=-1).tolist()]
