"""The running noise scale: a ratio of averages that forgets at the pace of the run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bcrit.tuner.training.batch_schedule import RunningNoise


def after(pairs: list[tuple[float, float]]) -> float | None:
    noise = RunningNoise()
    for pair in pairs:
        noise.take(*pair)
    return noise.value


def test_at_first_it_is_the_ratio_of_the_plain_means() -> None:
    assert after([(4.0, 1.0), (8.0, -0.5), (3.0, 2.5)]) == pytest.approx(15 / 3)


def test_it_is_not_known_before_anything_is_or_while_an_average_is_not_positive() -> None:
    assert after([]) is None and after([(4.0, -1.0)]) is None and after([(-4.0, 1.0)]) is None


def test_what_is_not_finite_is_set_aside() -> None:
    assert after([(4.0, 1.0), (math.inf, 1.0), (2.0, math.nan)]) == 4.0


@pytest.mark.parametrize("a", [0.0, 0.5, 1.0])
def test_behind_a_power_of_the_steps_it_is_by_a_fixed_factor(a: float) -> None:
    found = after([(t**a, 1.0) for t in np.arange(1.0, 4001.0)])
    assert found == pytest.approx(4 / (4 + a) * 4000**a, rel=0.01)


def test_it_forgets_the_start() -> None:
    assert after([(1e3, 1.0)] * 20 + [(1.0, 1.0)] * 2000) == pytest.approx(1.0, rel=0.01)
