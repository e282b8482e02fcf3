"""The interval of a choice is that of the fit, carried over by the closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.analysis.recommendation.recommend import recommend
from tests.analysis.recommendation.offers import EXACT, H100, LEFT_SIDE, NOISY, step_times


def test_the_balanced_choice_has_the_interval_of_b_crit() -> None:
    sure = recommend(NOISY).certainty["balanced"]
    assert sure.batch_size_low == pytest.approx(NOISY.b_crit_low, abs=0.51)
    assert sure.batch_size_high == pytest.approx(NOISY.b_crit_high, abs=0.51)


@pytest.mark.parametrize(("c0", "c1"), [(1.0, 0.01), (1.0, 0.001)])
def test_the_fastest_choice_has_the_square_root_of_it(c0: float, c1: float) -> None:
    sure = recommend(NOISY, step_times(c0, c1)).certainty["fastest"]
    assert sure.batch_size_low == pytest.approx(math.sqrt(c0 / c1 * NOISY.b_crit_low), abs=0.51)
    assert sure.batch_size_high == pytest.approx(math.sqrt(c0 / c1 * NOISY.b_crit_high), abs=0.51)


def test_under_a_limit_the_interval_is_where_that_of_the_curve_crosses_it() -> None:
    found = recommend(NOISY, max_steps=700)
    sure, sizes = found.certainty["best"], np.arange(8, 4097)
    curve = NOISY.predict(sizes)
    assert sure.batch_size_low == sizes[curve["steps_low"] <= 700][0]
    assert sure.batch_size_high == sizes[curve["steps_high"] <= 700][0] == found.choices["safe"].batch_size


def test_an_end_that_no_batch_size_keeps_safely_is_the_end_of_the_range() -> None:
    steps = float(NOISY.predict([4096])["steps"].iloc[0])
    found = recommend(NOISY, max_steps=steps * 1.001)
    assert "safe" not in found.choices
    assert found.certainty["best"].batch_size_high == 4096


def test_training_takes_a_tenth_longer_at_the_ends_of_the_room() -> None:
    found = recommend(EXACT, [H100])
    fastest, sure = found.choices["fastest"], found.certainty["fastest"]
    assert sure.room_low is not None and sure.room_high is not None and fastest.hours is not None
    every = np.arange(8, 4097)
    hours = EXACT.curve.steps(every) * H100.step_times.seconds(every) / 3600
    inside = every[hours <= 1.1 * fastest.hours]
    assert sure.room_low == pytest.approx(inside[0], rel=0.02)
    assert sure.room_high == pytest.approx(inside[-1], rel=0.02)


def test_hardware_that_wins_for_some_value_in_the_interval_is_a_rival() -> None:
    """Times 1 + 0.01 B and k (4 + 0.002 B) draw level at the b_crit of the fit for the right k."""
    first, second, every = step_times(1, 0.01), step_times(4, 0.002), np.arange(8, 4097)
    least = [float(np.min(NOISY.curve.steps(every) * times.seconds(every))) for times in (first, second)]
    scale = least[0] / least[1]
    level = Hardware(step_times(4 * scale * 1.001, 0.002 * scale * 1.001), "b", 1, 1.0)
    found = recommend(NOISY, [Hardware(first, "a", 1, 1.0), level])
    assert found.choices["cheapest"].device == "a"
    assert found.certainty["cheapest"].rivals == ("1 x b",)
    far = replace(level, price_per_device_hour=3.0)
    assert recommend(NOISY, [Hardware(first, "a", 1, 1.0), far]).certainty["cheapest"].rivals == ()


def test_exact_data_leave_nothing_open_and_an_unidentified_fit_has_no_interval() -> None:
    sure = recommend(EXACT).certainty["balanced"]
    assert (sure.batch_size_low, sure.batch_size_high) == (200, 200)
    assert recommend(LEFT_SIDE, step_times(1, 0.01)).certainty["cheapest"].batch_size_low is None
