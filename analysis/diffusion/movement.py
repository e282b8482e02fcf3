"""How the weights move away from their start: with log t or with sqrt t (Hoffer, Hubara and Soudry 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bcrit.analysis.diffusion.straight_line import Floats, StraightLine, straight_line, t_quantile
from bcrit.analysis.fit.models import CLEARLY
from bcrit.analysis.wording import readable

Law = Literal["log", "sqrt"]

FITS = 0.05
"""A law fits if its residuals are at most this share of the distance's range (root mean square): for points spread
evenly over that range R^2 >= 0.97. Chosen, not studied."""

FEWEST = 8
"""Measurements of a run: two parameters, and what is left must show a trend in the residuals. Chosen, not studied."""

SPAN = 10.0
"""Last over first update at least: over less than a decade log t and sqrt t are nearly the same line. Chosen."""


@dataclass(frozen=True)
class Line:
    """distance = intercept + slope g(t), least squares for each run, then averaged over runs.

    Attributes:
        law: g: `log` (natural) or `sqrt`.
        intercept: mean over runs, in units of the weights.
        slope: mean over runs, per unit of g.
        slope_low: lower end of its interval.
        slope_high: upper end.
        misfit: root mean square residual over the range of the distances; the largest of the runs.
    """

    law: Law
    intercept: float
    slope: float
    slope_low: float
    slope_high: float
    misfit: float


@dataclass(frozen=True)
class Movement:
    """The weights' movement at one batch size.

    Attributes:
        batch_size: of the runs.
        law: the one that the runs follow; None = not identified, and `reason` says why.
        reason: the verdict in a sentence.
        log: the line in log t: ultra-slow diffusion, what Hoffer et al. find.
        sqrt: the line in sqrt t: ordinary diffusion.
        aic_difference: AIC of sqrt less AIC of log: positive speaks for log t. Both have two parameters a run, so it is
            the sum over runs of n' log(RSS_sqrt / RSS_log), n' being the measurements that count as independent.
        vuong: Vuong's statistic (1989, section 5) of the same difference: the sum over its standard deviation, which
            is that of the measurements' contributions. About standard normal where both laws are equally far off.
        n_runs: with a seed each.
        n_points: measurements used.
        level: confidence of the slopes' intervals.
    """

    batch_size: int
    law: Law | None
    reason: str
    log: Line
    sqrt: Line
    aic_difference: float
    vuong: float
    n_runs: int
    n_points: int
    level: float

    @property
    def line(self) -> Line | None:
        """That of the law; None where none is identified."""
        return None if self.law is None else {"log": self.log, "sqrt": self.sqrt}[self.law]


def fit_movement(
    batch_size: int,
    runs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    first_step: int = 1,
    last_step: float = math.inf,
    level: float = 0.95,
) -> Movement | str:
    """Fit both laws to the runs at one batch size and compare them.

    Hoffer et al. speak of the first phase, before the learning rate falls: give its end as `last_step`. Neighbouring
    measurements of a run are not independent; with rho the residuals' correlation from one to the next under the better
    law, n points count as n' = n (1 - rho) / (1 + rho). A law is named where it fits (`FITS`), its AIC is better by
    more than 6 (`bcrit.analysis.fit.models.CLEARLY`), and Vuong's test finds that beyond chance at the level. Where the
    truth lay halfway between the laws, runs of 11 points over one decade named one in up to 16 % of 300 simulations,
    and runs of 38 points over four decades in none. With two runs or more the slope's interval comes from the scatter
    between runs (Student's t), with one from its residuals and n'.

    Args:
        batch_size: of the runs.
        runs: for each seed (updates, |w_t - w_0|), two arrays of equal length.
        first_step: measurements before it are left out; also those at step 0.
        last_step: measurements after it are left out.
        level: confidence, in (0, 1).

    Returns:
        Both lines and the verdict, or in a sentence why there are none: too few measurements, or too short a span.
    """
    kept = [_phase(steps, distances, first_step, last_step) for steps, distances in runs]
    problem = next((sentence for t, y in kept if (sentence := _too_little(t, y))), None if kept else "there is no run.")
    if problem is not None:
        return f"Batch size {batch_size}: {problem}"
    fits: dict[Law, list[StraightLine]] = {
        "log": [straight_line(np.log(t), y) for t, y in kept],
        "sqrt": [straight_line(np.sqrt(t), y) for t, y in kept],
    }
    contrasts = [_contrast(log, sqrt) for log, sqrt in zip(fits["log"], fits["sqrt"], strict=True)]
    difference, variance, independent = (sum(column) for column in zip(*contrasts, strict=True))
    vuong = difference / math.sqrt(variance)
    lines: dict[Law, Line] = {law: _line(law, found, level) for law, found in fits.items()}
    chance = t_quantile(max(independent - 2 * len(kept), 1.0), level)
    law, reason = _verdict(batch_size, lines, difference, abs(vuong) > chance)
    n_points = sum(len(t) for t, _ in kept)
    return Movement(batch_size, law, reason, lines["log"], lines["sqrt"], difference, vuong, len(kept), n_points, level)


def _contrast(log: StraightLine, sqrt: StraightLine) -> tuple[float, float, float]:
    """A run's AIC of sqrt t less that of log t, its variance, and the n' points that both are for."""
    n, independent = log.n, min(log, sqrt, key=lambda fit: fit.rss).independent
    squares = [fit.residuals**2 / (fit.rss / n) for fit in (log, sqrt)]
    scatter = float(np.var(squares[1] - squares[0]))
    return independent * math.log(sqrt.rss / log.rss), independent * max(scatter, 1e-12), independent


def _phase(steps: npt.ArrayLike, distances: npt.ArrayLike, first_step: int, last_step: float) -> tuple[Floats, Floats]:
    t, y = np.asarray(steps, dtype=np.float64), np.asarray(distances, dtype=np.float64)
    within = (t >= max(first_step, 1)) & (t <= last_step) & np.isfinite(y)
    return t[within], y[within]


def _too_little(t: Floats, y: Floats) -> str | None:
    if len(t) < FEWEST or t.max() < SPAN * t.min():
        return (
            f"log t and sqrt t cannot be told apart from {len(t)} measurements of a run; it takes {FEWEST} that span "
            f"a factor {SPAN:g} of updates."
        )
    return "the weights of a run did not move." if np.ptp(y) == 0 else None


def _line(law: Law, fits: Sequence[StraightLine], level: float) -> Line:
    slopes = np.array([fit.slope for fit in fits])
    if len(fits) > 1:
        half = t_quantile(len(fits) - 1, level) * float(slopes.std(ddof=1)) / math.sqrt(len(fits))
    else:
        (fit,) = fits
        freedom = max(fit.independent - 2, 1.0)
        half = t_quantile(freedom, level) * math.sqrt(fit.rss / (fit.n - 2) / fit.spread * fit.n / fit.independent)
    slope = float(slopes.mean())
    intercept = float(np.mean([fit.intercept for fit in fits]))
    misfit = max(math.sqrt(fit.rss / fit.n) / fit.reach for fit in fits)
    return Line(law, intercept, slope, slope - half, slope + half, misfit)


def _verdict(batch_size: int, lines: dict[Law, Line], difference: float, beyond_chance: bool) -> tuple[Law | None, str]:
    at = f"Batch size {batch_size}: "
    better: Law = "log" if difference > 0 else "sqrt"
    line = lines[better]
    if line.misfit > FITS:
        return None, (
            f"{at}the distance goes with neither log t nor sqrt t: the better one, {better} t, leaves residuals of "
            f"{line.misfit:.0%} of its range."
        )
    if abs(difference) <= CLEARLY or not beyond_chance:
        return None, (
            f"{at}log t and sqrt t fit alike: AIC differs by {readable(abs(difference))}, which "
            f"{'chance may explain' if abs(difference) > CLEARLY else 'is little'}."
        )
    return better, (
        f"{at}the distance grows with {better} t, by {readable(line.slope)} ({readable(line.slope_low)} to "
        f"{readable(line.slope_high)}) per unit of {better} t (AIC better by {readable(abs(difference))})."
    )


__all__ = ["FEWEST", "FITS", "SPAN", "Law", "Line", "Movement", "fit_movement"]
