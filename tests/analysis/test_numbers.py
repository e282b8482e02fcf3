"""A number with its interval; two compared, as SciPy does; Holm's correction by its definition; the line."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bcrit.analysis.numbers import (
    Estimate,
    Floats,
    Scale,
    duration,
    enumeration,
    freedom,
    holm,
    readable,
    straight_line,
    t_quantile,
    tail,
    welch,
)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (4, 2.77645), (30, 2.04227)])
def test_student_t_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, rel=1e-5)
    assert t_quantile(0) == math.inf


@given(st.lists(st.floats(0.1, 100), min_size=3, max_size=9, unique=True))
def test_the_jackknife_of_a_mean_is_the_t_interval_of_a_mean(values: list[float]) -> None:
    x = np.array(values)
    without = [float(np.delete(x, out).mean()) for out in range(len(x))]
    found = Estimate.jackknife(float(x.mean()), without)
    low, high = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
    assert found.low == pytest.approx(low, abs=1e-7) and found.high == pytest.approx(high, abs=1e-7)
    assert found.n == len(x)


@pytest.mark.parametrize("scale", Scale)
def test_an_interval_is_symmetric_on_its_scale(scale: Scale) -> None:
    found = Estimate.t(0.2, 0.1, 5, scale=scale)
    assert found.low is not None and found.high is not None
    assert scale.to(0.2) - scale.to(found.low) == pytest.approx(scale.to(found.high) - scale.to(0.2))


def test_intervals_of_t_cover() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(3, 1, (4000, 5))
    errors = draws.std(axis=1, ddof=1) / math.sqrt(5)
    inside = [Estimate.t(mean, error, 4).holds(3) for mean, error in zip(draws.mean(axis=1), errors, strict=True)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Estimate(89.5, 70.2, 114), "89.5 (70.2 to 114)"),
        (Estimate(89.5, None, 114), "89.5 (below 114)"),
        (Estimate(89.5, 70.2), "89.5 (above 70.2)"),
        (Estimate(89.5), "89.5 (no interval)"),
        (Estimate(None, 70.2), "above 70.2"),
        (Estimate.at_limits(89.5, 0, math.inf), "89.5 (no interval)"),
        (Estimate.t(89.5, 1.0, 0), "89.5 (no interval)"),
        (Estimate(0.5, 0.25, 1).times(100), "50 (25 to 100)"),
    ],
)
def test_it_says_what_is_known_and_what_is_open(number: Estimate, text: str) -> None:
    assert str(number) == text


def test_the_keys_of_json_are_flat() -> None:
    assert Estimate(2.0, 1.0).flat("b_crit") == {"b_crit": 2.0, "b_crit_low": 1.0, "b_crit_high": None}


def test_an_interval_too_wide_for_a_number_stays_a_number() -> None:
    found = Estimate.t(3.0, 1e4, 5, scale=Scale.LOG)
    assert found.low is not None and found.high is not None
    assert 0 <= found.low < 3 < found.high and math.isfinite(found.high)


P = st.floats(0, 1)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 9), (30, 4)])
def test_two_samples_are_compared_as_scipy_compares_them(n: int, m: int) -> None:
    random = np.random.default_rng(n)
    a, b = random.normal(1.0, 1.0, n), random.normal(0.0, 3.0, m)
    variances = float(a.var(ddof=1) / n), float(b.var(ddof=1) / m)
    found, p_value = welch(float(a.mean() - b.mean()), variances, (n - 1, m - 1))
    golden = stats.ttest_ind(a, b, equal_var=False)
    assert p_value == pytest.approx(golden.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(golden.confidence_interval(0.95)))


@given(share=st.floats(0, 1), f=st.tuples(st.floats(1, 50), st.floats(1, 50)))
def test_degrees_of_freedom_lie_between_the_smaller_and_the_sum(share: float, f: tuple[float, float]) -> None:
    assert min(f) - 1e-9 <= freedom(share, f) <= sum(f) + 1e-9


def test_the_interval_excludes_1_exactly_where_the_test_rejects() -> None:
    for value in np.linspace(-1, 1, 41):
        found, p_value = welch(float(value), (0.03, 0.01), (3, 6))
        assert (p_value < 0.05) == (not found.holds(0))


def test_exact_numbers_differ_or_do_not() -> None:
    assert welch(0.0, (0.0, 0.0), (3, 3))[1] == 1
    found, p_value = welch(0.1, (0.0, 0.0), (3, 3))
    assert (found.low, found.high, p_value) == (0.1, 0.1, 0)


def test_the_tail_has_both_sides() -> None:
    assert tail(2.776445, 4) == pytest.approx(0.05, rel=1e-5)  # t(0.975; 4), any table
    assert tail(-2.776445, 4) == tail(2.776445, 4)
    assert tail(math.inf, 4) == 0


def naive_holm(values: list[float]) -> list[float]:
    """From the definition: the k-th smallest is rejected at a if all up to it keep p (m - k + 1) < a."""
    ordered = sorted(values)
    adjusted = {}
    for k, value in enumerate(ordered):
        adjusted[k] = max(min(1.0, (len(values) - j) * ordered[j]) for j in range(k + 1))
        assert value == ordered[k]
    return [adjusted[ordered.index(value)] for value in values]


@given(st.lists(P, min_size=1, max_size=12, unique=True))
def test_holm_agrees_with_its_definition(values: list[float]) -> None:
    assert holm(values) == pytest.approx(naive_holm(values))


@given(st.lists(P, min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis(values: list[float]) -> None:
    for p, adjusted in zip(values, holm(values), strict=True):
        assert p <= adjusted <= min(1.0, len(values) * p)


def test_nothing_is_adjusted_to_nothing() -> None:
    assert holm([]) == []


# --- the line through points ---

X = np.arange(200.0)


def test_the_line_is_that_of_least_squares() -> None:
    y = 3 - 0.5 * X + np.random.default_rng(0).standard_normal(200)
    fit, other = straight_line(X, y), stats.linregress(X, y)
    assert (fit.slope, fit.intercept) == pytest.approx((other.slope, other.intercept), rel=1e-9)
    assert fit.slope_error() == pytest.approx(other.stderr, rel=1e-9)
    np.testing.assert_allclose(fit.residuals, y - other.intercept - other.slope * X, atol=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_correlated_points_count_as_fewer(rho: float) -> None:
    counts = []
    for seed in range(50):
        noise = np.random.default_rng(seed).standard_normal(200)
        for i in range(1, 200):
            noise[i] = rho * noise[i - 1] + math.sqrt(1 - rho**2) * noise[i]
        counts.append(straight_line(X, noise).independent)
    assert np.median(counts) == pytest.approx(
        200 * (1 - rho) / (1 + rho), rel=0.25
    )  # the estimate of rho is biased low


def test_points_that_alternate_count_as_they_are() -> None:
    assert straight_line(X, (-1.0) ** X).independent == 200


def test_exact_points_still_have_the_rounding_that_they_are_given() -> None:
    fit = straight_line(X, 2 + X, rounding=1e-5)
    assert fit.slope == pytest.approx(1) and fit.squares == pytest.approx(2e-8)


@given(seed=st.integers(0, 10**6), n=st.integers(3, 12))
def test_with_weights_it_is_the_textbooks(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x: Floats = np.arange(n, dtype=float) * math.log(2.0)
    y, weight = rng.normal(size=n), rng.uniform(1, 25, n)
    design = np.column_stack([np.ones(n), x])
    inverse = np.linalg.inv(design.T @ (weight[:, None] * design))
    beta = inverse @ design.T @ (weight * y)
    scale = float((weight * (y - design @ beta) ** 2).sum()) / (n - 2)
    found = straight_line(x, y, weight)
    assert (found.intercept, found.slope) == pytest.approx(tuple(beta), abs=1e-9)
    assert found.slope_error() == pytest.approx(math.sqrt(scale * inverse[1, 1]))
    assert found.slope_error(least=1.0) == pytest.approx(math.sqrt(max(scale, 1.0) * inverse[1, 1]))
    half = float(stats.t.ppf(0.975, n - 2)) * found.slope_error()
    within = found.slope_within(0.95)
    assert (within.low, within.high) == pytest.approx((found.slope - half, found.slope + half))


def test_two_points_have_no_interval() -> None:
    found = straight_line(np.array([1.0, 2.0]), np.array([3.0, 5.0])).slope_within()
    assert (found.value, found.low, found.high) == (2.0, None, None)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0.01234, "0.0123"), (46.23, "46.2"), (4500.4, "4,500"), (2e20, "2e+20"), (0, "0"), (0.5, "0.5")),
        *((0.9999, "0.9999"), (0.99995, "0.99995"), (1 - 1e-15, "1"), (0.995, "0.995")),  # none below 1 is shown as 1
    ],
)
def test_numbers_have_three_digits_or_all_before_the_point(number: float, text: str) -> None:
    assert readable(number) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (36, "36 h"),
        (0.07, "4.2 min"),
        (0.0001, "0.36 s"),
        (0.017 / 3600, "0.017 s"),
        (0.0081 / 3600, "8.1 ms"),
        (4.7e-5 / 3600, "47 µs"),
        (0.0, "0 s"),
    ],
)
def test_durations_come_in_the_unit_a_person_would_use(hours: float, text: str) -> None:
    assert duration(hours) == text


def test_durations_side_by_side_have_one_unit_unless_they_are_far_apart() -> None:
    both = [0.00801 / 3600, 0.0207 / 3600]
    assert [duration(each, beside=both) for each in both] == ["8.01 ms", "20.7 ms"]
    assert duration(both[1], up=True, beside=both) == "20.7 ms"
    far = [0.008 / 3600, 36.0]
    assert [duration(each, beside=far) for each in far] == ["8 ms", "36 h"]


@pytest.mark.parametrize(("parts", "text"), [("a", "a"), ("ab", "a and b"), ("abc", "a, b and c")])
def test_the_last_of_several_parts_is_joined_by_and(parts: str, text: str) -> None:
    assert enumeration(list(parts)) == text
