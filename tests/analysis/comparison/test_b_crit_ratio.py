"""The ratio of two critical batch sizes: Welch's where fits are linear, one-sided where only one end is known."""

from __future__ import annotations

import math

import pytest

from analysis.comparison.b_crit_ratio import Squared, b_crit_ratio, p_value
from analysis.comparison.welch import welch
from analysis.fit.result import HyperbolaFit
from tests.analysis.comparison.made_up import fit

A, B = fit(100, 64, 0.05, 1), fit(50, 200, 0.08, 2)


def variance(of: HyperbolaFit) -> float:
    assert of.covariance is not None
    return of.covariance[0][0] + of.covariance[1][1] - 2 * of.covariance[0][1]


def test_with_little_noise_it_is_welchs_interval() -> None:
    a, b = fit(100, 64, 0.005, 1), fit(50, 200, 0.008, 2)
    found = b_crit_ratio(a, b, 0.95)
    linear = welch(math.log(a.b_crit / b.b_crit), (variance(a), variance(b)), (7, 7), 0.95)
    assert found.value == pytest.approx(linear.value)
    assert (found.low, found.high) == pytest.approx((linear.low, linear.high), abs=2e-3)


def test_the_ends_are_where_the_test_rejects() -> None:
    found = b_crit_ratio(A, B, 0.9)
    for end in (found.low, found.high):
        assert p_value(Squared.of(A), Squared.of(B), end) == pytest.approx(0.1, abs=1e-4)
    assert p_value(Squared.of(A), Squared.of(B), found.value) == pytest.approx(1, abs=1e-3)


def test_run_and_baseline_may_change_places() -> None:
    there, back = b_crit_ratio(A, B, 0.95), b_crit_ratio(B, A, 0.95)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-4)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-3)


def test_a_fit_against_itself_is_one() -> None:
    found = b_crit_ratio(A, A, 0.95)
    assert found.value == 0 and found.low < 0 < found.high and found.p_value == pytest.approx(1)


def test_without_a_knee_in_sight_the_ratio_has_a_lower_end_only() -> None:
    scaling = fit(1, 1e6, 0.03, 3)
    assert not scaling.identified["b_crit"]
    found = b_crit_ratio(scaling, A, 0.95)
    assert found.high == math.inf and math.log(10) < found.low < math.inf and found.p_value < 1e-4
    other_way = b_crit_ratio(A, scaling, 0.95)
    assert other_way.low == -math.inf and other_way.high == pytest.approx(-found.low, abs=1e-4)


def test_computed_numbers_have_a_ratio_without_width() -> None:
    found = b_crit_ratio(fit(100, 64), fit(50, 128), 0.95)
    assert math.exp(found.value) == pytest.approx(0.5)
    assert (found.low, found.high, found.p_value) == (found.value, found.value, 0)
