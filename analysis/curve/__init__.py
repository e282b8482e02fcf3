"""The fit of the hyperbola to a table of steps to target: estimates, interval, rows, and what it says of itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.curve import new_study
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.interval import bend, grid_spread, identify, interval, lack_of_fit, rounding
from bcrit.analysis.curve.landmarks import Definition, Knee, Regimes, Trough, bottom, definitions, place, regimes
from bcrit.analysis.curve.likelihood import EXACT, Matrix, Profile, likelihood, minimise, weight
from bcrit.analysis.curve.notes import Boxes, better_tuned, boxes_that_bind, notes
from bcrit.analysis.curve.other_curves import Model, PNorm, fit_p_norm, fit_u_shape, models
from bcrit.analysis.curve.table import RowSetAside, Study, lower_ends, name_of, studies
from bcrit.analysis.numbers import Estimate, Floats, readable, t_quantile
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
    degrees_of_freedom: int  # reached studies - 2, of a U - 3: of the intervals but b_crit's (`interval.freedom`)
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
    # The batch size with the fewest examples, where they rise again below it (`other_curves.UShape.holds`); the curve
    # is then a U with s_min, the fewest examples e_min, and b_crit where, beyond b_opt, they are twice that. Else None;
    # an interval alone where examples still fall at the largest batch size, or where boxes that bind decide.
    b_opt: float | None
    b_opt_low: float | None  # ends of its interval; None = open
    b_opt_high: float | None
    # This curve beside other candidates, by information criterion (`other_curves.models`).
    models: tuple[Model, ...]
    studies: tuple[FittedStudy, ...]  # one a batch size, with residuals
    rows_set_aside: tuple[RowSetAside, ...]  # rows that did not enter, and why
    boxes: Boxes | None = None  # None where no search box is known to bind
    # b_crit if the largest batch sizes took 10 % fewer steps (`tuning.better_tuned`); None unless b_crit is identified.
    b_crit_if_better_tuned: float | None = None
    trough: Trough | None = None  # the U with its region of confidence; None without

    @property
    def curve(self) -> Hyperbola:
        """The hyperbola with its closed forms, or the U."""
        return Hyperbola(self.s_min, self.e_min, 0.0 if self.trough is None else self.trough.curve.b_opt)

    @property
    def t(self) -> float:
        """Two-sided quantile of Student's t at `level`; inf without degrees of freedom."""
        return t_quantile(self.degrees_of_freedom, self.level)

    def interval(self, name: str) -> tuple[float, float]:
        """The interval of `s_min`, `e_min` or `b_crit`; an open end is 0 or inf.

        That of s_min and e_min is symmetric in the logarithm, +- t times the standard error, and open on both sides
        where the number is at its limit or the interval is wider than `WIDEST`, or where boxes that bind decide.
        """
        if name == "b_crit":
            return self.b_crit_low, self.b_crit_high
        half, value = self._half_width(name), getattr(self, name)
        if value == 0 or 2 * half > math.log(WIDEST) or (self.boxes is not None and self.boxes.decide):
            return 0.0, math.inf
        return value * math.exp(-half), value * math.exp(half)

    def _half_width(self, name: str) -> float:
        """Of the interval of log `s_min` or log `e_min`."""
        place = ("s_min", "e_min").index(name)
        return math.inf if self.covariance is None else self.t * math.sqrt(self.covariance[place][place])

    def variance(self, batch_sizes: npt.ArrayLike) -> Floats:
        """Of log S on the curve, j' C j with j = d log S / d (log s_min, log e_min); only with degrees of freedom."""
        j = self.curve.jacobian(batch_sizes)
        return np.asarray(np.maximum(np.einsum("...i,ij,...j->...", j, np.array(self.covariance), j), 0.0))

    def predict(self, batch_sizes: npt.ArrayLike) -> pd.DataFrame:
        """The curve with its pointwise t-interval: log S +- t sqrt(j' C j), j = d log S / d (log s_min, log e_min).

        The interval is that of the tuned curve (median steps to target), not of one run.
        """
        batch = np.atleast_1d(np.asarray(batch_sizes, dtype=float))
        steps = self.curve.steps(batch)
        half = np.full(batch.shape, math.nan) if self.covariance is None else self.t * np.sqrt(self.variance(batch))
        low, high = steps * np.exp(-half), steps * np.exp(half)
        return pd.DataFrame({"batch_size": batch, "steps": steps, "steps_low": low, "steps_high": high})

    @property
    def reached(self) -> tuple[float, ...]:
        """Batch sizes that reached the target, rising."""
        return tuple(study.batch_size for study in self.studies if study.steps is not None)

    @property
    def knee(self) -> Knee | Trough:
        """Where the curve bends, with its interval; no estimate where b_crit is not identified."""
        if self.trough is not None and (self.boxes is None or not self.boxes.decide):
            return replace(self.trough, known=self.identified["b_crit"])
        known = self.b_crit if self.identified["b_crit"] else None
        return Knee(place(known, self.b_crit_low, self.b_crit_high))

    @property
    def free_knee(self) -> Knee | None:
        """Where the p-norm bends; None where it was not fitted, is not closest, or b_crit is not identified."""
        known = self.p_norm is not None and self.trough is None and self.identified["b_crit"]
        return self.p_norm.knee(self.level) if known and self.p_norm is not None else None

    def definitions(self, linear_from: float = 0.0, efficiency: float = 0.8) -> tuple[Definition, ...]:
        """The batch sizes that other authors call critical; see `landmarks.definitions`."""
        return definitions(self.knee, self.free_knee, self.unit, linear_from, efficiency)

    def regimes(self) -> Regimes:
        """Perfect scaling, diminishing returns and plateau; from the p-norm where the hyperbola lacks fit."""
        if self.b_crit in (0, math.inf) and self.sigma is not None and self.sigma < EXACT:
            # On a limit of the curve to rounding all that reached the target lies on the same side.
            return regimes(Knee(place(None, self.b_crit, self.b_crit)), self.reached)
        if self.trough is not None and isinstance(self.knee, Knee):  # boxes decide, and with them where a U begins
            return regimes(Knee(Estimate(None)), self.reached)
        free = self.free_knee
        bent = self.lack_of_fit and free is not None and free.covariance is not None
        return regimes(free if bent and free is not None else self.knee, (study.batch_size for study in self.studies))

    def next_batch_size(self, step_seconds: new_study.StepSeconds | None = None) -> tuple[new_study.NextBatchSize, ...]:
        """What to measure next, by kind of cost; see `new_study.next_batch_size`."""
        return new_study.next_batch_size(self, step_seconds)

    def next_sentence(self, step_seconds: new_study.StepSeconds | None = None) -> str | None:
        """The same for people; where boxes that bind decide, to widen them. None without a suggestion."""
        if self.boxes is not None and self.boxes.decide:
            sizes = ", ".join(map(readable, self.boxes.batch_sizes))
            return f"Widen the search box ({', '.join(self.boxes.edges)}) at batch size {sizes} and search there again."
        return new_study.next_sentence(self.next_batch_size(step_seconds), self.unit)

    def predict_studies(self, batch_sizes: Sequence[float]) -> tuple[new_study.Prediction, ...]:
        """What new studies would measure; see `new_study.predictions`."""
        return new_study.predictions(self, batch_sizes)

    def to_json(
        self,
        linear_from: float = 0.0,
        efficiency: float = 0.8,
        predict: Sequence[float] = (),
        step_seconds: new_study.StepSeconds | None = None,
    ) -> dict[str, Any]:
        """The object of `bcrit fit --json`: finite numbers or null; an open end, or a number at its limit, is null."""
        found: dict[str, Any] = plain(replace(self, trough=None))
        del found["trough"]
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
                "too_small_below": None if where.b_opt is None else _place(where.b_opt),
                "perfect_scaling_ends": _place(where.perfect_scaling_ends),
                "plateau_begins": _place(where.plateau_begins),
                "studies": [{"batch_size": size, "regime": regime.value} for size, regime in where.studies],
            },
            "next_batch_size": {suggestion.per: plain(suggestion) for suggestion in suggestions},
            "next_batch_size_sentence": self.next_sentence(step_seconds),
            "predictions": plain(self.predict_studies(predict)),
        }


