from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.fit.p_norm import PNorm, fit_p_norm

B = 2.0 ** np.arange(2, 12)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.4, 3.0])
def test_the_curve_that_was_put_in_comes_back(p: float) -> None:
    truth = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    found = fit_p_norm(np.log(B), np.log(truth.steps(B)))
    assert found is not None
    assert (found.s_min, found.b_crit, found.p) == pytest.approx((70, 123, p), rel=1e-6)
    assert found.rms_log_residual < 1e-8


@pytest.mark.parametrize("p", [0.5, 1.0, 1.4, 3.0])
def test_steps_and_examples_double_where_they_say(p: float) -> None:
    curve = PNorm(s_min=70, b_crit=123, p=p, rms_log_residual=0)
    assert curve.steps(curve.s_doubles_at) == pytest.approx(2 * 70)
    assert curve.e_doubles_at * curve.steps(curve.e_doubles_at) == pytest.approx(2 * 70 * 123)


def test_at_the_crossing_of_its_asymptotes_it_is_two_to_the_one_over_p() -> None:
    assert PNorm(1, 10, 2, 0).steps(10) == pytest.approx(math.sqrt(2))  # reference section 7


def test_three_studies_or_a_knee_out_of_sight_give_none() -> None:
    assert fit_p_norm(np.log(B[:3]), np.log(10 / B[:3])) is None
    assert fit_p_norm(np.log(B), np.log(10 / B)) is None
