import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bcrit.analysis.numbers import straight_line
from bcrit.analysis.optimum.laws import LAWS, LawVerdict, fit_law, judge

LAW = {law.name: law for law in LAWS}
Floats = npt.NDArray[np.float64]
B: Floats = np.exp2(np.arange(2, 10, dtype=float))
WIDTH = np.full(8, 0.5)
TRUTH: dict[str, Floats] = {
    "none": 0.3 + 0 * B,
    "sqrt": 0.1 * B**0.5,
    "linear": 0.01 * B,
    "power": 0.03 * B**0.75,
    "saturating": 0.8 / (1 + 64 / B),
    "saturating_sqrt": 0.8 / (1 + 64 / B) ** 0.5,
    "saturating_free": 0.8 / (1 + 64 / B) ** 0.75,
    "surge": 2 * 0.8 / ((64 / B) ** 0.5 + (B / 64) ** 0.5),
}


@pytest.mark.parametrize("name", TRUTH)
def test_a_law_returns_what_was_put_in(name: str) -> None:
    fit = fit_law(LAW[name], np.log(B), np.log(TRUTH[name]), WIDTH)
    assert fit is not None
    assert np.exp(fit.log_value(B)) == pytest.approx(TRUTH[name], rel=1e-3)
    if LAW[name].has_knee:
        assert fit.parameters["B_n"].value == pytest.approx(64, rel=0.02)
        assert fit.parameters["y_max"].value == pytest.approx(0.8, rel=0.01)
    if name in ("power", "saturating_free"):
        assert fit.parameters["g"].value == pytest.approx(0.75, abs=0.01)


