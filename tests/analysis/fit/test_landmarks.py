"""Every closed form against root finding on the curve, and every interval against what it is carried from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
from scipy import optimize

from bcrit.analysis.fit.landmarks import Knee, Landmark, Place, crossing, doubling_saves, examples_are, steps_are
from bcrit.analysis.fit.p_norm import PNorm, fit_p_norm

Condition = Callable[[PNorm, float], float]
CASES: list[tuple[Landmark, Condition]] = [
    (steps_are(2), lambda c, b: float(c.steps(b)) / c.s_min - 2),
    (steps_are(1.1), lambda c, b: float(c.steps(b)) / c.s_min - 1.1),
    (examples_are(2), lambda c, b: b * float(c.steps(b)) / (c.s_min * c.b_crit) - 2),
    (examples_are(1.2), lambda c, b: b * float(c.steps(b)) / (c.s_min * c.b_crit) - 1.2),
    (doubling_saves(0.1), lambda c, b: float(c.steps(2 * b) / c.steps(b)) - 0.9),
    (doubling_saves(0.25), lambda c, b: float(c.steps(2 * b) / c.steps(b)) - 0.75),
    (crossing, lambda c, b: c.s_min - c.s_min * c.b_crit / b),
]


@pytest.mark.parametrize("p", [0.4, 1.0, 1.4, 6.0])
@pytest.mark.parametrize(
    ("landmark", "condition"),
    CASES,
    ids=["S=2", "S=1.1", "E=2", "E=1.2", "saves-10", "saves-25", "crossing"],
)
def test_the_closed_form_is_where_root_finding_puts_it(landmark: Landmark, condition: Condition, p: float) -> None:
    curve = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    root = optimize.brentq(lambda u: condition(curve, math.exp(u)), -20, 30, xtol=1e-12)
    assert 123 * math.exp(landmark(p)) == pytest.approx(math.exp(root), rel=1e-6)


def test_on_the_hyperbola_they_are_the_multiples_that_people_know() -> None:
    assert math.exp(examples_are(1.2)(1)) == pytest.approx(1 / 5)
    assert math.exp(examples_are(1 / 0.8)(1)) == pytest.approx(1 / 4)
    assert math.exp(doubling_saves(0.1)(1)) == pytest.approx(4)
    assert math.exp(doubling_saves(0.25)(1)) == pytest.approx(1)


def test_a_multiple_of_b_crit_has_the_same_multiple_of_its_interval() -> None:
    assert astuple(Knee(Place(100, 80, 130)).at(doubling_saves(0.1))) == pytest.approx((400, 320, 520))
    bound = Knee(Place(None, 80, math.inf)).at(examples_are(1.2))
    assert (bound.batch_size, bound.high) == (None, math.inf)
    assert bound.low == pytest.approx(16)


def test_the_delta_method_agrees_with_the_scatter_of_refits() -> None:
    rng = np.random.default_rng(8)
    x = np.log(2.0 ** np.arange(2, 12))
    truth = np.log(PNorm(70, 123, 1.4, 0).steps(np.exp(x)))
    knees = [
        fitted.knee(0.95)
        for _ in range(200)
        if (fitted := fit_p_norm(x, truth + rng.normal(0, 0.03, x.size))) is not None
    ]
    for landmark in (steps_are(2), examples_are(2), crossing):
        true = 123 * math.exp(landmark(1.4))
        places = [knee.at(landmark) for knee in knees]
        assert 0.90 <= np.mean([place.low <= true <= place.high for place in places]) <= 0.99


def test_without_a_covariance_the_ends_are_open() -> None:
    assert Knee(Place(100, 0, math.inf), p=2.0).at(crossing) == Place(100, 0, math.inf)
