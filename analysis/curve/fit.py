"""The fit of the hyperbola to a table of steps to target: estimates, interval, status, and the rows behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bcrit.analysis.curve.interval import bend, identify, interval, lack_of_fit
from bcrit.analysis.curve.landmarks import Definition, Knee, Regimes, definitions, place, regimes
from bcrit.analysis.curve.likelihood import Hyperbola, Matrix, Profile, likelihood, minimise, weight
from bcrit.analysis.curve.new_study import (
    Measured,
    NextBatchSize,
    Prediction,
    StepSeconds,
    next_batch_size,
    next_sentence,
    predictions,
)
from bcrit.analysis.curve.notes import notes
from bcrit.analysis.curve.other_curves import Model, PNorm, fit_p_norm, models
from bcrit.analysis.curve.table import RowSetAside, Study, studies
from bcrit.analysis.numbers.estimate import Estimate, t_quantile
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces import InputError

WIDEST = 1e4
"""An interval of s_min or e_min whose ends are a wider ratio apart says nothing. Chosen, not studied."""


@dataclass(frozen=True)
class FittedStudy(Study):
    """A study and the curve there."""

    fitted_steps: float  # the hyperbola, in steps
    log_residual: float | None  # log(steps / fitted_steps); None where not reached


@dataclass(frozen=True)
class HyperbolaFit:
    """S(B) = s_min + e_min / B fitted to one table: estimates, interval, status, and the rows behind them."""

    s_min: float  # steps that remain at an infinite batch size; 0 where the data fall as 1/B throughout
    e_min: float  # examples that remain at a vanishing batch size; 0 where the data do not fall
    b_crit: float  # e_min / s_min, in `unit`; 0 or inf at these limits
    b_crit_low: float  # lower end of the interval of `b_crit`; 0 = open
    b_crit_high: float  # its upper end; inf = open
    level: float  # confidence of all intervals
    unit: str  # what batch sizes count: examples, sequences, tokens
    definition: Literal["2x"]  # "2x": at b_crit, S = 2 s_min and E = 2 e_min
    n_rows: int  # rows of the table that entered (those set aside not counted)
    n_censored: int  # rows among them that did not reach the target
    degrees_of_freedom: int  # reached studies - 2, of the intervals of everything but b_crit (`interval.freedom`)
    # Standard deviation of log S about the curve: maximum likelihood times sqrt(m / (m - 2)), m the reached studies
    # (with all reached: sqrt(RSS / (n - 2))), and at least what the evaluation grid leaves open
    # (`rounding`); None without degrees of freedom.
    sigma: float | None
    covariance: Matrix | None  # of (log s_min, log e_min), sigma^2 (J' W J)^-1; None without degrees of freedom
    rms_log_residual: float  # root mean square of log(steps / curve) over the reached studies
    lack_of_fit: bool  # whether the points bend away from the hyperbola (`interval.lack_of_fit`)
    lack_of_fit_p_value: float | None  # of that test; None with too few studies
    # `s_min`, `e_min`, `b_crit` -> whether the data determine it (`interval.identify`).
    identified: Mapping[str, bool]
    notes: tuple[str, ...]  # what was assumed, what is doubtful and what to measure next, in sentences
    # The curve with a free knee; None with fewer than four reached studies, or where no knee is seen.
    p_norm: PNorm | None
    # Batch size where S = 2 s_min. Read from the p-norm where the hyperbola lacks fit, else b_crit, which has both
    # properties (p is then not told apart from 1, and a free p would only add noise); None unless b_crit is
    # identified.
    s_doubles_at: float | None
    e_doubles_at: float | None  # batch size where E = 2 e_min, read likewise
    # This curve beside other candidates, by information criterion (`other_curves.models`).
    models: tuple[Model, ...]
    studies: tuple[FittedStudy, ...]  # one a batch size, with residuals
    rows_set_aside: tuple[RowSetAside, ...]  # rows that did not enter, and why

    @property
    def curve(self) -> Hyperbola:
        """The hyperbola with its closed forms."""
        return Hyperbola(self.s_min, self.e_min)

    @property
    def t(self) -> float:
        """Two-sided quantile of Student's t at `level`; inf without degrees of freedom."""
        return t_quantile(self.degrees_of_freedom, self.level)

    def interval(self, name: str) -> tuple[float, float]:
        """The interval of `s_min`, `e_min` or `b_crit`; an open end is 0 or inf.

        That of s_min and e_min is symmetric in the logarithm, +- t times the standard error, and open on both sides
        where the number is at its limit or the interval is wider than `WIDEST`.
        """
        if name == "b_crit":
            return self.b_crit_low, self.b_crit_high
        place, value = ("s_min", "e_min").index(name), getattr(self, name)
        half = math.inf if self.covariance is None else self.t * math.sqrt(self.covariance[place][place])
        if value == 0 or 2 * half > math.log(WIDEST):
            return 0.0, math.inf
        return value * math.exp(-half), value * math.exp(half)

    def predict(self, batch_sizes: npt.ArrayLike) -> pd.DataFrame:
        """The curve with its pointwise t-interval: log S +- t sqrt(j' C j), j = d log S / d (log s_min, log e_min).

        The interval is that of the tuned curve (median steps to target), not of one run.
        """
        batch = np.atleast_1d(np.asarray(batch_sizes, dtype=float))
        steps = self.curve.steps(batch)
        half = np.full(batch.shape, math.nan)
        if self.covariance is not None:
            share = self.e_min / batch / steps
            j = np.stack([1 - share, share], axis=-1)
            variance = np.einsum("ni,ij,nj->n", j, np.array(self.covariance), j)
            half = self.t * np.sqrt(np.maximum(variance, 0.0))
        low, high = steps * np.exp(-half), steps * np.exp(half)
        return pd.DataFrame({"batch_size": batch, "steps": steps, "steps_low": low, "steps_high": high})

    @property
    def reached(self) -> tuple[float, ...]:
        """Batch sizes that reached the target, rising."""
        return tuple(study.batch_size for study in self.studies if study.steps is not None)

    @property
    def knee(self) -> Knee:
        """Where the hyperbola bends, with its interval; no estimate where b_crit is not identified."""
        known = self.b_crit if self.identified["b_crit"] else None
        return Knee(place(known, self.b_crit_low, self.b_crit_high))

    @property
    def free_knee(self) -> Knee | None:
        """Where the p-norm bends; None where it was not fitted or b_crit is not identified."""
        return self.p_norm.knee(self.level) if self.p_norm is not None and self.identified["b_crit"] else None

    def definitions(self, linear_from: float = 0.0, efficiency: float = 0.8) -> tuple[Definition, ...]:
        """The batch sizes that other authors call critical; see `landmarks.definitions`."""
        return definitions(self.knee, self.free_knee, self.unit, linear_from, efficiency)

    def regimes(self) -> Regimes:
        """Perfect scaling, diminishing returns and plateau; from the p-norm where the hyperbola lacks fit."""
        free = self.free_knee
        bent = self.lack_of_fit and free is not None and free.covariance is not None
        return regimes(free if bent and free is not None else self.knee, (study.batch_size for study in self.studies))

    def next_batch_size(self, step_seconds: StepSeconds | None = None) -> tuple[NextBatchSize, ...]:
        """What to measure next, by kind of cost; see `new_study.next_batch_size`."""
        unreached = [study.batch_size for study in self.studies if study.steps is None]
        ends = (self.b_crit_low, self.b_crit_high)
        return next_batch_size(
            self.curve, ends, self.identified, Measured(self.reached, unreached), self.level, step_seconds
        )

    def predict_studies(self, batch_sizes: Sequence[float]) -> tuple[Prediction, ...]:
        """What new studies would measure; see `new_study.predictions`."""
        return predictions(
            self.curve, self.covariance, self.sigma, self.t, self.p_norm, self.reached, tuple(batch_sizes)
        )

    def to_json(
        self,
        linear_from: float = 0.0,
        efficiency: float = 0.8,
        predict: Sequence[float] = (),
        step_seconds: StepSeconds | None = None,
    ) -> dict[str, Any]:
        """The object of `bcrit fit --json`: finite numbers or null; an open end, or a number at its limit, is null."""
        found: dict[str, Any] = plain(self)
        for name in ("s_min", "e_min", "b_crit", "b_crit_low", "b_crit_high"):
            found[name] = found[name] or None  # 0 is the limit, not a value
        p_norm = plain(self.p_norm) or dict.fromkeys(("b_crit", "p", "rms_log_residual"))
        suggestions = self.next_batch_size(step_seconds)
        where = self.regimes()
        return {
            **found,
            "identified": dict(self.identified),
            "p_norm": p_norm,
            "definitions": plain(self.definitions(linear_from, efficiency)),
            "regimes": {
                "perfect_scaling_ends": _place(where.perfect_scaling_ends),
                "plateau_begins": _place(where.plateau_begins),
                "studies": [{"batch_size": size, "regime": regime.value} for size, regime in where.studies],
            },
            "next_batch_size": {suggestion.per: plain(suggestion) for suggestion in suggestions},
            "next_batch_size_sentence": next_sentence(suggestions, self.unit),
            "predictions": plain(self.predict_studies(predict)),
        }


def _place(found: Estimate) -> Any:
    return plain({"batch_size": found.value, "low": found.low, "high": found.high})


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
        raise InputError("table of steps to target", _too_few(m, aside))

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
    """
    shares = [(study.resolution or 0.0) / study.steps for study in used if study.steps is not None]
    return math.sqrt(sum(share**2 for share in shares) / len(shares) / 12)


def grid_spread(used: Sequence[Study], covariance: Matrix | None, sigma: float | None) -> float:
    """The least standard deviation that log b_crit = log e_min - log s_min can have, from that of log S (`rounding`).

    Points may lie on a curve by luck; b_crit is no better known than evaluations let S be.
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
