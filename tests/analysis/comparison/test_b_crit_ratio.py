"""The ratio of two critical batch sizes: Welch's where fits are linear, one-sided where only one end is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.comparison.b_crit_ratio import b_crit_ratio, p_value, squared
from bcrit.analysis.comparison.welch import tail, welch
from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from tests.analysis.comparison.made_up import fit, steps_table

A, B = fit(100, 64, 0.05, 1), fit(50, 200, 0.08, 2)


def variance(of: HyperbolaFit) -> float:
    """Of log b_crit, by what a bend leaves of the scatter, with its degrees of freedom."""
    assert of.covariance is not None
    spread = of.covariance[0][0] + of.covariance[1][1] - 2 * of.covariance[0][1]
    return spread * squared(of).share * of.degrees_of_freedom / squared(of).degrees


def with_grid(noise: float, resolution: float, seed: int = 0) -> HyperbolaFit:
    """Nine batch sizes whose steps are known to an evaluation every `resolution` steps."""
    return fit_hyperbola(steps_table(50, 100, noise, seed).assign(steps_resolution=resolution))


def unreached(p: float) -> HyperbolaFit:
    """Eleven sizes on a knee of this sharpness, of which the smallest did not reach, so that its bend is carried."""
    sizes = 100 * 2.0 ** np.linspace(-4, 3, 11)
    steps = PNorm(100, 100, p, 0).steps(sizes) * np.exp(np.random.default_rng(5).normal(0, 0.02, 11))
    table = {"batch_size": sizes, "steps": np.where(steps > 600, np.nan, steps), "max_steps": 600.0}
    return fit_hyperbola(pd.DataFrame(table))


@pytest.mark.parametrize(
    "one",
    [A, fit(100, 64, 0.05, 1, sizes=(8, 32, 128, 512)), unreached(1.4), unreached(0.7), with_grid(0.002, 5)],
    ids=["bend", "too few for a bend", "sharp and unreached", "soft and unreached", "grid"],
)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_level_sets_are_the_fits_own_interval(one: HyperbolaFit, level: float) -> None:
    table = pd.DataFrame([vars(study) for study in one.studies]).rename(columns={"resolution": "steps_resolution"})
    again = fit_hyperbola(table.astype(float), level)
    assert np.exp(squared(one).ends(level)) == pytest.approx([again.b_crit_low, again.b_crit_high])
    for end in (again.b_crit_low, again.b_crit_high):
        tails = [tail(math.sqrt(float(form(np.array(math.log(end))))), degrees) for form, degrees in squared(one).forms]
        assert max(tails) == pytest.approx(1 - level, rel=1e-4)


def test_against_computed_numbers_the_ratio_has_the_interval_of_the_other_fit() -> None:
    found, known = b_crit_ratio(A, fit(50, 128), 0.95), math.log(128)
    ends = math.log(A.b_crit_low) - known, math.log(A.b_crit_high) - known
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-5)


def test_the_ratio_is_no_better_known_than_evaluations_let_steps_be() -> None:
    a, b = with_grid(0.0, 2), fit_hyperbola(steps_table(50, 100.5).assign(steps_resolution=2))
    found = b_crit_ratio(b, a, 0.95)
    own = [math.log(one.b_crit_high / one.b_crit_low) / 2 for one in (a, b)]
    assert min(own) > 0.01
    assert found.high - found.value == pytest.approx(math.hypot(*own), rel=1e-3)
    assert found.value - found.low == pytest.approx(math.hypot(*own), rel=1e-3)
    assert found.p_value > 0.5


def test_a_lucky_fit_against_a_noisy_one_has_the_widths_of_both() -> None:
    lucky, noisy = with_grid(0.0, 5), with_grid(0.01, 1e-3)
    found = b_crit_ratio(lucky, noisy, 0.95)
    own = [math.log(one.b_crit_high / one.b_crit_low) for one in (lucky, noisy)]
    assert 0.9 < (found.high - found.low) / math.hypot(*own) < 1.02


def test_with_little_noise_it_is_welchs_interval() -> None:
    a, b = fit(100, 64, 0.005, 1), fit(50, 200, 0.008, 2)
    found = b_crit_ratio(a, b, 0.95)
    linear = welch(math.log(a.b_crit / b.b_crit), (variance(a), variance(b)), (6, 6), 0.95)
    assert found.value == pytest.approx(linear.value)
    assert (found.low, found.high) == pytest.approx((linear.low, linear.high), abs=2e-3)


def test_the_ends_are_where_the_test_rejects() -> None:
    found = b_crit_ratio(A, B, 0.9)
    for end in (found.low, found.high):
        assert p_value(squared(A), squared(B), end) == pytest.approx(0.1, abs=1e-4)
    assert p_value(squared(A), squared(B), found.value) == pytest.approx(1, abs=1e-3)


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
