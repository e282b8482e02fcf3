"""Noise scales that are known exactly: those of a quadratic loss with noise that does not depend on the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ExactScale:
    """What the estimators should find.

    Attributes:
        g_sq: |G|^2.
        tr_sigma: tr(Sigma).
        g_h_g: G'HG.
        tr_h_sigma: tr(H Sigma).
    """

    g_sq: float
    tr_sigma: float
    g_h_g: float
    tr_h_sigma: float

    @property
    def b_simple(self) -> float:
        """tr(Sigma) / |G|^2 (McCandlish et al. 2018, eq. 2.9)."""
        return self.tr_sigma / self.g_sq

    @property
    def b_noise(self) -> float:
        """tr(H Sigma) / (G'HG) (McCandlish et al. 2018, eq. 2.8)."""
        return self.tr_h_sigma / self.g_h_g

    @property
    def lr_max(self) -> float:
        """The best learning rate of one step without noise, |G|^2 / (G'HG) (McCandlish et al. 2018, eq. 2.5)."""
        return self.g_sq / self.g_h_g


def of_quadratic(
    spectrum: Sequence[float] | NDArray[np.float64],
    noise: Sequence[float] | NDArray[np.float64],
    second_moments: Sequence[float] | NDArray[np.float64],
) -> ExactScale:
    """The scales of 1/2 sum_i h_i x_i^2, where an example's gradient is h_i x_i + xi_i with variances c_i.

    G_i = h_i x_i, H = diag(h) and Sigma = diag(c), so that |G|^2 = sum h_i^2 x_i^2 and G'HG = sum h_i^3 x_i^2.

    Example:
        >>> of_quadratic([1.0, 0.5], [1.0, 0.5], [1.0, 1.0]).b_simple  # 1.5 / 1.25
        1.2

    Args:
        spectrum: h_i, shape (dimensions,), as `NoisyQuadratic.spectrum`.
        noise: c_i of one example, shape (dimensions,), as `NoisyQuadratic.noise`.
        second_moments: x_i^2 at one point, or E x_i^2 along runs: then |G|^2 and G'HG are expectations.
    """
    h, c, m = (np.asarray(values, dtype=np.float64) for values in (spectrum, noise, second_moments))
    return ExactScale(
        g_sq=float(np.sum(h**2 * m)),
        tr_sigma=float(np.sum(c)),
        g_h_g=float(np.sum(h**3 * m)),
        tr_h_sigma=float(np.sum(h * c)),
    )
