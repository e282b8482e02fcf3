"""The closed forms of reference section 1.2, against numbers worked by hand and against their own definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.fit.hyperbola import Hyperbola

positive = st.floats(1e-6, 1e6)
GOLDEN = Hyperbola(s_min=1000, e_min=100_000)  # b_crit = 100


def test_at_b_crit_steps_and_examples_are_twice_their_minimum() -> None:
    assert GOLDEN.b_crit == 100
    assert GOLDEN.steps(100) == 2000
    assert GOLDEN.examples(100) == 200_000


def test_the_closed_forms_give_the_numbers_worked_by_hand() -> None:
    assert GOLDEN.batch_size_for_steps(1250) == 400  # 100 / (1.25 - 1)
    assert GOLDEN.batch_size_for_examples(125_000) == 25  # 100 (1.25 - 1)
    assert GOLDEN.efficiency(25) == pytest.approx(0.8)


def test_budgets_at_or_below_the_minimum_are_infeasible() -> None:
    assert GOLDEN.batch_size_for_steps(1000) is None
    assert GOLDEN.batch_size_for_examples(100_000) is None


def test_the_limits_of_the_curve_are_ordinary_curves() -> None:
    perfect, flat = Hyperbola(0, 100), Hyperbola(100, 0)
    assert perfect.b_crit == math.inf
    assert flat.b_crit == 0
    assert perfect.batch_size_for_steps(10) == 10
    assert perfect.batch_size_for_examples(100) == math.inf
    assert perfect.batch_size_for_examples(99) is None
    assert flat.batch_size_for_steps(100) == 0
    assert flat.batch_size_for_steps(99) is None


@given(positive, positive, st.floats(1e-3, 1e3))
def test_steps_and_examples_lie_on_the_time_compute_frontier(s_min: float, e_min: float, ratio: float) -> None:
    curve = Hyperbola(s_min, e_min)
    batch = ratio * curve.b_crit
    assert (curve.steps(batch) / s_min - 1) * (curve.examples(batch) / e_min - 1) == pytest.approx(1)
    assert curve.examples(batch) == pytest.approx(batch * curve.steps(batch))
    assert curve.efficiency(batch) == pytest.approx(1 / (1 + ratio))


@given(positive, positive, positive)
def test_a_budget_is_spent_exactly_at_its_batch_size(s_min: float, e_min: float, batch: float) -> None:
    curve = Hyperbola(s_min, e_min)
    by_steps = curve.batch_size_for_steps(float(curve.steps(batch)) * 1.5)
    by_examples = curve.batch_size_for_examples(float(curve.examples(batch)) * 1.5)
    assert by_steps is not None and by_examples is not None
    assert curve.steps(by_steps) == pytest.approx(curve.steps(batch) * 1.5)
    assert curve.examples(by_examples) == pytest.approx(curve.examples(batch) * 1.5)
