"""The noisy quadratic's exact scales against the workload's own updates."""

from __future__ import annotations

import numpy as np
import pytest

from bcrit.tuner.training.noise_scale.ratio import of_quadratic
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from bcrit.tuner.workloads.second_moments import MOMENTS


def test_isotropic_curvature_makes_both_scales_one() -> None:
    found = of_quadratic([2.0, 2.0, 2.0], [0.5, 1.0, 3.0], [1.0, 0.1, 0.2])
    assert found.b_noise == pytest.approx(found.b_simple)
    assert found.lr_max == pytest.approx(0.5)


@pytest.mark.parametrize("batch_size", [1.0, 8.0, 300.0])
def test_one_step_of_the_workload_gains_most_at_the_best_learning_rate_that_the_scale_gives(batch_size: float) -> None:
    workload = NoisyQuadratic(dimensions=30, noise_exponent=0.4, start=2.0)
    h, m = workload.spectrum, workload.start
    exact = of_quadratic(h, workload.noise, m)
    best = exact.lr_max / (1 + exact.b_noise / batch_size)

    def risk(lr: float) -> float:
        matrix, noise = MOMENTS["sgd"](lr, 0.0, h, workload.noise / batch_size)
        return 0.5 * float(h @ (matrix[0, 0] * m + noise[0]))

    gain = exact.g_sq**2 / (2 * exact.g_h_g) / (1 + exact.b_noise / batch_size)
    assert 0.5 * float(h @ m) - risk(best) == pytest.approx(gain, rel=1e-9)
    assert risk(best) < min(risk(0.99 * best), risk(1.01 * best))
    assert np.isclose(exact.b_simple, workload.noise.sum() / np.sum(h**2 * m))
