"""Other curves through the same points: a knee of its own sharpness, the U, and candidates by information criterion."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.interval import FALSE_ALARM_RATE, NEGLIGIBLE
from bcrit.analysis.curve.landmarks import Knee, Trough, examples_are, steps_are
from bcrit.analysis.curve.likelihood import EXACT, Matrix, PowerSum, Profile, Valley, hazard
from bcrit.analysis.numbers import Estimate, Floats, t_quantile

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
    profile = Profile(log_batch - middle, log_steps, reached)
    best = _best(profile, lambda log_p: PowerSum(math.exp(log_p)), low, high)
    if min(best[0] - low[0], high[0] - best[0]) < 0.5:  # the solver stops short of a bound
        return None
    u, p = float(best[0]) + middle, math.exp(best[1])
    knee = PowerSum(p)
    profile = Profile(log_batch, log_steps, reached, knee)
    s_min = profile.curve(u).s_min
    residuals = (log_steps - math.log(s_min) - knee.above(log_batch, u))[reached]
    return PNorm(
        s_min=s_min,
        b_crit=math.exp(u),
        p=p,
        rms_log_residual=float(np.sqrt((residuals**2).mean())),
        covariance=_covariance(log_batch[reached] - middle, best, residuals, (low[1], high[1])),
        degrees_of_freedom=int(reached.sum()) - 3,
    )


Family = Callable[[float], PowerSum | Valley]
"""Curves with a knee at u, and a second parameter."""


def _best(profile: Profile, family: Family, low: Floats, high: Floats) -> Floats:
    """The best (u, second parameter) between two bounds."""
    x, y, reached = profile.log_batch, profile.log_steps, profile.reached
    alone = _least_squares(x[reached], y[reached], family, low, high)
    return alone if reached.all() else _censored(profile, family, alone, low, high)


def _least_squares(x: Floats, y: Floats, family: Family, low: Floats, high: Floats) -> Floats:
    """The best parameters where all are reached; log s_min is the mean of the rest."""

    def residuals(parameters: Floats) -> Floats:
        rest = y - family(parameters[1]).above(x, parameters[0])
        return np.asarray(rest - rest.mean(-1, keepdims=True))

    def jacobian(parameters: Floats) -> Floats:
        columns = -_derivatives(x, family, parameters)
        return np.asarray(columns - columns.mean(0))

    u, second = np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 25)
    scan = [(residuals(np.array([u, of], dtype=object)) ** 2).sum(-1) for of in second]
    row, column = np.unravel_index(int(np.argmin(scan)), (25, 120))
    start = np.array([u[column], second[row]])
    inside = np.clip(start, low + 1e-6, high - 1e-6)  # the solver wants to start strictly within its bounds
    found = optimize.least_squares(
        residuals, inside, jac=jacobian, bounds=(low, high), xtol=1e-13, ftol=1e-13, gtol=1e-13
    )
    return np.asarray(found.x)


def _censored(profile: Profile, family: Family, alone: Floats, low: Floats, high: Floats) -> Floats:
    """The best parameters with bounds, from the better of the reached studies' own best and a coarse scan."""
    x, y, reached = profile.log_batch, profile.log_steps, profile.reached

    def deviance(parameters: Floats) -> tuple[float, Floats]:
        u, own = float(parameters[0]), replace(profile, shape=family(parameters[1]))
        level, sigma = solved = own.solve(u)
        residual = y - own.offset(u) - level
        # The other parameters are stationary, so only the curve's own derivatives count.
        residual = np.where(reached, residual, sigma * hazard(residual / sigma))
        slope = -2 / float(sigma) ** 2 * residual @ _derivatives(x, family, parameters)
        return float(own.deviance(u, solved)), slope

    # Where the reached studies lie on their curve the likelihood is unbounded there: the bounds then add nothing.
    if float(Profile(x[reached], y[reached], reached[reached], family(alone[1])).solve(float(alone[0]))[1]) < 1e-6:
        return alone
    grid = np.linspace(low[0], high[0], 60)
    starts = [alone]
    for second in np.linspace(low[1], high[1], 7):
        values = replace(profile, shape=family(second)).deviance(grid)
        starts.append(np.array([grid[int(np.argmin(values))], second]))
    start = min(starts, key=lambda parameters: deviance(parameters)[0])
    found = optimize.minimize(deviance, start, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)))
    return np.asarray(found.x)


def _derivatives(x: Floats, family: Family, parameters: Floats) -> Floats:
    """Derivatives of log S with respect to u and the second parameter; (n, 2)."""
    shape, u = family(parameters[1]), float(parameters[0])
    return np.stack([shape.slope(x, u), shape.bending(x, u)], axis=-1)