def _place(found: Estimate) -> Any:
    return plain({"batch_size": found.value, "low": found.low, "high": found.high})


def fit_hyperbola(
    table: pd.DataFrame, level: float = 0.95, unit: str = "examples", at_edge: Mapping[float, str] | None = None
) -> HyperbolaFit:
    """Fit S(B) = s_min + e_min / B by least squares of log S, one residual a batch size.

    Assumes independent errors of log S with one standard deviation at all batch sizes, which includes what is left of
    tuning regret; repeats enter as their median, because their own spread does not show that regret (intervals from
    pure error covered 13 to 74 %, search-cost study, section 3). Unreached studies enter through a right-censored
    likelihood where at least three are reached; setting them to their cap would bias b_crit by a factor, dropping them
    by 1 to 2 %.

    The table has the columns `batch_size`, `steps` and perhaps `max_steps`, as `read_table` and `steps_to_target` give
    it. `at_edge` are batch sizes whose best setting lies at an edge of its search box, with that edge ("lr high"):
    fewer steps may be possible there, so where they did not reach they bound nothing, and where they decide b_crit it
    is not identified. Two reached studies determine a curve without interval: nothing is then called identified. Fewer,
    or a level that is not in (0, 1), are an InputError.

    Example:
        >>> table = pd.DataFrame({"batch_size": [16, 64, 256, 1024], "steps": [362.5, 128.1, 69.5, 54.9]})
        >>> fit = fit_hyperbola(table)
        >>> round(fit.s_min), round(fit.b_crit), fit.identified["b_crit"]
        (50, 100, True)
    """
    if not 0 < level < 1:
        raise InputError("level", [f"a level of confidence lies between 0 and 1, but it is {level:g}; use 0.95, say"])
    used, aside = studies(table, at_edge)
    reached = np.array([study.steps is not None for study in used], dtype=bool)
    m = int(reached.sum())
    if m < 2:
        count = "only one did" if m else "none did"
        rule = f"a curve needs at least 2 batch sizes that reached the target, but {count}"
        left_out = [f"row {row.row} was set aside: {row.reason}" for row in aside]
        remedy = "measure more (6 give a useful interval), or train longer"
        raise InputError(name_of(table), [f"{rule}; {remedy}", *left_out])

    x = np.log([study.batch_size for study in used])
    y = np.log([study.steps or study.max_steps or math.nan for study in used])
    profile = likelihood(x, y, reached, lower_ends(used))
    u = minimise(profile)
    coarse = profile.lower is not None
    # What is expected between two evaluations follows the curve, and says nothing of a bend or a U.
    least, p_norm, u_shape = rounding(used), fit_p_norm(x, y, reached), None if coarse else fit_u_shape(profile)
    others = models(profile, u, p_norm, u_shape)
    curve, knee, trough, b_opt = profile.curve(u), None, None, Estimate(None)
    sigma: float | None
    covariance: Matrix | None
    if u_shape is not None and u_shape.holds(float(profile.deviance(u)), p_norm, least):
        curve, profile, u, sigma = u_shape.curve, u_shape.profile, u_shape.u, max(u_shape.sigma, least)
        covariance = _covariance(profile, u, sigma)
        trough = u_shape.trough(level, least)
        b_opt, b_crit = trough.at(bottom), trough.b_crit
        low = -math.inf if b_crit.low is None else math.log(b_crit.low)
        high = math.inf if b_crit.high is None else math.log(b_crit.high)
    else:
        sigma = max(float(profile.solve(u)[1]) * math.sqrt(m / (m - 2)), least) if m > 2 else None
        covariance = _covariance(profile, u, sigma) if sigma is not None else None
        off = y - np.log(curve.steps(np.exp(x)))
        knee = None if coarse else bend(x[reached], off[reached], u)
        low, high = interval(profile, u, level, knee, grid_spread(used, covariance, sigma))
        # Points on a limit of the curve to rounding say nothing of batch sizes beyond those that were measured.
        low = low if low < math.inf else float(x[reached].max())
        high = high if high > -math.inf else float(x[reached].min())
    residuals = y - np.log(curve.steps(np.exp(x)))
    if coarse:  # what is to be expected between two evaluations, as far as the curve says
        residuals[reached] = profile.expected(u)[profile.reached]
        y = np.log(curve.steps(np.exp(x))) + residuals
    rms = float(np.sqrt((residuals[reached] ** 2).mean()))

    found = HyperbolaFit(
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
        degrees_of_freedom=m - 2 - (trough is not None),
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
        b_opt=b_opt.value,
        b_opt_low=b_opt.low,
        b_opt_high=b_opt.high,
        models=others,
        studies=tuple(
            FittedStudy(**vars(study), fitted_steps=float(steps), log_residual=float(left) if seen else None)
            for study, steps, left, seen in zip(used, curve.steps(np.exp(x)), residuals, reached, strict=True)
        ),
        rows_set_aside=aside,
        trough=trough,
    )
    found = _judged(found, *_boxes(found, table, at_edge or {}))
    if found.identified["b_crit"]:
        found = replace(found, b_crit_if_better_tuned=better_tuned(profile, found.b_crit))
    return replace(found, notes=notes(found))


