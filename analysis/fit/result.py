"""What a fit returns: estimates, intervals, status, and the rows behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bcrit.analysis.fit.definitions import Definition, definitions
from bcrit.analysis.fit.hyperbola import Hyperbola
from bcrit.analysis.fit.landmarks import Knee, Place
from bcrit.analysis.fit.models import Model
from bcrit.analysis.fit.next_batch_size import Measured, NextBatchSize, StepSeconds, next_batch_size, sentence
from bcrit.analysis.fit.p_norm import PNorm
from bcrit.analysis.fit.predictions import Prediction, predictions
from bcrit.analysis.fit.regimes import Regimes, regimes
from bcrit.analysis.fit.table import RowSetAside, Study
from bcrit.analysis.records.json_values import plain

Matrix = tuple[tuple[float, float], tuple[float, float]]

WIDEST = 1e4
"""An interval of s_min or e_min whose ends are a wider ratio apart says nothing. Chosen, not studied."""


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
        degrees_of_freedom: reached studies - 2, of the intervals of everything but b_crit (`fit.interval`).
        sigma: standard deviation of log S about the curve: maximum likelihood times sqrt(m / (m - 2)), m the reached
            studies (with all reached: sqrt(RSS / (n - 2))), and at least what the evaluation grid leaves open
            (`bcrit.analysis.fit.estimate.rounding`); None without degrees of freedom.
        covariance: of (log s_min, log e_min), sigma^2 (J' W J)^-1; None without degrees of freedom.
        rms_log_residual: root mean square of log(steps / curve) over the reached studies.
        lack_of_fit: whether the points bend away from the hyperbola (`bcrit.analysis.fit.lack_of_fit`).
        lack_of_fit_p_value: of that test; None with too few studies.
        identified: `s_min`, `e_min`, `b_crit` -> whether the data determine it (`bcrit.analysis.fit.identify`).
        notes: what was assumed, what is doubtful and what to measure next, in sentences.
        p_norm: the curve with a free knee; None with fewer than four reached studies, or where no knee is seen.
        s_doubles_at: batch size where S = 2 s_min. Read from the p-norm where the hyperbola lacks fit, else b_crit,
            which has both properties (p is then not told apart from 1, and a free p would only add noise); None unless
            b_crit is identified.
        e_doubles_at: batch size where E = 2 e_min, read likewise.
        models: this curve beside other candidates, by information criterion (`bcrit.analysis.fit.models`).
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
    models: tuple[Model, ...]
    studies: tuple[FittedStudy, ...]
    rows_set_aside: tuple[RowSetAside, ...]

    @property
    def curve(self) -> Hyperbola:
        """The hyperbola with its closed forms."""
        return Hyperbola(self.s_min, self.e_min)

    @property
    def t(self) -> float:
        """Two-sided quantile of Student's t at `level`; inf without degrees of freedom."""
        if self.degrees_of_freedom < 1:
            return math.inf
        return float(special.stdtrit(self.degrees_of_freedom, (1 + self.level) / 2))

    def interval(self, name: str) -> tuple[float, float]:
        """The interval of `s_min`, `e_min` or `b_crit`; an open end is 0 or inf.

        That of s_min and e_min is symmetric in the logarithm, +- t times the standard error, and open on both sides
        where the number is at its limit or the interval is wider than `WIDEST`.

        Args:
            name: of the number.
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

        Args:
            batch_sizes: in `unit`; (n,).

        Returns:
            Columns `batch_size`, `steps`, `steps_low`, `steps_high`, one row a batch size; the ends are NaN without
            degrees of freedom.
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
        return Knee(Place(known, self.b_crit_low, self.b_crit_high))

    @property
    def free_knee(self) -> Knee | None:
        """Where the p-norm bends; None where it was not fitted or b_crit is not identified."""
        return self.p_norm.knee(self.level) if self.p_norm is not None and self.identified["b_crit"] else None

    def definitions(self, linear_from: float = 0.0, efficiency: float = 0.8) -> tuple[Definition, ...]:
        """The batch sizes that other authors call critical; see `bcrit.analysis.fit.definitions`."""
        return definitions(self.knee, self.free_knee, self.unit, linear_from, efficiency)

    def regimes(self) -> Regimes:
        """Perfect scaling, diminishing returns and plateau; from the p-norm where the hyperbola lacks fit."""
        free = self.free_knee
        bent = self.lack_of_fit and free is not None and free.covariance is not None
        return regimes(free if bent and free is not None else self.knee, (study.batch_size for study in self.studies))

    def next_batch_size(self, step_seconds: StepSeconds | None = None) -> tuple[NextBatchSize, ...]:
        """What to measure next, by kind of cost; see `bcrit.analysis.fit.next_batch_size`."""
        unreached = [study.batch_size for study in self.studies if study.steps is None]
        ends = (self.b_crit_low, self.b_crit_high)
        return next_batch_size(
            self.curve, ends, self.identified, Measured(self.reached, unreached), self.level, step_seconds
        )

    def predict_studies(self, batch_sizes: Sequence[float]) -> tuple[Prediction, ...]:
        """What new studies would measure; see `bcrit.analysis.fit.predictions`."""
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
        """The object of `bcrit fit --json`: finite numbers or null; an open end, or a number at its limit, is null.

        Args:
            linear_from: B0 of the definition of 20 % over linear scaling.
            efficiency: of the definition by efficiency.
            predict: batch sizes to predict.
            step_seconds: time of a step by batch size, for what to measure next.
        """
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
            "definitions": [_closed(plain(entry)) for entry in self.definitions(linear_from, efficiency)],
            "regimes": {
                "perfect_scaling_ends": _closed(plain(where.perfect_scaling_ends)),
                "plateau_begins": _closed(plain(where.plateau_begins)),
                "studies": [{"batch_size": size, "regime": regime.value} for size, regime in where.studies],
            },
            "next_batch_size": {suggestion.per: plain(suggestion) for suggestion in suggestions},
            "next_batch_size_sentence": sentence(suggestions, self.unit),
            "predictions": plain(self.predict_studies(predict)),
        }


def _closed(entry: dict[str, Any]) -> dict[str, Any]:
    """A lower end of 0 is open: null."""
    return {**entry, "low": entry["low"] or None}
