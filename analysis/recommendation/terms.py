"""What a training to the target takes at a batch size on one kind of hardware: steps, examples, hours, cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.recommendation.hardware import Hardware

Floats = npt.NDArray[np.float64]
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Terms:
    """What a training is paid in, and where its numbers come from.

    Attributes:
        fit: steps to target by batch size.
        hardware: what it runs on; None = step times are not known: no hours and no cost.
    """

    fit: HyperbolaFit
    hardware: Hardware | None

    @property
    def measured(self) -> dict[float, float]:
        """Median steps to target by batch size, of the studies that reached it."""
        return {study.batch_size: study.steps for study in self.fit.studies if study.steps is not None}

    @property
    def on_curve(self) -> bool:
        """Whether steps are read from the curve; where b_crit is not identified only the measured studies are shown."""
        return self.fit.identified["b_crit"]

    @property
    def whole(self) -> bool:
        """Whether batch sizes are whole numbers, as the measured ones are."""
        return all(size == round(size) for size in self.measured)

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
        return np.unique(np.rint(batch_sizes) if self.whole else batch_sizes)


def quantities(terms: Terms, batch_sizes: Floats) -> pd.DataFrame:
    """What a training takes at many batch sizes: the numeric columns of `FrontierPoint`, NaN where not known.

    The ends of hours and cost are those of steps and of the step time together, as independent errors in the logarithm:
    half a width is the root of the sum of both squares. Where step times have no repeats, their own error is not known
    and not in the ends. `steps_x_examples` and `hours_x_cost` are added, the products that balanced choices minimise.

    Args:
        terms: the fit and the hardware.
        batch_sizes: (n,); measured ones only where `terms.on_curve` does not hold.

    Returns:
        One row a batch size, in the same order.
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


__all__ = ["Terms", "quantities"]