def _boxes(
    fit: HyperbolaFit, table: pd.DataFrame, at_edge: Mapping[float, str]
) -> tuple[Mapping[float, str], HyperbolaFit | None]:
    """The studies of the table that lie at an edge of their box, and the fit to the others where there is one."""
    sizes = pd.to_numeric(table["batch_size"], errors="coerce")
    edges = {size: edge for size, edge in sorted(at_edge.items()) if (sizes == size).any()}
    try:
        return edges, fit_hyperbola(table[~sizes.isin(list(edges))], fit.level, fit.unit) if edges else None
    except InputError:
        return edges, None


def _covariance(profile: Profile, u: float, sigma: float) -> Matrix:
    """Covariance sigma^2 (J' W J)^-1 of the curve's log parameters in the linearised model, sigma taken as known.

    W is 1 for a reached study and for a bound the share of information that it carries. At a limit of the curve one
    column of J vanishes; the pseudo-inverse then leaves that parameter out.
    """
    jacobian = profile.curve(u).jacobian(np.exp(profile.log_batch))
    if not profile.reached.all():
        level, spread = profile.solve(u)
        z = (profile.log_steps - profile.offset(u) - level) / spread
        jacobian *= np.sqrt(np.where(profile.reached, 1.0, weight(z)))[:, None]
    inverse = np.linalg.pinv(jacobian)
    return tuple(tuple(row) for row in (sigma**2 * inverse @ inverse.T).tolist())


