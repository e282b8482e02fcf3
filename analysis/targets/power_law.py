"""How b_crit grows as the target gets stricter: the power law of Kaplan et al. 2020, fitted to several targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bcrit.analysis.curve.fit import HyperbolaFit
from bcrit.analysis.curve.interval import freedom
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

    Attributes:
        b_star: b_crit at L = 1, in `unit`.
        exponent: 1 / alpha: per cent by which b_crit grows when the threshold falls by one per cent.
        exponent_low: lower end of its t-interval.
        exponent_high: upper end.
        alpha: 1 / exponent; None unless the whole interval is above 0.
        level: confidence of the interval.
        unit: what b_crit counts.
        n_targets: identified targets.
        strictest: smallest threshold used.
        loosest: largest threshold used.
        rms_log_residual: root mean square of log(b_crit / law).
    """

    b_star: float
    exponent: float
    exponent_low: float
    exponent_high: float
    alpha: float | None
    level: float
    unit: str
    n_targets: int
    strictest: float
    loosest: float
    rms_log_residual: float

    def b_crit(self, threshold: float) -> float:
        """The law at one threshold."""
        return float(self.b_star * threshold**-self.exponent)

    @property
    def sentence(self) -> str:
        """The verdict."""
        between = f"{readable(self.exponent_low)} to {readable(self.exponent_high)}, {self.level:.0%} interval"
        shared = "The targets share the same runs, so this interval is approximate."
        if self.exponent_low <= 0 <= self.exponent_high:
            return (
                f"b_crit does not change with the target by more than its uncertainty: as a power of the threshold it "
                f"goes with {readable(-self.exponent)} (1/alpha = {readable(self.exponent)}, {between}). {shared}"
            )
        way = "grows" if self.exponent > 0 else "falls"
        return (
            f"b_crit {way} as the target gets stricter: b_crit = {readable(self.b_star)} {self.unit} / "
            f"L^{readable(self.exponent)} between {readable(self.strictest)} and {readable(self.loosest)} "
            f"(1/alpha from {between}). {shared}"
        )


def fit_power_law(fits: Sequence[tuple[Target, HyperbolaFit]], level: float = 0.95) -> PowerLaw | str:
    """Fit the law to the targets whose b_crit is identified.

    Args:
        fits: targets of one metric, with their curves.
        level: confidence of the interval, in (0, 1).

    Returns:
        The law, or in a sentence why there is none: the metric is maximised or not positive, fewer than three targets
        are identified, or they lie too close together.
    """
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
    log_b_star, exponent = normal @ design.T @ (weight * y)
    residual = y - design @ np.array([log_b_star, exponent])
    freedom = len(used) - 2
    scale = float((weight * residual**2).sum()) / freedom
    half = special.stdtrit(freedom, (1 + level) / 2) * math.sqrt(normal[1, 1] * (scale if exact else max(1.0, scale)))
    low = float(exponent - half)
    return PowerLaw(
        b_star=math.exp(log_b_star),
        exponent=float(exponent),
        exponent_low=low,
        exponent_high=float(exponent + half),
        alpha=float(1 / exponent) if low > 0 else None,
        level=level,
        unit=used[0][1].unit,
        n_targets=len(used),
        strictest=float(thresholds.min()),
        loosest=float(thresholds.max()),
        rms_log_residual=float(np.sqrt((residual**2).mean())),
    )


def _standard_error(fit: HyperbolaFit) -> float:
    """Of log b_crit, from its interval, which has its own degrees of freedom (`bcrit.analysis.curve.interval`)."""
    t = special.stdtrit(freedom(len(fit.reached)), (1 + fit.level) / 2)
    return float(math.log(fit.b_crit_high / fit.b_crit_low) / (2 * t))


__all__ = ["FEWEST", "SPAN", "PowerLaw", "fit_power_law"]