@given(seed=st.integers(0, 10**6), n=st.integers(4, 12))
def test_the_exponent_and_its_interval_are_those_of_weighted_least_squares(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    log_b: Floats = np.arange(n, dtype=float) * math.log(2.0)
    log_y, width = rng.normal(size=n), rng.uniform(0.2, 1.0, n)
    fit = fit_law(LAW["power"], log_b, log_y, width)
    assert fit is not None
    line = straight_line(log_b, log_y, width**-2.0).slope_within()
    g = fit.parameters["g"]
    assert (g.value, g.low, g.high) == pytest.approx((line.value, line.low, line.high), abs=1e-9)


@pytest.mark.parametrize("name", ["saturating", "saturating_sqrt", "surge"])
def test_the_knee_and_its_interval_are_those_of_a_brute_force_search(name: str) -> None:
    rng = np.random.default_rng(0)
    log_y, width = np.log(TRUTH[name]) + 0.05 * rng.normal(size=8), rng.uniform(0.2, 1.0, 8)
    fit = fit_law(LAW[name], np.log(B), log_y, width)
    assert fit is not None
    knees: Floats = np.linspace(math.log(1), math.log(4096), 200_001)
    rest = log_y - LAW[name].exponents[0] * LAW[name].x(np.log(B), knees[:, None])
    squares = (rest**2 / width**2).sum(-1) - (rest / width**2).sum(-1) ** 2 / (width**-2.0).sum()
    allowed = squares.min() * (1 + float(stats.t.ppf(0.975, 6)) ** 2 / 6)
    inside = knees[squares <= allowed]
    found = fit.parameters["B_n"]
    expected = np.exp([knees[np.argmin(squares)], inside[0], inside[-1]])
    assert (found.value, found.low, found.high) == pytest.approx(tuple(expected), rel=1e-4)


def test_an_exact_constant_shows_no_change_whatever_the_rounding() -> None:
    for value in (0.1, 0.3, 2.0):
        assert verdict(np.full(8, value)).supported == ("none",)


def test_units_of_either_axis_change_nothing_but_the_units() -> None:
    rng = np.random.default_rng(0)
    log_y = np.log(TRUTH["saturating"]) + 0.2 * rng.normal(size=8)
    one = fit_law(LAW["saturating"], np.log(B), log_y, WIDTH)
    other = fit_law(LAW["saturating"], np.log(1000 * B), log_y + math.log(5), WIDTH)
    assert one is not None and other is not None
    for name, factor in (("B_n", 1000), ("y_max", 5)):
        ends = [(e.value, e.low, e.high) for e in (one.parameters[name], other.parameters[name])]
        assert ends[1] == pytest.approx([value and factor * value for value in ends[0]], rel=1e-6)


def test_a_knee_that_the_data_do_not_show_is_open() -> None:
    rng = np.random.default_rng(1)
    fit = fit_law(LAW["saturating"], np.log(B), np.log(TRUTH["linear"]) + 0.05 * rng.normal(size=8), WIDTH)
    assert fit is not None
    assert fit.parameters["B_n"].high is None and fit.parameters["y_max"].high is None


def test_with_no_freedom_there_is_a_law_but_no_interval_and_with_fewer_studies_no_law() -> None:
    fit = fit_law(LAW["power"], np.log(B[:2]), np.log(B[:2]), WIDTH[:2])
    assert fit is not None and fit.aicc is None and fit.freedom == 0
    assert fit.parameters["g"].value == pytest.approx(1) and fit.parameters["g"].low is None
    assert fit.predict(100).low is None
    assert fit_law(LAW["saturating_free"], np.log(B[:2]), np.log(B[:2]), WIDTH[:2]) is None


@pytest.mark.parametrize("name", ["power", "saturating"])
def test_intervals_cover_the_truth_and_predictions_a_new_study(name: str) -> None:
    rng, parameter = np.random.default_rng(2), "g" if name == "power" else "B_n"
    true = 0.75 if name == "power" else 64.0
    covered, predicted = [], []
    for _ in range(120):
        log_y = np.log(TRUTH[name]) + 0.2 * rng.normal(size=8)
        fit = fit_law(LAW[name], np.log(B), log_y, WIDTH)
        assert fit is not None
        found = fit.parameters[parameter]
        covered.append(found.holds(true))
        new = 0.03 * 100**0.75 if name == "power" else 0.8 / 1.64
        predicted.append(fit.predict(100.0).holds(new * math.exp(0.2 * rng.normal())))
    assert 0.89 <= np.mean(covered) <= 0.99  # 0.95 give or take two and a half standard errors
    assert 0.88 <= np.mean(predicted) <= 1


def verdict(values: Floats, half_width: float = 0.5, batch_sizes: Floats = B) -> LawVerdict:
    low, high = values * np.exp(-half_width), values * np.exp(half_width)
    return judge(LAWS, batch_sizes, values, low, high, [(half_width / 2, 3)] * len(values))


@pytest.mark.parametrize("name", [n for n in TRUTH if n != "saturating_free"])
def test_the_right_law_wins_or_ties(name: str) -> None:
    rng, supported = np.random.default_rng(3), 0
    for _ in range(20):
        supported += name in verdict(TRUTH[name] * np.exp(0.1 * rng.normal(size=8))).supported
    assert supported >= 16


def test_a_zigzag_is_no_law() -> None:
    found = verdict(np.exp(1.2 * (-1.0) ** np.arange(8)))
    assert (found.kind, found.supported) == ("none", ())
    assert all(fitted.rejected for fitted in found.laws)


def test_wide_sets_let_every_law_pass_and_scatter_lets_none_be_chosen() -> None:
    rng = np.random.default_rng(4)
    found = verdict(np.exp(0.8 * rng.normal(size=6)), half_width=5.0, batch_sizes=B[:6])
    assert not any(fitted.rejected for fitted in found.laws)
    assert found.kind == "several" and "none" in found.supported


def test_three_studies_are_too_few() -> None:
    found = verdict(TRUTH["linear"][:3], batch_sizes=B[:3])
    assert (found.kind, found.supported) == ("too few", ())


def test_a_law_misses_the_studies_whose_set_does_not_hold_it() -> None:
    values = TRUTH["none"].copy()
    values[3] *= 3
    found = verdict(values)
    assert found.misses(found.law("none")) == (32.0,)


def test_a_free_exponent_is_not_named_beside_the_fixed_one_that_fits_as_well() -> None:
    found = verdict(TRUTH["linear"] * np.exp(0.02 * np.random.default_rng(5).normal(size=8)))
    assert (found.kind, found.supported) == ("one", ("linear",))
