"""What the noise scale along a run predicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bcrit.analysis.adaptive.predicted import first_noise, gain_along, noise_factor
from tests.analysis.adaptive.made_up import E_MIN, GAMMA, S_MIN, SCHEDULES, run

FIXED = run(SCHEDULES[3], 0)


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
