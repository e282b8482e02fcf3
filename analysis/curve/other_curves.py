"""Other curves through the same points: a knee of its own sharpness, and candidates by information criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.curve.landmarks import Knee, examples_are, steps_are
from bcrit.analysis.curve.likelihood import Floats, Matrix, Profile, hazard
from bcrit.analysis.numbers.estimate import Estimate, t_quantile

P_BOUNDS = (0.3, 10.0)
"""Range of p. Shallue's curves have p = 0.6 to 3.2 (reference section 7); at 10 the knee is a corner to within 7 %."""

_REACH = 1e3  # b_crit is sought up to this factor beyond the data; further out no knee is seen. Chosen, not studied.
_MINIMUM = 4  # studies for three parameters and one degree of freedom


@dataclass(frozen=True)
class PNorm:
    """S(B) = s_min (1 + (b_crit / B)^p)^(1/p); p = 1 is the hyperbola, p -> inf two straight lines.

    Source: our own study of the noisy quadratic model and of Shallue et al.'s curves (arXiv 1811.03600), whose p is
    0.6 to 3.2.
    """

    s_min: float  # steps that remain at an infinite batch size
    b_crit: float  # where the asymptotes cross, in examples
    p: float  # sharpness of the knee
    rms_log_residual: float  # root mean square of log(steps / curve) over the reached studies
    # Of (log b_crit, log p), s^2 (J'J)^-1 with s^2 = RSS / (m - 3), over the m reached studies; None where p stands
    # at one of its bounds.
    covariance: Matrix | None = None
    degrees_of_freedom: int = 0  # reached studies - 3

    @property
    def s_doubles_at(self) -> float:
        """The batch size where S = 2 s_min: (b_crit / B)^p = 2^p - 1."""
        return self.b_crit * math.exp(steps_are(2)(self.p))

    @property
    def e_doubles_at(self) -> float:
        """The batch size where E = 2 e_min: (B / b_crit)^p = 2^p - 1."""
        return self.b_crit * math.exp(examples_are(2)(self.p))

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """S(B), in steps; shape of `batch_size`."""
        ratio = np.log(self.b_crit) - np.log(np.asarray(batch_size, dtype=float))
        return np.asarray(self.s_min * np.exp(np.logaddexp(0, self.p * ratio) / self.p))

    def knee(self, level: float) -> Knee:
        """Its knee, with what its landmarks need at this level of confidence."""
        t = t_quantile(max(self.degrees_of_freedom, 1), level)
        return Knee(Estimate(self.b_crit), self.p, self.covariance, t)


def fit_p_norm(log_batch: Floats, log_steps: Floats, reached: npt.NDArray[np.bool_] | None = None) -> PNorm | None:
    """Maximise the likelihood of the p-norm: least squares of log S, with bounds for what was not reached.

    log s_min and sigma follow for given (log b_crit, log p) as in `Profile`, so these two are sought: a scan, then a
    bounded solver from the scan's best point. With p = 1.4 and the batch sizes below b_crit / 5 unreached (11 studies,
    10 % noise), the bounds take the error of log b_crit from -0.03 +- 0.14 to 0.00 +- 0.12; at 3 % they change little.
    The hyperbola's own b_crit is 8 to 13 % lower there than with all studies reached.
    """
    reached = np.ones(len(log_batch), dtype=bool) if reached is None else reached
    if reached.sum() < _MINIMUM:
        return None
    middle = float(log_batch[reached].mean())
    low = np.array([log_batch[reached].min() - math.log(_REACH) - middle, math.log(P_BOUNDS[0])])
    high = np.array([log_batch[reached].max() + math.log(_REACH) - middle, math.log(P_BOUNDS[1])])
    best = _least_squares(log_batch[reached] - middle, log_steps[reached], low, high)
    if not reached.all():
        best = _censored(log_batch - middle, log_steps, reached, best, low, high)
    if min(best[0] - low[0], high[0] - best[0]) < 0.5:  # the solver stops short of a bound
        return None
    u, p = float(best[0]) + middle, math.exp(best[1])
    profile = Profile(log_batch, log_steps, reached, p)
    s_min = profile.curve(u).s_min
    residuals = (log_steps - math.log(s_min) - np.logaddexp(0, p * (u - log_batch)) / p)[reached]
    return PNorm(
        s_min=s_min,
        b_crit=math.exp(u),
        p=p,
        rms_log_residual=float(np.sqrt((residuals**2).mean())),
        covariance=_covariance(log_batch[reached] - middle, best, residuals, (low[1], high[1])),
        degrees_of_freedom=int(reached.sum()) - 3,
    )


