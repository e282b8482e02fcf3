"""Pooling is a ratio of averages with an interval that holds what it promises, or a reason why there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bcrit.analysis.noise_scale.pooled import PooledScale, over, pool


def test_it_is_the_ratio_of_averages_and_not_the_average_of_ratios() -> None:
    found = pool([10.0, 12.0, 4.0], [1.0, 1.0, 0.5], ["a", "b", "c"])
    assert found.value == pytest.approx(26 / 2.5)


def test_measurements_of_one_run_are_one_independent_number() -> None:
    once = pool([10.0, 12.0, 9.0], [1.0, 1.1, 0.8], ["a", "b", "c"])
    twice = pool([5.0, 5.0, 6.0, 6.0, 4.5, 4.5], [0.5, 0.5, 0.55, 0.55, 0.4, 0.4], list("aabbcc"))
    assert twice.value == pytest.approx(once.value)
    assert [twice.low, twice.high] == pytest.approx([once.low, once.high])
    assert twice.n_runs == 3


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        above, below = 50 + 10 * generator.standard_normal(5), 1 + 0.15 * generator.standard_normal(5)
        found = pool(above, below, np.arange(5))
        assert found.low is not None and found.high is not None
        inside += found.low <= 50 <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("above", "below", "why"),
    [
        ([], [], "it was not measured"),
        ([math.nan], [1.0], "it was not measured"),
        ([5.0, 5.0], [1.0, -2.0], "its mean denominator came out negative"),
        ([-5.0, 4.0], [1.0, 1.0], "its mean numerator came out negative"),
        ([5.0, 5.0, 5.0], [1.0, -0.9, 0.1], "over 3 runs its error is as large as itself"),
    ],
    ids=["nothing", "nan", "negative below", "negative above", "noise"],
)
def test_what_is_not_resolved_says_why(above: list[float], below: list[float], why: str) -> None:
    found = pool(above, below, np.arange(len(above)))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert why in found.reason


def test_one_run_has_a_value_and_no_interval() -> None:
    assert pool([10.0], [2.0], ["a"]) == PooledScale(5.0, None, None, 1, "one run has no interval")


def test_the_interval_over_b_crit_holds_both_errors() -> None:
    scale = PooledScale(100.0, 50.0, 200.0, 5, "")
    found = over(scale, 50.0, 25.0, 100.0)
    assert found is not None
    assert found[0] == 2.0 and found[2] == pytest.approx(2.0 * 2 ** math.sqrt(2)) == pytest.approx(4.0 / found[1])


def test_open_ends_stay_open() -> None:
    scale = PooledScale(100.0, 50.0, 200.0, 5, "")
    assert over(scale, 50.0, 0.0, math.inf) == (2.0, 0.0, math.inf)
    assert over(PooledScale(100.0, None, None, 1, "one run"), 50.0, 25.0, 100.0) == (2.0, 0.0, math.inf)
    assert over(PooledScale(None, None, None, 3, "noise"), 50.0, 25.0, 100.0) is None