def _judged(fit: HyperbolaFit, at_edge: Mapping[float, str], inside: HyperbolaFit | None) -> HyperbolaFit:
    """The estimate with what follows from it: what is identified, and where S and E double.

    `at_edge` are studies at an edge of their search box, `inside` is the fit to the others. The interval then holds
    that of the others too; where the studies at an edge decide, it is that of the others alone.
    """
    half_widths = fit._half_width("s_min"), fit._half_width("e_min")
    reached = min(fit.reached), max(fit.reached)
    found = identify(fit.curve, (fit.b_crit_low, fit.b_crit_high), half_widths, reached)
    if fit.trough is not None and fit.b_opt is None:
        found = {**found, "e_min": False, "b_crit": False}
    if at_edge:
        boxes = boxes_that_bind(fit, found, at_edge, inside)
        low, high = boxes.b_crit.low or 0.0, math.inf if boxes.b_crit.high is None else boxes.b_crit.high
        if not boxes.decide:
            low, high = min(low, fit.b_crit_low), max(high, fit.b_crit_high)
        fit = replace(fit, b_crit_low=low, b_crit_high=high, boxes=boxes)
        if boxes.decide and fit.trough is not None:
            ends = (None, None) if inside is None else (inside.b_opt_low, inside.b_opt_high)
            fit = replace(fit, b_opt=None, b_opt_low=ends[0], b_opt_high=ends[1])
        wider = identify(fit.curve, (low, high), half_widths, reached)
        found = {name: known and wider[name] and not boxes.decide for name, known in found.items()}
    if found["b_crit"]:
        steps_double, examples_double = fit.curve.batch_size_for_steps(2 * fit.s_min), fit.b_crit
        if fit.lack_of_fit and fit.p_norm is not None:
            steps_double, examples_double = fit.p_norm.s_doubles_at, fit.p_norm.e_doubles_at
        fit = replace(fit, s_doubles_at=steps_double, e_doubles_at=examples_double)
    return replace(fit, identified=found)
