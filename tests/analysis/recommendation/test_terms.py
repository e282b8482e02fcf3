"""Intervals of what a training takes, and the efficiency of a batch size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.analysis.recommendation.recommend import recommend
from bcrit.analysis.recommendation.terms import FrontierPoint, Terms, quantities
from tests.analysis.recommendation.offers import ALL, EXACT, H100, LEFT_SIDE, NOISY, step_times


def test_efficiency_is_the_closed_form_with_the_interval_of_b_crit() -> None:
    """McCandlish et al. 2018: e = 1 / (1 + B / b_crit), so that 80 % is reached at b_crit / 4."""
    assert quantities(Terms(EXACT, None), np.array([50.0, 200.0]))["efficiency"].tolist() == pytest.approx([0.8, 0.5])
    row = quantities(Terms(NOISY, None), np.array([50.0])).iloc[0]
    assert row["efficiency_low"] == pytest.approx(1 / (1 + 50 / NOISY.b_crit_low))
    assert row["efficiency_low"] < row["efficiency"] < row["efficiency_high"]
    assert row["efficiency"] == pytest.approx(NOISY.e_min / row["examples"])


def test_without_repeats_hours_have_the_interval_of_the_steps() -> None:
    row = quantities(Terms(NOISY, Hardware(step_times(1, 0.01))), np.array([100.0])).iloc[0]
    assert row["hours_high"] / row["hours"] == pytest.approx(row["steps_high"] / row["steps"])


def test_the_scatter_of_step_times_adds_as_the_root_of_the_sum_of_squares() -> None:
    times = step_times(1, 0.01, repeats=5, scatter=0.1)
    row = quantities(Terms(NOISY, Hardware(times, price_per_device_hour=2.0)), np.array([100.0])).iloc[0]
    steps, time = math.log(row["steps_high"] / row["steps"]), float(times.log_half_width(100.0, NOISY.level))
    assert time > 0.05
    assert math.log(row["hours_high"] / row["hours"]) == pytest.approx(math.hypot(steps, time))
    assert math.log(row["cost"] / row["cost_low"]) == pytest.approx(math.hypot(steps, time))


def test_without_a_curve_nothing_has_an_interval() -> None:
    table = quantities(Terms(LEFT_SIDE, Hardware(step_times(1, 0.01))), np.array([8.0, 16.0]))
    assert table[["steps_low", "hours_high", "efficiency"]].isna().all(axis=None)
    assert table["hours"].notna().all()


def beats(one: FrontierPoint, other: FrontierPoint) -> bool:
    assert one.hours is not None and one.cost is not None and other.hours is not None and other.cost is not None
    return one.hours <= other.hours and one.cost <= other.cost and (one.hours, one.cost) != (other.hours, other.cost)


def test_a_point_is_efficient_where_none_is_better_in_time_or_money_without_being_worse_in_the_other() -> None:
    points = recommend(EXACT, ALL).frontier
    assert len({(point.device, point.devices) for point in points}) == 4
    for point in points:
        assert point.efficient == (not any(beats(other, point) for other in points))
    assert 1 < sum(point.efficient for point in points) <= 4


def test_on_one_hardware_only_the_fastest_is_efficient_and_without_step_times_every_point() -> None:
    found = recommend(EXACT, [H100])
    assert [point for point in found.frontier if point.efficient] == [found.choices["fastest"]]
    assert all(point.efficient for point in recommend(EXACT).frontier)
