"""How b_crit grows as the target gets stricter: the power law of Kaplan et al. 2020, fitted to several targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcrit.analysis.curve.fit import HyperbolaFit
from bcrit.analysis.curve.interval import freedom
from bcrit.analysis.numbers.estimate import LEVEL, Estimate, t_quantile
from bcrit.analysis.wording import readable
from bcrit.search_spaces.target import Direction, Target

FEWEST = 3
"""Identified targets: two parameters and one degree of freedom."""

SPAN = 1.05
"""The loosest threshold must be at least this many times the strictest. Kaplan et al.'s exponent 4.8 turns it into a
factor 1.26 of b_crit, which is hardly seen through the interval of one b_crit. Chosen, not studied."""


@dataclass(frozen=True)
class PowerLaw:
    """b_crit(L) = b_star / L^(1 / alpha) (Kaplan et al. 2020, arXiv 2001.08361, eq. 1.4).

    Fitted as log b_crit = log b_star - exponent log L by least squares, weighted by the inverse squared width of
    each interval of log b_crit. The errors' scale is that of the residuals, and no smaller than what those intervals
    say. The targets share the same runs, so their errors are not independent, and the interval is approximate.
    """

    b_star: float  # b_crit at L = 1, in `unit`
    power: float  # 1 / alpha: per cent by which b_crit grows when the threshold falls by one per cent
    exponent: Estimate  # the same with its t-interval
    unit: str  # what b_crit counts
    n_targets: int  # identified targets
    strictest: float  # smallest threshold used
    loosest: float  # largest threshold used
    rms_log_residual: float  # root mean square of log(b_crit / law)

    @property
    def alpha(self) -> float | None:
        """1 / exponent; None unless the whole interval is above 0."""
        return 1 / self.power if self.power > 0 and not self.exponent.holds(0) else None

    def b_crit(self, threshold: float) -> float:
        """The law at one threshold."""
        return float(self.b_star * threshold**-self.power)

    def to_json(self) -> dict[str, Any]:
        """Its part of `bcrit targets --json`."""
        numbers = {"alpha": self.alpha, "level": self.exponent.level}
        names = ("unit", "n_targets", "strictest", "loosest", "rms_log_residual")
        rest = {name: getattr(self, name) for name in names}
        return {"b_star": self.b_star, **self.exponent.flat("exponent"), **numbers, **rest}

    @property
    def sentence(self) -> str:
        """The verdict."""
        between = f"{self.exponent.interval()}, {self.exponent.level:.0%} interval"
        shared = "The targets share the same runs, so this interval is approximate."
        if self.exponent.holds(0):
            return (
                f"b_crit does not change with the target by more than its uncertainty: as a power of the threshold it "
                f"goes with {readable(-self.power)} (1/alpha = {readable(self.power)}, {between}). {shared}"
            )
        way = "grows" if self.power > 0 else "falls"
        return (
            f"b_crit {way} as the target gets stricter: b_crit = {readable(self.b_star)} {self.unit} / "
            f"L^{readable(self.power)} between {readable(self.strictest)} and {readable(self.loosest)} "
            f"(1/alpha from {between}). {shared}"
        )


def fit_power_law(fits: Sequence[tuple[Target, HyperbolaFit]], level: float = LEVEL) -> PowerLaw | str:
    """Fit the law to the targets, of one metric, whose b_crit is identified; or say in a sentence why there is none."""
    if not fits or fits[0][0].direction is Direction.MAXIMIZE:
        return "The power law b_crit = b_star / L^(1/alpha) is one of a loss: of a metric that is minimised."
    used = [(target.threshold, fit) for target, fit in fits if fit.identified["b_crit"]]
    if any(threshold <= 0 for threshold, _ in used):
        return "The power law needs positive thresholds."
    if len(used) < FEWEST:
        return f"The power law needs {FEWEST} targets with an identified b_crit, but there are {len(used)}."
    thresholds = np.array([threshold for threshold, _ in used])
    span = thresholds.max() / thresholds.min()
    if span < SPAN:
        return f"The power law needs thresholds that span a factor {SPAN:g}, but they span {span:.3g}."
    x, y = -np.log(thresholds), np.log([fit.b_crit for _, fit in used])
    sigma = np.array([_standard_error(fit) for _, fit in used])
    exact = not (sigma > 0).all()  # computed numbers, not measured: every point counts the same
    weight = np.ones_like(sigma) if exact else 1 / sigma**2
    design = np.stack([np.ones_like(x), x], axis=1)
    normal = np.linalg.inv(design.T @ (weight[:, None] * design))
    log_b_star, power = normal @ design.T @ (weight * y)
    residual = y - design @ np.array([log_b_star, power])
    freedom = len(used) - 2
    scale = float((weight * residual**2).sum()) / freedom
    error = math.sqrt(normal[1, 1] * (scale if exact else max(1.0, scale)))
    return PowerLaw(
        b_star=math.exp(log_b_star),
        power=float(power),
        exponent=Estimate.t(float(power), error, freedom, level=level),
        unit=used[0][1].unit,
        n_targets=len(used),
        strictest=float(thresholds.min()),
        loosest=float(thresholds.max()),
        rms_log_residual=float(np.sqrt((residual**2).mean())),
    )


def _standard_error(fit: HyperbolaFit) -> float:
    """Of log b_crit, from its interval, which has its own degrees of freedom (`bcrit.analysis.curve.interval`)."""
    return math.log(fit.b_crit_high / fit.b_crit_low) / (2 * t_quantile(freedom(len(fit.reached)), fit.level))