def _covariance(x: Floats, best: Floats, residuals: Floats, bounds: tuple[float, float]) -> Matrix | None:
    """Of (log b_crit, log p); None where p stands at a bound, where its derivative says nothing."""
    if min(best[1] - bounds[0], bounds[1] - best[1]) < 1e-3:
        return None
    columns = _derivatives(x, lambda log_p: PowerSum(math.exp(log_p)), best)
    inverse = np.linalg.pinv(columns - columns.mean(0))
    (uu, up), (_, pp) = float(residuals @ residuals) / (len(x) - 3) * inverse @ inverse.T
    return (float(uu), float(up)), (float(up), float(pp))


U_FORMULA = "s_min + e / B + q / B^2"


@dataclass(frozen=True)
class UShape:
    """S(B) = s_min + e / B + q / B^2: examples E = e (1 + B / b_hi + b_lo / B) rise again below b_opt.

    Source: our fits of fourteen public curves of language models, which the hyperbola misses by 0.07 to 0.29 (rms of
    log S) and this by 0.015 to 0.047. (2601.05034 finds the same with schedules that stay constant and then decay.)
    """

    profile: Profile  # the likelihood at the best b_opt
    u: float  # log(e / s_min)

    @property
    def curve(self) -> Hyperbola:
        """The same by s_min, the fewest examples and b_opt."""
        return self.profile.curve(self.u)

    @property
    def coefficients(self) -> dict[str, float]:
        """The numbers of `U_FORMULA`."""
        curve = self.curve
        return {
            "s_min": curve.s_min,
            "e": curve.e_min - 2 * curve.s_min * curve.b_opt,
            "q": curve.s_min * curve.b_opt**2,
        }

    @property
    def sigma(self) -> float:
        """Standard deviation of log S about the curve: that of maximum likelihood times sqrt(m / (m - 3))."""
        m = int(self.profile.reached.sum())
        return float(self.profile.solve(self.u)[1]) * math.sqrt(m / (m - 3))

    def holds(self, hyperbola: float, p_norm: PNorm | None, least: float) -> bool:
        """Whether it is used in place of the hyperbola, whose deviance is given; `least` is the least scatter.

        1 / B^2 is an added variable: t^2 = (m - 3) (RSS without / RSS with - 1), one-sided at `FALSE_ALARM_RATE`. A
        sharp knee passes this test too, so a U must also lie closer than the p-norm, which has as many parameters (a
        lower AICc); and what it is about must be seen: examples at the smallest batch size that reached above the
        fewest among these by more than their scatter (t at 95 %). Share of simulated curves that pass (100 a
        cell, of the hyperbola 200), 6 and 9 batch sizes from b_crit / 16 to 8 b_crit:

            truth        3 % noise    10 % noise
            hyperbola    .00  .00     .00  .00
            p = 1.4      .01  .01     .01  .03
            p = 2        .00  .01     .03  .05
            p = 0.6      .00  .00     .00  .00
            1 / B        .02  .06     .02  .06

        Of U's with b_hi / b_lo = 16, on 6 or 10 batch sizes from b_hi / 64 to 8 b_hi with 3 or 8 % noise, all pass;
        with 64, where examples rise by 61 % at the smallest, all but 7 % of those with 6 sizes and 8 %. Their intervals
        of b_opt and b_crit covered 91 to 98 % (150 a cell).
        """
        m, own = int(self.profile.reached.sum()), float(self.profile.deviance(self.u))
        t = math.sqrt((m - 3) * math.expm1(min(max(hyperbola - own, 0.0) / m, 500.0)))
        if t <= t_quantile(m - 3, 1 - 2 * FALSE_ALARM_RATE):
            return False
        if p_norm is not None:
            other = replace(self.profile, shape=PowerSum(p_norm.p))
            if float(other.deviance(math.log(p_norm.b_crit))) <= own:
                return False
        curve, sizes = self.curve, np.exp(self.profile.log_batch[self.profile.reached])
        fewest = min(max(curve.b_opt, sizes.min()), sizes.max())
        risen = math.log(float(curve.efficiency(fewest) / curve.efficiency(sizes.min())))
        scatter = t_quantile(m - 3) * max(self.sigma, least)
        return risen > max(scatter, NEGLIGIBLE)

    def trough(self, level: float, least: float) -> Trough:
        """The same with what its landmarks need at this level of confidence."""
        (low, _), (high, _) = (np.exp(ends).tolist() for ends in _bounds(self.profile))
        largest = float(np.exp(self.profile.log_batch[self.profile.reached].max()))
        # What stands at a bound of the search is not known.
        return Trough(self.curve, self.region(level, least), (1.01 * low, high / 1.01), largest)

    def region(self, level: float, least: float) -> tuple[Hyperbola, ...]:
        """Curves all around the region { deviance <= best + m log(1 + t^2 / (m - 3)) }, with s_min = 1.

        What is read from a curve has there its profile interval, the one rule of the hyperbola's (`interval`), t being
        Student's quantile with m - 3 degrees of freedom. A scatter below `least`, that of the evaluation grid, counts
        as that.
        """
        profile, m = self.profile, int(self.profile.reached.sum())
        sigma, best = max(float(profile.solve(self.u)[1]), EXACT), np.array([self.u, math.log(self.curve.b_opt)])
        share = max(1 / (m - 3), least**2 / (m * sigma**2))
        threshold = float(profile.deviance(self.u)) + m * math.log1p(t_quantile(m - 3, level) ** 2 * share)
        columns = _derivatives(profile.log_batch[profile.reached], Valley, best)
        _, lengths, axes = np.linalg.svd(columns - columns.mean(0), full_matrices=False)
        turn = np.linspace(0, 2 * math.pi, _RAYS, endpoint=False)
        rays = np.stack([np.cos(turn), np.sin(turn)]) / np.maximum(lengths, 1e-6 * lengths[0])[:, None]
        # To where the sum of squares doubles, were the curve linear.
        rays = math.sqrt(m) * max(sigma, least) * axes.T @ rays
        low, high = (ends[:, None] for ends in _bounds(profile))

        def at(radius: Floats) -> Floats:
            return np.asarray(np.clip(best[:, None] + radius * rays, low, high))

        def inside(radius: Floats) -> npt.NDArray[np.bool_]:
            u, v = at(radius)
            return np.asarray(replace(profile, shape=Valley(v)).deviance(u) <= threshold)

        radii = np.geomspace(1e-3, 1e4, 120)
        left = np.array([inside(np.full(_RAYS, radius)) for radius in radii]).cumprod(0).sum(0)
        near, far = radii[np.maximum(left - 1, 0)], radii[np.minimum(left, len(radii) - 1)]
        for _ in range(40):
            middle = (near + far) / 2
            kept = inside(middle)
            near, far = np.where(kept, middle, near), np.where(kept, far, middle)
        return tuple(Hyperbola(1.0, math.exp(u) + 2 * math.exp(v), math.exp(v)) for u, v in at(near).T)


