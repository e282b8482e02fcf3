from __future__ import annotations

import pytest

from bcrit.tuner.training.noise_scale.per_example import optimal_lr, temperature


def test_at_the_noise_scale_the_best_learning_rate_is_half_the_largest() -> None:
    assert optimal_lr(64, lr_max=0.2, b_noise=64) == pytest.approx(0.1)
    assert optimal_lr(64, lr_max=0.2, b_noise=0.0) == 0.2


def test_the_best_learning_rate_has_temperature_one() -> None:
    assert temperature(optimal_lr(10, 0.5, 90.0), 10, 0.5, 90.0) == pytest.approx(1.0)


def test_far_below_the_noise_scale_it_goes_with_lr_over_batch_size() -> None:
    one = temperature(0.1, 1, 0.5, 1e6)
    assert temperature(0.4, 4, 0.5, 1e6) == pytest.approx(one, rel=1e-5)
    assert temperature(0.1, 1, 0.5, 1e6, momentum=0.9) == pytest.approx(10 * one)


def test_what_is_not_resolved_has_no_temperature() -> None:
    with pytest.raises(ValueError, match="lr_max > 0 and b_noise >= 0 must hold"):
        temperature(0.1, 8, -1.0, 3.0)


def test_a_momentum_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum=1.0"):
        temperature(0.1, 8, 1.0, 3.0, momentum=1.0)
