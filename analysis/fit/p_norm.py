"""The p-norm: a curve with the hyperbola's two asymptotes and a knee of its own sharpness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]

P_BOUNDS = (0.3, 10.0)
"""Range of p. Shallue's curves have p = 0.6 to 3.2 (reference section 7); at 10 the knee is a corner to within 7 %."""

_REACH = 1e3  # b_crit is sought up to this factor beyond the data; further out no knee is seen. Chosen, not studied.
_MINIMUM = 4  # studies for three parameters and one degree of freedom


@dataclass(frozen=True)
class PNorm:
    """S(B) = s_min (1 + (b_crit / B)^p)^(1/p); p = 1 is the hyperbola, p -> inf two straight lines.

    Source: our own study of the noisy quadratic model and of Shallue et al.'s curves (reference section 7).

    Attributes:
        s_min: steps that remain at an infinite batch size.
        b_crit: where the asymptotes cross, in examples.
        p: sharpness of the knee.
        rms_log_residual: root mean square of log(steps / curve) over the reached studies.
    """

    s_min: float
    b_crit: float
    p: float
    rms_log_residual: float

    @property
    def s_doubles_at(self) -> float:
        """The batch size where S = 2 s_min: (b_crit / B)^p = 2^p - 1."""
        return self.b_crit / self._spread

    @property
    def e_doubles_at(self) -> float:
        """The batch size where E = 2 e_min: (B / b_crit)^p = 2^p - 1."""
        return self.b_crit * self._spread

    @property
    def _spread(self) -> float:
        return float(math.expm1(self.p * math.log(2)) ** (1 / self.p))

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """S(B), in steps; shape of `batch_size`."""
        ratio = np.log(self.b_crit) - np.log(np.asarray(batch_size, dtype=float))
        return np.asarray(self.s_min * np.exp(np.logaddexp(0, self.p * ratio) / self.p))


def fit_p_norm(log_batch: Floats, log_steps: Floats) -> PNorm | None:
    """Least squares of log S on the p-norm, one residual a reached study.

    log s_min is the mean of the rest, so (log b_crit, log p) is sought: a scan, then a bounded least-squares solver
    from
    the scan's best point. Unreached studies are left out: they would move b_crit by 1 to 2 % (search-cost study, 3.4).

    Args:
        log_batch: log batch size; (n,).
        log_steps: log steps to target; (n,).

    Returns:
        The fit; None with fewer than four studies, or where the best knee lies far outside of them.
    """
    if len(log_batch) < _MINIMUM:
        return None
    middle = float(log_batch.mean())
    low = np.array([log_batch.min() - math.log(_REACH) - middle, math.log(P_BOUNDS[0])])
    high = np.array([log_batch.max() + math.log(_REACH) - middle, math.log(P_BOUNDS[1])])

    def residuals(parameters: Floats) -> Floats:
        u, p = parameters[..., :1] + middle, np.exp(parameters[..., 1:])
        rest = log_steps - np.logaddexp(0, p * (u - log_batch)) / p
        return np.asarray(rest - rest.mean(-1, keepdims=True))

    def jacobian(parameters: Floats) -> Floats:
        z, p = parameters[0] + middle - log_batch, math.exp(parameters[1])
        share = special.expit(p * z)  # d log S / d log b_crit
        columns = np.stack([-share, -(z * share - np.logaddexp(0, p * z) / p)], axis=-1)
        return np.asarray(columns - columns.mean(0))

    u, log_p = np.meshgrid(np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 25))
    scan = np.stack([u.ravel(), log_p.ravel()], axis=-1)
    start = scan[int(np.argmin((residuals(scan) ** 2).sum(-1)))]
    inside = np.clip(start, low + 1e-6, high - 1e-6)  # the solver wants to start strictly within its bounds
    best = optimize.least_squares(
        residuals, inside, jac=jacobian, bounds=(low, high), xtol=1e-13, ftol=1e-13, gtol=1e-13
    ).x
    if min(best[0] - low[0], high[0] - best[0]) < 0.5:  # the solver stops short of a bound
        return None
    p, u_best = math.exp(best[1]), float(best[0]) + middle
    level = float((log_steps - np.logaddexp(0, p * (u_best - log_batch)) / p).mean())
    rms = float(np.sqrt((residuals(best) ** 2).mean()))
    return PNorm(s_min=math.exp(level), b_crit=math.exp(u_best), p=p, rms_log_residual=rms)
