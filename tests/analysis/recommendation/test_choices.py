"""Choices over several kinds of hardware, against the slow search, and what gives where nothing keeps the limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.recommendation.choices import LIMITED, optimum
from bcrit.analysis.recommendation.hardware import Hardware, fit_step_times
from bcrit.analysis.recommendation.recommend import Recommendation, recommend
from bcrit.analysis.recommendation.terms import Terms, quantities
from bcrit.search_spaces import InputError
from tests.analysis.recommendation.offers import (
    A100,
    ALL,
    B_CRIT,
    EXACT,
    H100,
    H100_8,
    LEFT_SIDE,
    NOISY,
    S_MIN,
    step_times,
)

EVERY = np.arange(8.0, 4097.0)


def slow(
    hardware: Sequence[Hardware], objective: str, limits: dict[str, float], end: str = ""
) -> tuple[Any, ...] | None:
    """Every whole batch size on every hardware."""
    best = None
    for item in hardware:
        for row in quantities(Terms(NOISY, item), EVERY).to_dict("records"):
            kept = all(row[f"{LIMITED[name]}{end}"] <= limit for name, limit in limits.items())
            if kept and (best is None or row[objective] < best[0]):
                best = (row[objective], row["batch_size"], item.device, item.devices)
    return best and best[1:]


@pytest.mark.parametrize(
    "limits",
    [{"max_hours": 1.7}, {"max_cost": 6.3}, {"max_hours": 2.5, "max_steps": 700}, {"max_examples": 3e5}],
    ids=str,
)
def test_every_choice_is_that_of_the_slow_search(limits: dict[str, float]) -> None:
    found = recommend(NOISY, ALL, **limits)  # type: ignore[arg-type]  # only limits are given
    objectives = {"cheapest": "cost", "fastest": "hours", "balanced": "hours_x_cost"}
    wanted = "cost" if {"max_hours", "max_steps"} & set(limits) else "hours"
    expected = {name: slow(ALL, objective, {}) for name, objective in objectives.items()}
    expected |= {"best": slow(ALL, wanted, limits), "safe": slow(ALL, wanted, limits, "_high")}
    chosen = {name: (p.batch_size, p.device, p.devices) for name, p in found.choices.items()}
    assert chosen == {name: place for name, place in expected.items() if place is not None}
    assert (found.objective, found.balanced_by) == (wanted, "hours_x_cost")
    assert set(found.choices.values()) <= set(found.frontier)


def test_time_and_money_at_the_best_batch_size_are_the_closed_form() -> None:
    """E + r S, r = c0 / c1, is least, (sqrt(e_min) + sqrt(r s_min))^2, at B = sqrt(r b_crit); cost = p c1 times it."""
    c0, c1, price = 5.0, 0.012, 3.0
    size, least = np.sqrt(c0 / c1 * B_CRIT), (np.sqrt(S_MIN * B_CRIT) + np.sqrt(c0 / c1 * S_MIN)) ** 2
    point = recommend(EXACT, [H100]).choices["cheapest"]
    assert point.batch_size == pytest.approx(size, abs=0.51)
    assert point.cost == pytest.approx(price * c1 * least / 3600, rel=1e-5)


def test_a_step_time_that_grows_as_the_batch_makes_the_smallest_the_fastest() -> None:
    """So it is with gradient accumulation, which saves no time at any batch size."""
    times = fit_step_times(pd.DataFrame({"batch_size": [8, 4096], "step_seconds": [0.1, 0.1 * 512]}))
    found = recommend(EXACT, times)
    assert found.choices["fastest"].batch_size == found.choices["cheapest"].batch_size == 8
    assert "a step's time grows nearly as fast as the batch" in found.paragraph


def test_limits_that_exclude_the_same_alternative_decide_together() -> None:
    """On the slow device only batch size 8 was timed: cheap, but too long for the deadline and too many steps."""
    slow_times = fit_step_times(pd.DataFrame({"batch_size": [8], "step_seconds": [1.0]}), fewest=1)
    fast_times = fit_step_times(pd.DataFrame({"batch_size": [512], "step_seconds": [1.0]}), fewest=1)
    offers = [Hardware(slow_times, "slow", 1, 0.01), Hardware(fast_times, "fast", 1, 3.0)]
    both = recommend(EXACT, offers, max_hours=1.0, max_steps=1000)
    assert both.choices["best"].device == "fast" and both.binding == ("max_hours", "max_steps")
    assert both.unbound == both.choices["cheapest"] and both.unbound.device == "slow"
    told = "What decides is the deadline of 1 h and the limit of 1,000 steps together: without them, batch size 8 on"
    assert told in both.paragraph and "lifting fewer of them gains nothing" in both.paragraph
    assert recommend(EXACT, offers, max_hours=1.0, max_steps=1e6).binding == ("max_hours",)
    assert recommend(EXACT, offers, max_hours=100.0, max_steps=1e6).binding == ()


def test_a_limit_that_one_batch_size_alone_keeps_is_found() -> None:
    curve = EXACT.curve
    limits = {"max_steps": float(curve.steps(1234)), "max_examples": float(curve.examples(1234))}
    place = optimum([Terms(EXACT, None)], "examples", limits)
    assert place is not None and place.batch_size == 1234


def test_a_number_of_devices_timed_at_one_batch_size_is_offered_there_only() -> None:
    one = fit_step_times(pd.DataFrame({"batch_size": [512], "step_seconds": [2.0]}), fewest=1)
    found = recommend(EXACT, [H100, Hardware(one, "h100", 4, 3.0)])
    assert [point.batch_size for point in found.frontier if point.devices == 4] == [512]
    assert {point.devices for point in found.frontier} == {1, 4}


def test_hardware_timed_where_nothing_was_measured_is_left_out_and_told() -> None:
    far = fit_step_times(pd.DataFrame({"batch_size": [9999], "step_seconds": [2.0]}), fewest=1)
    found = recommend(EXACT, [H100, Hardware(far, "h100", 4, 3.0)])
    assert {point.devices for point in found.frontier} == {1}
    assert any("4 x h100 is not offered: it was timed only at batch size 9,999" in text for text in found.caveats)
    with pytest.raises(InputError, match="no batch size that was timed lies where steps were measured"):
        recommend(EXACT, [Hardware(far, "h100", 4)])


def test_an_impossible_deadline_names_the_hardware_that_comes_nearest() -> None:
    found = recommend(NOISY, ALL, max_hours=0.5)
    (missed,) = found.infeasible
    fastest = found.choices["fastest"]
    assert (missed.device, missed.devices, missed.batch_size) == ("h100", 8, fastest.batch_size)
    assert (missed.needed, missed.needed_high) == (fastest.hours, fastest.hours_high)
    assert recommend(NOISY, ALL, max_hours=missed.needed).feasible


def test_a_choice_that_keeps_the_upper_end_too_is_safe() -> None:
    found = recommend(NOISY, max_steps=700)
    best, safe = found.choices["best"], found.choices["safe"]
    assert best.steps_high is not None and safe.steps_high is not None
    assert best.steps <= 700 < best.steps_high and safe.steps_high <= 700
    loose = recommend(NOISY, max_steps=1e6)
    assert loose.choices["safe"] == loose.choices["best"]
    assert "safe" not in recommend(LEFT_SIDE, max_steps=1e9).choices  # no interval, so nothing is known to be safe


@pytest.mark.parametrize(
    ("hardware", "options", "message"),
    [
        ([H100, H100], {}, "'1 x h100' stands 2 times; join its step times"),
        ([H100, replace(A100, price_per_device_hour=None)], {}, "but a100 has none; add --price a100="),
        ([H100], {"devices": 2}, "stand in the hardware already"),
        ([H100], {"price_per_device_hour": 2.0}, "stand in the hardware already"),
        ([], {}, "at least one device with its step times is needed"),
        ([replace(H100, devices=0)], {}, "'devices' must be 1 or more, but it is 0"),
    ],
)
def test_hardware_that_contradicts_itself_is_refused(
    hardware: list[Hardware], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recommend(EXACT, hardware, **options)


def test_hardware_without_prices_counts_device_hours_and_says_what_that_means() -> None:
    found = recommend(EXACT, [replace(item, price_per_device_hour=None) for item in ALL])
    assert found.cost_unit == "device-hours"
    assert "give prices first" in found.paragraph
    same = recommend(EXACT, [replace(H100, price_per_device_hour=None), replace(H100_8, price_per_device_hour=None)])
    assert "give prices first" not in same.paragraph


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


def at_price(kind: str, price: float, **limits: Any) -> Recommendation:
    return recommend(EXACT, [replace(h, price_per_device_hour=price) if h.device == kind else h for h in ALL], **limits)


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_hours": 100.0}, {"max_hours": 3.0}, {"max_cost": 30.0}, {"max_cost": 5.0}, {"max_steps": 800}],
    ids=str,
)
def test_the_choice_changes_at_the_price_that_is_told(limits: dict[str, Any]) -> None:
    found = recommend(EXACT, ALL, **limits)
    assert found.advised is not None
    (entry,) = found.break_even
    assert entry.device != found.choices[found.advised].device
    if entry.chosen_below is None:
        below = at_price(entry.device, 1e-9, **limits)
        assert below.choices[below.advised or ""].device != entry.device
        return
    assert entry.chosen_below < entry.price_per_device_hour
    for factor in (0.999, 1.001):
        near = at_price(entry.device, entry.chosen_below * factor, **limits)
        assert (near.choices[near.advised or ""].device == entry.device) == (factor < 1)


def test_without_prices_or_another_kind_there_is_no_such_price() -> None:
    assert recommend(EXACT, [replace(item, price_per_device_hour=None) for item in ALL]).break_even == ()
    assert recommend(EXACT, [H100, H100_8]).break_even == ()
    assert recommend(EXACT, [H100]).break_even == ()


def test_nothing_can_be_cheaper_than_a_choice_that_costs_nothing() -> None:
    found = recommend(EXACT, [replace(H100, price_per_device_hour=0.0), A100])
    (entry,) = found.break_even
    assert (entry.device, entry.chosen_below) == ("a100", None)
    assert "No price makes a100 the choice: what is chosen costs nothing." in found.paragraph