def _least_squares(x: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
    """The best (log b_crit, log p) where all are reached; log s_min is the mean of the rest."""

    def residuals(parameters: Floats) -> Floats:
        u, p = parameters[..., :1], np.exp(parameters[..., 1:])
        rest = y - np.logaddexp(0, p * (u - x)) / p
        return np.asarray(rest - rest.mean(-1, keepdims=True))

    def jacobian(parameters: Floats) -> Floats:
        columns = -_derivatives(x, parameters)
        return np.asarray(columns - columns.mean(0))

    u, log_p = np.meshgrid(np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 25))
    scan = np.stack([u.ravel(), log_p.ravel()], axis=-1)
    start = scan[int(np.argmin((residuals(scan) ** 2).sum(-1)))]
    inside = np.clip(start, low + 1e-6, high - 1e-6)  # the solver wants to start strictly within its bounds
    found = optimize.least_squares(
        residuals, inside, jac=jacobian, bounds=(low, high), xtol=1e-13, ftol=1e-13, gtol=1e-13
    )
    return np.asarray(found.x)


def _censored(x: Floats, y: Floats, reached: npt.NDArray[np.bool_], alone: Floats, low: Floats, high: Floats) -> Floats:
    """The best (log b_crit, log p) with bounds, from the better of the reached studies' own best and a coarse scan."""

    def deviance(parameters: Floats) -> tuple[float, Floats]:
        u, p = float(parameters[0]), math.exp(parameters[1])
        profile = Profile(x, y, reached, p)
        level, sigma = profile.solve(u)
        residual = y - profile.offset(u) - level
        # The other parameters are stationary, so only the curve's own derivatives count.
        residual = np.where(reached, residual, sigma * hazard(residual / sigma))
        return float(profile.deviance(u)), -2 / float(sigma) ** 2 * residual @ _derivatives(x, parameters)

    # Where the reached studies lie on their curve the likelihood is unbounded there: the bounds then add nothing.
    if float(Profile(x[reached], y[reached], reached[reached], math.exp(alone[1])).solve(float(alone[0]))[1]) < 1e-6:
        return alone
    grid = np.linspace(low[0], high[0], 60)
    starts = [alone]
    for log_p in np.linspace(low[1], high[1], 7):
        values = Profile(x, y, reached, math.exp(log_p)).deviance(grid)
        starts.append(np.array([grid[int(np.argmin(values))], log_p]))
    start = min(starts, key=lambda parameters: deviance(parameters)[0])
    found = optimize.minimize(deviance, start, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)))
    return np.asarray(found.x)


def _derivatives(x: Floats, parameters: Floats) -> Floats:
    """Derivatives of log S with respect to (log b_crit, log p); (n, 2)."""
    z, p = parameters[0] - x, math.exp(parameters[1])
    share = special.expit(p * z)
    return np.stack([share, z * share - np.logaddexp(0, p * z) / p], axis=-1)


def _covariance(x: Floats, best: Floats, residuals: Floats, bounds: tuple[float, float]) -> Matrix | None:
    """Of (log b_crit, log p); None where p stands at a bound, where its derivative says nothing."""
    if min(best[1] - bounds[0], bounds[1] - best[1]) < 1e-3:
        return None
    columns = _derivatives(x, best)
    inverse = np.linalg.pinv(columns - columns.mean(0))
    (uu, up), (_, pp) = float(residuals @ residuals) / (len(x) - 3) * inverse @ inverse.T
    return (float(uu), float(up)), (float(up), float(pp))


CLEARLY = 6.0
"""Difference of AICc from which another model is called clearly better: it is then exp(3) = 20 times as likely to be
the closer one (Burnham and Anderson 2002, section 2.6, who call 4 to 7 "considerably less support")."""


