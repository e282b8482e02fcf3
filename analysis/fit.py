"""The fit of the hyperbola to a table of steps to target, with all that is known about how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.censored import weight
from analysis.fit_notes import notes
from analysis.fit_table import RowSetAside, Study, studies
from analysis.hyperbola import Hyperbola
from analysis.identify import identify
from analysis.json_values import plain
from analysis.lack_of_fit import lack_of_fit
from analysis.p_norm import PNorm, fit_p_norm
from analysis.profile import EXACT, Profile, interval, minimise
from search_spaces import InputError

Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class FittedStudy(Study):
    """A study and the curve there.

    Attributes:
        fitted_steps: the hyperbola, in steps.
        log_residual: log(steps / fitted_steps); None where not reached.
    """

    fitted_steps: float
    log_residual: float | None


@dataclass(frozen=True)
class HyperbolaFit:
    """S(B) = s_min + e_min / B fitted to one table: estimates, interval, status, and the rows behind them.

    Attributes:
        s_min: steps that remain at an infinite batch size; 0 where the data fall as 1/B throughout.
        e_min: examples that remain at a vanishing batch size; 0 where the data do not fall.
        b_crit: e_min / s_min, in `unit`; 0 or inf at these limits.
        b_crit_low: lower end of the interval of `b_crit`; 0 = open.
        b_crit_high: its upper end; inf = open.
        level: confidence of all intervals.
        unit: what batch sizes count: examples, sequences, tokens.
        definition: "2x": at b_crit, S = 2 s_min and E = 2 e_min.
        n_rows: rows of the table that entered (those set aside not counted).
        n_censored: rows among them that did not reach the target.
        degrees_of_freedom: reached studies - 2.
        sigma: standard deviation of log S about the curve: maximum likelihood times sqrt(m / (m - 2)), m the reached
            studies (with all reached: sqrt(RSS / (n - 2))); None without degrees of freedom.
        covariance: of (log s_min, log e_min), sigma^2 (J' W J)^-1; None without degrees of freedom.
        rms_log_residual: root mean square of log(steps / curve) over the reached studies.
        lack_of_fit: whether the points bend away from the hyperbola (`analysis.lack_of_fit`).
        lack_of_fit_p_value: of that test; None with too few studies.
        identified: `s_min`, `e_min`, `b_crit` -> whether the data determine it (`analysis.identify`).
        notes: what was assumed, what is doubtful and what to measure next, in sentences.
        p_norm: the curve with a free knee; None with fewer than four reached studies, or where no knee is seen.
        s_doubles_at: batch size where S = 2 s_min. Read from the p-norm where the hyperbola lacks fit, else b_crit, which
            has both properties (p is then not told apart from 1, and a free p would only add noise); None unless b_crit
            is identified.
        e_doubles_at: batch size where E = 2 e_min, read likewise.
        studies: one a batch size, with residuals.
        rows_set_aside: rows that did not enter, and why.
    """

    s_min: float
    e_min: float
    b_crit: float
    b_crit_low: float
    b_crit_high: float
    level: float
    unit: str
    definition: Literal["2x"]
    n_rows: int
    n_censored: int
    degrees_of_freedom: int
    sigma: float | None
    covariance: Matrix | None
    rms_log_residual: float
    lack_of_fit: bool
    lack_of_fit_p_value: float | None
    identified: Mapping[str, bool]
    notes: tuple[str, ...]
    p_norm: PNorm | None
    s_doubles_at: float | None
    e_doubles_at: float | None
    studies: tuple[FittedStudy, ...]
    rows_set_aside: tuple[RowSetAside, ...]

    @property
    def curve(self) -> Hyperbola:
        """The hyperbola with its closed forms."""
        return Hyperbola(self.s_min, self.e_min)

    def predict(self, batch_sizes: npt.ArrayLike) -> pd.DataFrame:
        """The curve with its pointwise t-interval: log S +- t sqrt(j' C j), j = d log S / d (log s_min, log e_min).

        The interval is that of the tuned curve (median steps to target), not of one run.

        Args:
            batch_sizes: in `unit`; (n,).

        Returns:
            Columns `batch_size`, `steps`, `steps_low`, `steps_high`, one row a batch size; the ends are NaN without degrees
            of freedom.
        """
        batch = np.atleast_1d(np.asarray(batch_sizes, dtype=float))
        steps = self.curve.steps(batch)
        half = np.full(batch.shape, math.nan)
        if self.covariance is not None:
            share = self.e_min / batch / steps
            j = np.stack([1 - share, share], axis=-1)
            variance = np.einsum("ni,ij,nj->n", j, np.array(self.covariance), j)
            half = _t(self.degrees_of_freedom, self.level) * np.sqrt(np.maximum(variance, 0.0))
        low, high = steps * np.exp(-half), steps * np.exp(half)
        return pd.DataFrame({"batch_size": batch, "steps": steps, "steps_low": low, "steps_high": high})

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit fit --json`: finite numbers or null; an open end, or a number at its limit, is null."""
        found: dict[str, Any] = plain(self)
        for name in ("s_min", "e_min", "b_crit", "b_crit_low"):
            found[name] = found[name] or None  # 0 is the limit, not a value
        p_norm = plain(self.p_norm) or dict.fromkeys(("b_crit", "p", "rms_log_residual"))
        return {**found, "identified": dict(self.identified), "p_norm": p_norm}


def fit_hyperbola(table: pd.DataFrame, level: float = 0.95, unit: str = "examples") -> HyperbolaFit:
    """Fit S(B) = s_min + e_min / B by least squares of log S, one residual a batch size.

    Assumes independent errors of log S with one standard deviation at all batch sizes, which includes what is left of tuning
    regret; repeats enter as their median, because their own spread does not show that regret (intervals from pure error
    covered 13 to 74 %, search-cost study, section 3). Unreached studies enter through a right-censored likelihood where at
    least three are reached; setting them to their cap would bias b_crit by a factor, dropping them by 1 to 2 %.

    Args:
        table: columns `batch_size`, `steps` and perhaps `max_steps`: from `read_table` or `steps_to_target`.
        level: confidence of the intervals, in (0, 1).
        unit: what batch sizes count, for the sentences.

    Returns:
        The fit. Two reached studies determine a curve without interval: nothing is then called identified.

    Raises:
        InputError: the level is not in (0, 1), or fewer than two studies are reached.
    """
    if not 0 < level < 1:
        raise InputError("level", [f"a level of confidence lies between 0 and 1, but it is {level:g}; use 0.95, say"])
    used, aside = studies(table)
    reached = np.array([study.steps is not None for study in used], dtype=bool)
    m = int(reached.sum())
    if m < 2:
        reasons = [f"row {row.row} was set aside: {row.reason}" for row in aside]
        problem = f"a curve needs 2 batch sizes that reached the target, better 6, but there are {m}; measure more"
        raise InputError("table of steps to target", [problem, *reasons])

    x = np.log([study.batch_size for study in used])
    y = np.log([study.steps or study.max_steps for study in used])
    profile = _profile(x, y, reached)
    u = minimise(profile)
    curve = profile.curve(u)
    low, high = interval(profile, u, level)
    b_crit_interval = math.exp(low), math.exp(high)

    sigma = float(profile.solve(u)[1]) * math.sqrt(m / (m - 2)) if m > 2 else None
    covariance = _covariance(profile, u, sigma) if sigma is not None else None
    fitted = curve.steps([study.batch_size for study in used])
    residuals = y - np.log(fitted)
    lacks, p_value = lack_of_fit(x[reached], residuals[reached], u)
    p_norm = fit_p_norm(x[reached], y[reached])

    half_widths = math.inf, math.inf
    if covariance is not None:
        t = _t(m - 2, level)
        half_widths = t * math.sqrt(covariance[0][0]), t * math.sqrt(covariance[1][1])
    ends = math.exp(x[reached].min()), math.exp(x[reached].max())
    identified = identify(curve, b_crit_interval, half_widths, ends)
    doubling = p_norm if lacks and p_norm is not None else PNorm(curve.s_min, curve.b_crit, 1.0, 0.0)
    known = identified["b_crit"]

    result = HyperbolaFit(
        s_min=curve.s_min,
        e_min=curve.e_min,
        b_crit=curve.b_crit,
        b_crit_low=b_crit_interval[0],
        b_crit_high=b_crit_interval[1],
        level=level,
        unit=unit,
        definition="2x",
        n_rows=sum(study.n_repeats for study in used),
        n_censored=sum(study.n_repeats - study.n_reached for study in used),
        degrees_of_freedom=m - 2,
        sigma=sigma,
        covariance=covariance,
        rms_log_residual=float(np.sqrt((residuals[reached] ** 2).mean())),
        lack_of_fit=lacks,
        lack_of_fit_p_value=p_value,
        identified=identified,
        notes=(),
        p_norm=p_norm,
        s_doubles_at=doubling.s_doubles_at if known else None,
        e_doubles_at=doubling.e_doubles_at if known else None,
        studies=tuple(
            FittedStudy(**vars(study), fitted_steps=float(at), log_residual=float(residual) if study.steps else None)
            for study, at, residual in zip(used, fitted, residuals, strict=True)
        ),
        rows_set_aside=aside,
    )
    return replace(result, notes=notes(result))
