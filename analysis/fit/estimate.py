"""The fit of the hyperbola to a table of steps to target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bcrit.analysis.fit.censored import weight
from bcrit.analysis.fit.identify import identify
from bcrit.analysis.fit.interval import interval
from bcrit.analysis.fit.lack_of_fit import bend, lack_of_fit
from bcrit.analysis.fit.models import models
from bcrit.analysis.fit.notes import notes
from bcrit.analysis.fit.p_norm import PNorm, fit_p_norm
from bcrit.analysis.fit.profile import Profile, likelihood, minimise
from bcrit.analysis.fit.result import FittedStudy, HyperbolaFit, Matrix
from bcrit.analysis.fit.table import RowSetAside, Study, studies
from bcrit.search_spaces import InputError

__all__ = ["HyperbolaFit", "fit_hyperbola"]

Floats = npt.NDArray[np.float64]
_WHERE = "table of steps to target"


def fit_hyperbola(table: pd.DataFrame, level: float = 0.95, unit: str = "examples") -> HyperbolaFit:
    """Fit S(B) = s_min + e_min / B by least squares of log S, one residual a batch size.

    Assumes independent errors of log S with one standard deviation at all batch sizes, which includes what is left of
    tuning regret; repeats enter as their median, because their own spread does not show that regret (intervals from
    pure error covered 13 to 74 %, search-cost study, section 3). Unreached studies enter through a right-censored
    likelihood where at least three are reached; setting them to their cap would bias b_crit by a factor, dropping them
    by 1 to 2 %.

    Args:
        table: columns `batch_size`, `steps` and perhaps `max_steps`: from `read_table` or `steps_to_target`.
        level: confidence of the intervals, in (0, 1).
        unit: what batch sizes count, for the sentences.

    Returns:
        The fit. Two reached studies determine a curve without interval: nothing is then called identified.

    Raises:
        InputError: the level is not in (0, 1), or fewer than two studies are reached.

    Example:
        >>> table = pd.DataFrame({"batch_size": [16, 64, 256, 1024], "steps": [362.5, 128.1, 69.5, 54.9]})
        >>> fit = fit_hyperbola(table)
        >>> round(fit.s_min), round(fit.b_crit), fit.identified["b_crit"]
        (50, 100, True)
    """
    if not 0 < level < 1:
        raise InputError("level", [f"a level of confidence lies between 0 and 1, but it is {level:g}; use 0.95, say"])
    used, aside = studies(table)
    reached = np.array([study.steps is not None for study in used], dtype=bool)
    m = int(reached.sum())
    if m < 2:
        raise InputError(_WHERE, _too_few(m, aside))

    x = np.log([study.batch_size for study in used])
    y = np.log([study.steps or study.max_steps or math.nan for study in used])
    profile = likelihood(x, y, reached)
    u = minimise(profile)
    curve = profile.curve(u)
    sigma = max(float(profile.solve(u)[1]) * math.sqrt(m / (m - 2)), rounding(used)) if m > 2 else None
    residuals = y - np.log(curve.steps(np.exp(x)))
    rms = float(np.sqrt((residuals[reached] ** 2).mean()))
    knee = bend(x[reached], residuals[reached], u)
    covariance = _covariance(profile, u, sigma) if sigma is not None else None
    low, high = interval(profile, u, level, knee, grid_spread(used, covariance, sigma))
    p_norm = fit_p_norm(x, y, reached)

    estimate = HyperbolaFit(
        s_min=curve.s_min,
        e_min=curve.e_min,
        b_crit=curve.b_crit,
        b_crit_low=math.exp(low),
        b_crit_high=math.exp(high),
        level=level,
        unit=unit,
        definition="2x",
        n_rows=sum(study.n_repeats for study in used),
        n_censored=sum(study.n_repeats - study.n_reached for study in used),
        degrees_of_freedom=m - 2,
        sigma=sigma,
        covariance=covariance,
        rms_log_residual=rms,
        lack_of_fit=lack_of_fit(knee, rms),
        lack_of_fit_p_value=None if knee is None else knee.p_value,
        identified={},
        notes=(),
        p_norm=p_norm,
        s_doubles_at=None,
        e_doubles_at=None,
        models=models(profile, u, p_norm),
        studies=tuple(_fitted(study, float(residual)) for study, residual in zip(used, residuals, strict=True)),
        rows_set_aside=aside,
    )
    return _judged(estimate)


def _covariance(profile: Profile, u: float, sigma: float) -> Matrix:
    """Covariance sigma^2 (J' W J)^-1 of (log s_min, log e_min) in the linearised model, sigma taken as known.

    W is 1 for a reached study and for a bound the share of information that it carries. At a limit of the curve one
    column of J vanishes; the pseudo-inverse then leaves that parameter out.
    """
    share = special.expit(u - profile.log_batch)
    jacobian = np.stack([1 - share, share], axis=-1)
    if not profile.reached.all():
        level, spread = profile.solve(u)
        z = (profile.log_steps - profile.offset(u) - level) / spread
        jacobian *= np.sqrt(np.where(profile.reached, 1.0, weight(z)))[:, None]
    inverse = np.linalg.pinv(jacobian)
    (ss, se), (_, ee) = sigma**2 * inverse @ inverse.T
    return (float(ss), float(se)), (float(se), float(ee))


def rounding(used: Sequence[Study]) -> float:
    """The least standard deviation that log S can have: a crossing lies anywhere between two evaluations.

    Uniform on an interval of width w, S has the standard deviation w / sqrt(12); the root mean square of its share of S
    over the reached studies is returned, 0 where the table does not say how often was evaluated.

    Args:
        used: the studies.
    """
    shares = [(study.resolution or 0.0) / study.steps for study in used if study.steps is not None]
    return math.sqrt(sum(share**2 for share in shares) / len(shares) / 12)


def grid_spread(used: Sequence[Study], covariance: Matrix | None, sigma: float | None) -> float:
    """The least standard deviation that log b_crit = log e_min - log s_min can have, from that of log S (`rounding`).

    Points may lie on a curve by luck; b_crit is no better known than evaluations let S be.

    Args:
        used: the studies.
        covariance: of (log s_min, log e_min) for this sigma; None without degrees of freedom.
        sigma: the scatter behind it.
    """
    if covariance is None or not sigma:
        return 0.0
    (ss, se), (_, ee) = covariance
    return rounding(used) * math.sqrt(max(ss + ee - 2 * se, 0.0)) / sigma


def _judged(fit: HyperbolaFit) -> HyperbolaFit:
    """The estimate with what follows from it: what is identified, where S and E double, and the notes."""
    variances = (fit.covariance[0][0], fit.covariance[1][1]) if fit.covariance else (math.inf, math.inf)
    identified = identify(
        fit.curve,
        (fit.b_crit_low, fit.b_crit_high),
        (fit.t * math.sqrt(variances[0]), fit.t * math.sqrt(variances[1])),
        (min(fit.reached), max(fit.reached)),
    )
    if identified["b_crit"]:
        plain_curve = PNorm(fit.s_min, fit.b_crit, p=1.0, rms_log_residual=fit.rms_log_residual)
        doubling = fit.p_norm if fit.lack_of_fit and fit.p_norm is not None else plain_curve
        fit = replace(fit, s_doubles_at=doubling.s_doubles_at, e_doubles_at=doubling.e_doubles_at)
    fit = replace(fit, identified=identified)
    return replace(fit, notes=notes(fit))


def _fitted(study: Study, residual: float) -> FittedStudy:
    steps = study.steps or study.max_steps or math.nan
    log_residual = residual if study.steps is not None else None
    return FittedStudy(**vars(study), fitted_steps=steps * math.exp(-residual), log_residual=log_residual)


def _too_few(m: int, aside: tuple[RowSetAside, ...]) -> list[str]:
    count = {0: "none did", 1: "only one did"}[m]
    rule = f"a curve needs at least 2 batch sizes that reached the target, but {count}"
    return [
        f"{rule}; measure more (6 give a useful interval), or train longer",
        *(f"row {row.row} was set aside: {row.reason}" for row in aside),
    ]
