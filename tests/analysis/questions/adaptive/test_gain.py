"""gamma against its closed form, the identities of the frontier, and what the noise scale along a run predicts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.questions.adaptive.result import (
    first_noise,
    gain,
    gain_along,
    noise_factor,
    progress,
    ratio_of_gamma,
    thinned,
)
from tests.analysis.questions.adaptive.made_up import E_MIN, GAMMA, S_MIN, SCHEDULES, run

FIXED = run(SCHEDULES[3], 0)

EXPONENTS = [-0.5, 0.0, 0.5, 1.0, 2.0]


def gamma_of_power(a: float) -> float:
    """Of N ~ s^a from s = 0, eq. D.7: 24/25 for a = 1/2."""
    return (1 + a) / (1 + a / 2) ** 2


@pytest.mark.parametrize("a", EXPONENTS)
@pytest.mark.parametrize("n", [2, 7, 200])
def test_a_power_law_is_integrated_without_error_however_few_the_points(a: float, n: int) -> None:
    s = np.geomspace(3.0, 700.0, n)
    assert gain(s, 10.0 * s**a).gamma == pytest.approx(gamma_of_power(a), rel=1e-12)


@pytest.mark.parametrize("over", [0.1, 1.0, 30.0])
def test_the_ratio_of_a_gamma_stands_on_its_frontier(over: float) -> None:
    rho = ratio_of_gamma(0.7, over)
    assert (rho * (1 + 1 / over) - 1) * (rho * (1 + over) - 1) == pytest.approx(0.7)


def test_many_points_agree_with_a_naive_sum_for_a_noise_scale_that_is_no_power() -> None:
    s = np.linspace(0.0, 4.0, 2001)
    middle = (s[1:] + s[:-1]) / 2
    of_middle = 3.0 + np.sin(middle) + middle**2
    e_min, root = (float((of_middle**k).sum()) * 4.0 / 2000 for k in (1.0, 0.5))
    known = s[1:]
    noise = 3.0 + np.sin(known) + known**2
    assert gain(known, noise).gamma == pytest.approx(root**2 / (4.0 * e_min), rel=1e-5)


@given(noise=st.lists(st.floats(0.01, 1e4), min_size=3, max_size=12))
def test_gamma_is_at_most_one(noise: list[float]) -> None:
    assert 0 < gain(np.arange(1, len(noise) + 1), noise).gamma <= 1 + 1e-12


@given(factor=st.floats(0.01, 100))
def test_gamma_does_not_know_the_unit_of_the_noise_scale(factor: float) -> None:
    s, noise = np.array([1.0, 2.0, 5.0]), np.array([1.0, 7.0, 3.0])
    assert gain(s, factor * noise).gamma == pytest.approx(gain(s, noise).gamma)


def test_updates_with_noise_make_less_progress() -> None:
    assert progress([0, 10, 20], [1e-12] * 3, [8] * 3) == pytest.approx([0, 10, 20])
    assert progress([4, 8], [8.0, 8.0], [8, 8]) == pytest.approx([2, 4])  # half a step each, from the first on


def test_thinning_keeps_both_ends() -> None:
    assert thinned(5, 10) == [0, 1, 2, 3, 4]
    assert (thinned(1000, 4)[0], thinned(1000, 4)[-1], len(thinned(1000, 4))) == (0, 999, 4)


def test_the_factor_makes_the_mean_noise_scale_b_crit() -> None:
    factor = noise_factor([FIXED], 1e3 * E_MIN / S_MIN)
    assert factor == pytest.approx(2.0, rel=0.01)
    found = gain_along(FIXED, factor or 1.0)
    assert found is not None and found.b_crit == pytest.approx(1e3 * 64, rel=1e-4)


@pytest.mark.parametrize("factor", [0.5, 2.0, 8.0])
def test_gamma_hardly_knows_the_factor(factor: float) -> None:
    found = gain_along(FIXED, factor)
    assert found is not None and found.gamma == pytest.approx(GAMMA, abs=0.03)


def test_points_at_which_nothing_is_known_are_left_out() -> None:
    holes = tuple(None if place % 2 else n for place, n in enumerate(FIXED.noise_scales))
    found = gain_along(replace(FIXED, noise_scales=holes), 2.0)
    assert found is not None and found.gamma == pytest.approx(GAMMA, rel=0.01)


def test_a_run_without_a_noise_scale_predicts_nothing() -> None:
    blind = replace(FIXED, noise_scales=(None,) * len(FIXED.at_steps))
    assert gain_along(blind) is None and noise_factor([blind], 64.0) is None and first_noise([blind]) is None


def test_the_first_noise_scale_is_the_mean_of_the_first_known() -> None:
    late = replace(FIXED, noise_scales=(None, 400.0, *FIXED.noise_scales[2:]))
    early = replace(FIXED, noise_scales=(100.0, *FIXED.noise_scales[1:]))
    assert first_noise([late, early]) == pytest.approx(200.0)