@dataclass(frozen=True)
class Model:
    """A candidate curve, fitted as the hyperbola is."""

    name: str  # `perfect_scaling`, `flat`, `hyperbola`, `p_norm` or `two_asymptotes`
    formula: str  # S as a function of B
    parameters: Mapping[str, float]  # by name
    n_parameters: int  # how many were fitted, with the scatter sigma
    rms_log_residual: float  # over the reached studies
    # -2 log likelihood + 2 k + 2 k (k + 1) / (m - k - 1) up to a constant, with k parameters and m reached studies
    # (Hurvich and Tsai 1989); None where m < k + 2, too few to correct for.
    aicc: float | None
    weight: float | None  # Akaike weight among the models that have an AICc: exp(-difference / 2), scaled to a sum of 1


def models(profile: Profile, best: float, p_norm: PNorm | None) -> tuple[Model, ...]:
    """Fit all candidates to the studies of the hyperbola's fit, unreached ones as bounds.

    They are shown beside the hyperbola and never used in its place: with fewer than a dozen points the criterion often
    cannot tell them apart, and a number that changes its meaning with the noise is no number.
    """
    corner = replace(profile, p=math.inf)
    u = _corner(corner)
    curve, lines = profile.curve(best), corner.curve(u)
    found = [
        _model("perfect_scaling", "a / B", {"a": profile.curve(math.inf).e_min}, profile, math.inf),
        _model("flat", "c", {"c": profile.curve(-math.inf).s_min}, profile, -math.inf),
        _model("hyperbola", "s_min + e_min / B", {"s_min": curve.s_min, "e_min": curve.e_min}, profile, best),
        _model("two_asymptotes", "max(s_min, e_min / B)", {"s_min": lines.s_min, "e_min": lines.e_min}, corner, u),
    ]
    if p_norm is not None:
        numbers = {"s_min": p_norm.s_min, "e_min": p_norm.s_min * p_norm.b_crit, "p": p_norm.p}
        bent = replace(profile, p=p_norm.p)
        formula = "(s_min^p + (e_min / B)^p)^(1/p)"
        found.append(_model("p_norm", formula, numbers, bent, math.log(p_norm.b_crit)))
    return _weighted(found)


def clearly_better(candidates: Sequence[Model]) -> tuple[Model, float] | None:
    """The best model and its difference of AICc to the hyperbola; None unless that is more than `CLEARLY`."""
    known = {model.name: model.aicc for model in candidates if model.aicc is not None}
    if "hyperbola" not in known:
        return None
    best = min((model for model in candidates if model.aicc is not None), key=lambda model: known[model.name])
    difference = known["hyperbola"] - known[best.name]
    return (best, difference) if difference > CLEARLY else None


def _corner(profile: Profile) -> float:
    """The best u of the two straight lines: a scan, then a bounded search, because the likelihood has kinks in u."""
    grid, deviance = profile.scan
    i = int(np.clip(np.argmin(deviance), 1, len(grid) - 2))
    found = optimize.minimize_scalar(
        lambda u: float(profile.deviance(u)),
        bounds=(grid[i - 1], grid[i + 1]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    candidates = [float(found.x), float(grid[i]), -math.inf, math.inf]
    return candidates[int(np.argmin(profile.deviance(candidates)))]


def _model(name: str, formula: str, parameters: Mapping[str, float], profile: Profile, u: float) -> Model:
    m, k = int(profile.reached.sum()), len(parameters) + 1
    residuals = (profile.log_steps - profile.offset(u) - profile.solve(u)[0])[profile.reached]
    aicc = float(profile.deviance(u)) + 2 * k + 2 * k * (k + 1) / (m - k - 1) if m > k + 1 else None
    return Model(name, formula, dict(parameters), k, float(np.sqrt((residuals**2).mean())), aicc, None)


def _weighted(candidates: Sequence[Model]) -> tuple[Model, ...]:
    least = min((model.aicc for model in candidates if model.aicc is not None), default=0.0)
    shares = [0.0 if model.aicc is None else math.exp((least - model.aicc) / 2) for model in candidates]
    return tuple(
        replace(model, weight=None if model.aicc is None else share / sum(shares))
        for model, share in zip(candidates, shares, strict=True)
    )
