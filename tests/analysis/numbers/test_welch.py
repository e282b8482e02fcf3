"""Welch's test agrees with SciPy's, and Holm's correction with its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bcrit.analysis.numbers.welch import freedom, holm, tail, welch

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
