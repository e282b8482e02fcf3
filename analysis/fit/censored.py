"""A normal sample some of whose values are only known to be larger than a bound."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
_ITERATIONS = 200  # of damped Newton; about 10 are used


def hazard(z: Floats) -> Floats:
    """phi(z) / Phi(-z) of the standard normal, without overflow or cancellation at either end."""
    return np.asarray(math.sqrt(2 / math.pi) / special.erfcx(z / math.sqrt(2)))


def weight(z: Floats) -> Floats:
    """-d2 log Phi(-z) / dz2 = hazard (hazard - z): a censored value's information, an observed one's being 1."""
    rate = hazard(z)
    return np.clip(rate * (rate - z), 0.0, 1.0)


def censored_normal(values: Floats, reached: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Maximise the likelihood of a right-censored normal sample over its mean and standard deviation.

    log L = sum_reached [-log sigma - r^2 / 2] + sum_others log Phi(-r),   r = (value - mean) / sigma.

    In gamma = 1 / sigma and delta = mean / sigma, r = gamma value - delta is linear and log L is concave (Olsen 1978,
    "Note on the uniqueness of the maximum likelihood estimator for the Tobit model"), so damped Newton steps from
    anywhere reach the one maximum; 1 / (1 + decrement) is the damping for which -log gamma is never left (Boyd and
    Vandenberghe, section 9.6). Many samples are solved at once because a profile is scanned on a grid.

    Args:
        values: observations, and bounds where not reached; (..., n).
        reached: which values were observed, at least two that differ; (n,).

    Returns:
        (mean, standard deviation), each (...).
    """
    # Scaled by all values, the first residuals are of order one; sigma may then shrink by a half a step.
    center, spread = values.mean(-1, keepdims=True), values.std(-1, keepdims=True)
    scaled = (values - center) / spread
    gamma, delta = np.ones(values.shape[:-1]), np.zeros(values.shape[:-1])
    for _ in range(_ITERATIONS):
        residual = gamma[..., None] * scaled - delta[..., None]
        # d log L / dr and -d2 log L / dr2, row by row.
        slope = -np.where(reached, residual, hazard(residual))
        curvature = np.where(reached, 1.0, weight(residual))
        gradient_gamma = (slope * scaled).sum(-1) + reached.sum() / gamma
        gradient_delta = -slope.sum(-1)
        gg = (curvature * scaled**2).sum(-1) + reached.sum() / gamma**2
        gd = -(curvature * scaled).sum(-1)
        dd = curvature.sum(-1)
        determinant = gg * dd - gd**2
        # Where sigma has shrunk to the rounding of the values, no digit of it is left, and no step is better than none.
        per_determinant = np.divide(1.0, determinant, out=np.zeros_like(determinant), where=determinant > 0)
        step_gamma = (dd * gradient_gamma - gd * gradient_delta) * per_determinant
        step_delta = (gg * gradient_delta - gd * gradient_gamma) * per_determinant
        decrement = np.sqrt(np.maximum(gradient_gamma * step_gamma + gradient_delta * step_delta, 0.0))
        damping = np.where(decrement > 0.25, 1 / (1 + decrement), 1.0)
        gamma, delta = gamma + damping * step_gamma, delta + damping * step_delta
        if np.all(decrement < 1e-12):
            break
    return (center[..., 0] + spread[..., 0] * delta / gamma), spread[..., 0] / gamma