_RAYS = 128  # from the estimate to the border: an end of an interval is then good to 1e-3 of its half width


def _bounds(profile: Profile) -> tuple[Floats, Floats]:
    """Where (u, second parameter) of a U are sought: `_REACH` beyond the batch sizes that reached."""
    x = profile.log_batch[profile.reached]
    return np.full(2, x.min() - math.log(_REACH)), np.full(2, x.max() + math.log(_REACH))


def fit_u_shape(profile: Profile) -> UShape | None:
    """Maximise the likelihood of the U over the studies of the hyperbola's fit; None with fewer than four reached."""
    if profile.reached.sum() < _MINIMUM:
        return None
    u, v = _best(profile, Valley, *_bounds(profile))
    return UShape(replace(profile, shape=Valley(float(v))), float(u))


CLEARLY = 6.0
"""Difference of AICc from which another model is called clearly better: it is then exp(3) = 20 times as likely to be
the closer one (Burnham and Anderson 2002, section 2.6, who call 4 to 7 "considerably less support")."""


@dataclass(frozen=True)
class Model:
    """A candidate curve, fitted as the hyperbola is."""

    name: str  # `perfect_scaling`, `flat`, `hyperbola`, `p_norm`, `u_shape` or `two_asymptotes`
    formula: str  # S as a function of B
    parameters: Mapping[str, float]  # by name
    n_parameters: int  # how many were fitted, with the scatter sigma
    rms_log_residual: float  # over the reached studies
    # -2 log likelihood + 2 k + 2 k (k + 1) / (m - k - 1) up to a constant, with k parameters and m reached studies
    # (Hurvich and Tsai 1989); None where m < k + 2, too few to correct for.
    aicc: float | None
    weight: float | None  # Akaike weight among the models that have an AICc: exp(-difference / 2), scaled to a sum of 1


def models(profile: Profile, best: float, p_norm: PNorm | None, u_shape: UShape | None) -> tuple[Model, ...]:
    """Fit all candidates to the studies of the hyperbola's fit, unreached ones as bounds.

    They are shown beside the hyperbola and, but for a U that `holds`, never used in its place: with fewer than a dozen
    points the criterion often cannot tell them apart, and a number that changes its meaning with the noise is no
    number.
    """
    corner = replace(profile, shape=PowerSum(math.inf))
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
        bent = replace(profile, shape=PowerSum(p_norm.p))
        formula = "(s_min^p + (e_min / B)^p)^(1/p)"
        found.append(_model("p_norm", formula, numbers, bent, math.log(p_norm.b_crit)))
    if u_shape is not None:
        found.append(_model("u_shape", U_FORMULA, u_shape.coefficients, u_shape.profile, u_shape.u))
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
