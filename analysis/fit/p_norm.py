"""The p-norm: a curve with the hyperbola's two asymptotes and a knee of its own sharpness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from bcrit.analysis.fit.censored import hazard
from bcrit.analysis.fit.landmarks import Knee, Place, examples_are, steps_are
from bcrit.analysis.fit.profile import Profile

Floats = npt.NDArray[np.float64]
Matrix = tuple[tuple[float, float], tuple[float, float]]

P_BOUNDS = (0.3, 10.0)
"""Range of p. Shallue's curves have p = 0.6 to 3.2 (reference section 7); at 10 the knee is a corner to within 7 %."""

_REACH = 1e3  # b_crit is sought up to this factor beyond the data; further out no knee is seen. Chosen, not studied.
_MINIMUM = 4  # studies for three parameters and one degree of freedom


@dataclass(frozen=True)
class PNorm:
    """S(B) = s_min (1 + (b_crit / B)^p)^(1/p); p = 1 is the hyperbola, p -> inf two straight lines.

    Source: our own study of the noisy quadratic model and of Shallue et al.'s curves (arXiv 1811.03600), whose p is
    0.6 to 3.2.

    Attributes:
        s_min: steps that remain at an infinite batch size.
        b_crit: where the asymptotes cross, in examples.
        p: sharpness of the knee.
        rms_log_residual: root mean square of log(steps / curve) over the reached studies.
        covariance: of (log b_crit, log p), s^2 (J'J)^-1 with s^2 = RSS / (m - 3), over the m reached studies; None
            where p stands at one of its bounds.
        degrees_of_freedom: reached studies - 3.
    """

    s_min: float
    b_crit: float
    p: float
    rms_log_residual: float
    covariance: Matrix | None = None
    degrees_of_freedom: int = 0

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
        """Its knee, for `bcrit.analysis.fit.landmarks`.

        Args:
            level: confidence of the intervals, in (0, 1).
        """
        t = float(special.stdtrit(max(self.degrees_of_freedom, 1), (1 + level) / 2))
        return Knee(Place(self.b_crit, 0.0, math.inf), self.p, self.covariance, t)


def fit_p_norm(log_batch: Floats, log_steps: Floats, reached: npt.NDArray[np.bool_] | None = None) -> PNorm | None:
    """Maximise the likelihood of the p-norm: least squares of log S, with bounds for what was not reached.

    log s_min and sigma follow for given (log b_crit, log p) as in `Profile`, so these two are sought: a scan, then a
    bounded solver from the scan's best point. With p = 1.4 and the batch sizes below b_crit / 5 unreached (11 studies,
    10 % noise), the bounds take the error of log b_crit from -0.03 +- 0.14 to 0.00 +- 0.12; at 3 % they change little.
    The hyperbola's own b_crit is 8 to 13 % lower there than with all studies reached.

    Args:
        log_batch: log batch size; (n,).
        log_steps: log steps to target, or of the bound; (n,).
        reached: which; None = all. (n,).

    Returns:
        The fit; None with fewer than four reached studies, or where the best knee lies far outside of them.
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
