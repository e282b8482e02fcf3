"""The frontier and the choices on it: the closed forms of an exact hyperbola, the slow search, and limits that give."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.recommendation import recommend
from bcrit.analysis.recommendation.choices import LIMITED, FrontierPoint, Terms, optimum, quantities
from bcrit.analysis.recommendation.hardware import Hardware, fit_step_times
from bcrit.search_spaces import InputError
from tests.analysis.recommendation.offers import (
    A100,
    ALL,
    EXACT,
    H100,
    LEFT_SIDE,
    NOISY,
    STEPS,
    B,
    fitted,
    only_at,
    step_times,
)

EVERY = np.arange(8.0, 4097.0)
TIMES = step_times(0.01, 1e-4)


# --- what a training takes ---


def test_efficiency_is_the_closed_form_with_the_interval_of_b_crit() -> None:
    """McCandlish et al. 2018: e = 1 / (1 + B / b_crit), so that 80 % is reached at b_crit / 4."""
    assert quantities(Terms(EXACT, None), np.array([50.0, 200.0]))["efficiency"].tolist() == pytest.approx([0.8, 0.5])
    row = quantities(Terms(NOISY, None), np.array([50.0])).iloc[0]
    assert row["efficiency_low"] == pytest.approx(1 / (1 + 50 / NOISY.b_crit_low))
    assert row["efficiency_low"] < row["efficiency"] < row["efficiency_high"]
    assert row["efficiency"] == pytest.approx(NOISY.e_min / float(NOISY.curve.examples(50)))


def test_hours_have_the_interval_of_the_steps_and_of_step_times_as_the_root_of_the_sum_of_squares() -> None:
    row = quantities(Terms(NOISY, Hardware(step_times(1, 0.01))), np.array([100.0])).iloc[0]
    assert row["hours_high"] / row["hours"] == pytest.approx(row["steps_high"] / row["steps"])
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


def test_cost_counts_devices_and_price() -> None:
    plain, priced = (recommend(NOISY, TIMES, devices=4, price_per_device_hour=price) for price in (None, 2.5))
    assert (plain.cost_unit, priced.cost_unit) == ("device-hours", "currency")
    for point, twin in zip(plain.frontier, priced.frontier, strict=True):
        assert point.hours is not None and point.cost is not None and point.hours_high is not None
        assert point.hours == pytest.approx(point.steps * (0.01 + 1e-4 * point.batch_size) / 3600, rel=1e-6)
        assert point.cost == pytest.approx(4 * point.hours)
        assert twin.cost == pytest.approx(10 * point.hours)
        assert twin.cost_high == pytest.approx(10 * point.hours_high)


def test_the_frontier_is_within_the_measured_range_and_has_all_measured_batch_sizes() -> None:
    found = recommend(NOISY)
    sizes = [point.batch_size for point in found.frontier]
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (8, 4096)
    assert [point.batch_size for point in found.frontier if point.measured] == list(B)
    for point in found.frontier:
        assert point.steps_low is not None and point.steps_high is not None
        assert point.steps_low < point.steps < point.steps_high
        assert point.examples == pytest.approx(point.batch_size * point.steps)


# --- choices on one hardware or none ---


def test_without_step_times_and_limits_the_choices_are_the_ends_and_b_crit() -> None:
    found = recommend(EXACT)
    assert {name: point.batch_size for name, point in found.choices.items()} == {
        "measured": 256,
        "cheapest": 8,
        "fastest": 4096,
        "balanced": 200,
    }
    assert found.choices["balanced"].steps == pytest.approx(1000)
    assert (found.feasible, found.binding, found.cost_unit) == (True, (), None)
    assert found.choices["fastest"].hours is None
    thousands = fitted(dict(zip(B / 1000, STEPS, strict=True)), unit="million tokens")  # fractions are not rounded
    assert recommend(thousands).choices["balanced"].batch_size == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize(
    ("limits", "best", "binding"),
    [
        pytest.param({"max_steps": 625.0}, 800, "max_steps", id="smallest-b-for-steps"),
        pytest.param({"max_steps": 626.0}, math.ceil(200 / (626 / 500 - 1)), "max_steps", id="rounded-up"),
        pytest.param({"max_examples": 125_000.0}, 50, "max_examples", id="largest-b-for-examples"),
        pytest.param({"max_examples": 125_900.0}, 51, "max_examples", id="rounded-down"),
        pytest.param({"max_steps": 1000.0, "max_examples": 200_000.0}, 200, "max_steps", id="both-at-b_crit"),
        pytest.param({"max_steps": 1e6}, 8, None, id="loose"),
    ],
)
def test_budgets_are_kept_as_the_closed_forms_say(limits: dict[str, float], best: int, binding: str | None) -> None:
    found = recommend(EXACT, **limits)  # type: ignore[arg-type]  # only limits are given
    assert found.choices["best"].batch_size == best
    assert found.binding == (() if binding is None else (binding,))
    assert found.choices["best"] in found.frontier


@pytest.mark.parametrize(("c0", "c1"), [(0.01, 1e-4), (0.3, 1e-4), (0.001, 1e-4)])
def test_a_linear_step_time_is_fastest_at_the_square_root(c0: float, c1: float) -> None:
    found = recommend(EXACT, step_times(c0, c1))
    assert found.choices["fastest"].batch_size == pytest.approx(math.sqrt(c0 / c1 * 200), abs=0.51)
    assert found.choices["cheapest"] == found.choices["fastest"]


def test_a_flat_step_time_makes_the_largest_batch_the_fastest_and_one_that_grows_as_the_batch_the_smallest() -> None:
    """The second is gradient accumulation, which saves no time at any batch size."""
    assert recommend(EXACT, step_times(0.01, 0.0)).choices["fastest"].batch_size == 4096
    found = recommend(EXACT, step_times(0.0, 0.1))
    assert found.choices["fastest"].batch_size == found.choices["cheapest"].batch_size == 8


def test_measured_step_times_are_searched_exhaustively() -> None:
    rng = np.random.default_rng(3)
    times = fit_step_times(pd.DataFrame({"batch_size": B, "step_seconds": (0.01 + 1e-4 * B) * rng.uniform(0.7, 1, 10)}))
    every = EVERY
    seconds = EXACT.curve.steps(every) * times.seconds(every)
    assert recommend(EXACT, times).choices["fastest"].batch_size == every[np.argmin(seconds)]
    kept = every[EXACT.curve.steps(every) <= 560]
    seconds = EXACT.curve.steps(kept) * times.seconds(kept)
    assert recommend(EXACT, times, max_steps=560).choices["best"].batch_size == kept[np.argmin(seconds)]


def test_a_price_of_nothing_still_prefers_the_shorter_training() -> None:
    free = recommend(EXACT, TIMES, price_per_device_hour=0, max_steps=2000)
    assert free.choices["cheapest"] == free.choices["fastest"]
    assert free.choices["best"].batch_size == free.choices["fastest"].batch_size


def test_without_an_identified_b_crit_only_measurements_are_offered() -> None:
    unidentified = fitted({8: 800, 16: 420, 32: 190})
    found = recommend(unidentified, TIMES, max_steps=500)
    assert [(point.batch_size, point.steps) for point in found.frontier] == [(8, 800), (16, 420), (32, 190)]
    assert all(point.steps_low is None and point.measured for point in found.frontier)
    assert found.choices["best"].batch_size in (16, 32)


# --- choices on several kinds of hardware ---


def slow(
    hardware: Sequence[Hardware], objective: str, limits: dict[str, float], end: str = "", sizes: Any = EVERY
) -> tuple[Any, ...] | None:
    """Every whole batch size on every hardware."""
    best = None
    for item in hardware:
        for row in quantities(Terms(NOISY, item), sizes).to_dict("records"):
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
    on = found.choices["best"]
    hardware = [item for item in ALL if (item.device, item.devices) == (on.device, on.devices)]
    expected["measured"] = slow(hardware, wanted, limits, sizes=B)
    chosen = {name: (p.batch_size, p.device, p.devices) for name, p in found.choices.items()}
    assert chosen == {name: place for name, place in expected.items() if place is not None}
    assert (found.objective, found.balanced_by) == (wanted, "hours_x_cost")
    assert set(found.choices.values()) <= set(found.frontier)


def test_limits_that_exclude_the_same_alternative_decide_together() -> None:
    """On the slow device only batch size 8 was timed: cheap, but too long for the deadline and too many steps."""
    offers = [only_at(8, "slow", 0.01), only_at(512, "fast", 3.0)]
    both = recommend(EXACT, offers, max_hours=1.0, max_steps=1000)
    assert both.choices["best"].device == "fast" and both.binding == ("max_hours", "max_steps")
    assert both.unbound == both.choices["cheapest"] and both.unbound.device == "slow"
    assert recommend(EXACT, offers, max_hours=1.0, max_steps=1e6).binding == ("max_hours",)
    assert recommend(EXACT, offers, max_hours=100.0, max_steps=1e6).binding == ()


def test_a_limit_that_one_batch_size_alone_keeps_is_found() -> None:
    curve = EXACT.curve
    limits = {"max_steps": float(curve.steps(1234)), "max_examples": float(curve.examples(1234))}
    place = optimum([Terms(EXACT, None)], "examples", limits)
    assert place is not None and place.batch_size == 1234


def test_hardware_is_offered_where_it_was_timed_and_steps_were_measured() -> None:
    found = recommend(EXACT, [H100, only_at(512, "h100", 3.0, devices=4)])
    assert [point.batch_size for point in found.frontier if point.devices == 4] == [512]
    assert {point.devices for point in found.frontier} == {1, 4}
    far = only_at(9999, "h100", 3.0, devices=4)
    assert {point.devices for point in recommend(EXACT, [H100, far]).frontier} == {1}
    with pytest.raises(InputError, match="no batch size that was timed lies where steps were measured"):
        recommend(EXACT, [far])


@pytest.mark.parametrize("limits", [{}, {"max_steps": 700.0}, {"max_examples": 2e5}], ids=str)
@pytest.mark.parametrize("hardware", [None, ALL], ids=["no times", "several"])
def test_the_sentences_name_a_measured_batch_size_with_what_was_found_there(hardware: Any, limits: Any) -> None:
    best = {float(size): {"lr": size / 100} for size in B}
    found = recommend(NOISY, hardware, hyperparameters=best, **limits)
    point, at = found.choices["measured"], found.hyperparameters["measured"]
    assert found.advised == "measured" and point.measured
    assert (at.source, at.values) == ("measured", best[point.batch_size])
    assert found.sentences[0].startswith(f"Train at batch size {point.batch_size:g}")
    chosen = found.choices[found.best_on_curve]
    told = f"By the curve {'batch size ' if limits else ''}{chosen.batch_size:,g} "
    assert told in found.sentences[0] and chosen.hardware == point.hardware
    assert all(getattr(point, LIMITED[name]) <= limit for name, limit in limits.items())


def test_a_limit_that_needs_another_batch_size_is_not_kept_by_a_measured_one() -> None:
    """Batch sizes 128 and 256 take 1,281 and 891 steps, and 164,000 and 228,000 examples."""
    found = recommend(EXACT, max_steps=1100, max_examples=2e5)
    assert (found.advised, found.choices["best"].measured) == ("best", False) and "measured" not in found.choices
    assert found.sentences[0].startswith(f"Train at batch size {found.choices['best'].batch_size:g}: ")


# --- limits that cannot be kept, or not safely ---


@pytest.mark.parametrize("hardware", [None, [H100]], ids=["no times", "one"])
def test_a_limit_that_no_measured_batch_size_kept_is_not_kept_by_the_curve_below_them(hardware: Any) -> None:
    wobble = np.array([NOISY.curve.steps(size) / steps for size, steps in Terms(NOISY, None).measured.items()])
    fit = fitted(dict(zip(B, STEPS * wobble, strict=True)))
    least, steps = min(Terms(fit, None).measured.values()), float(Terms(fit, None).curve.steps(4096))
    found = recommend(fit, hardware, max_steps=(steps + least) / 2)
    (missed,) = found.infeasible
    assert steps < missed.given < missed.needed == least
    assert any(f"no measured batch size took fewer than {least:.0f} steps" in caveat for caveat in found.caveats)
    assert recommend(fit, hardware, max_steps=missed.needed).feasible


def test_an_impossible_limit_is_told_with_what_it_would_take_and_where() -> None:
    found = recommend(EXACT, TIMES, max_steps=500)
    assert (found.feasible, found.binding) == (False, ()) and "best" not in found.choices
    (missed,) = found.infeasible
    assert (missed.limit, missed.given) == ("max_steps", 500)
    assert missed.needed == pytest.approx(500 * (1 + 200 / 4096))
    assert recommend(EXACT, TIMES, max_steps=missed.needed).feasible
    found = recommend(NOISY, ALL, max_hours=0.5)
    ((missed,), fastest) = found.infeasible, found.choices["fastest"]
    assert (missed.device, missed.devices, missed.batch_size) == ("h100", 8, fastest.batch_size)
    assert (missed.needed, missed.needed_high) == (fastest.hours, fastest.hours_high)
    assert recommend(NOISY, ALL, max_hours=missed.needed).feasible


def test_limits_that_conflict_are_told_each_with_the_other_kept() -> None:
    found = recommend(EXACT, max_steps=600, max_examples=120_000)
    needed = {missed.limit: missed.needed for missed in found.infeasible}
    assert needed["max_steps"] == pytest.approx(500 * (1 + 200 / 40))  # B = 40 spends 120,000 examples
    assert needed["max_examples"] == pytest.approx(1e5 * (1 + 1000 / 200))  # B = 1000 takes 600 steps
    assert all(missed.alone for missed in found.infeasible)


def test_limits_that_must_all_give_are_enough_together() -> None:
    limits = {"max_steps": 400.0, "max_examples": 90_000.0, "max_hours": 1e-6}
    found = recommend(EXACT, TIMES, **limits)  # type: ignore[arg-type]  # only limits are given
    assert not any(missed.alone for missed in found.infeasible)
    raised = {**limits, **{missed.limit: missed.needed for missed in found.infeasible}}
    assert recommend(EXACT, TIMES, **raised).feasible  # type: ignore[arg-type]


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
        (None, {"max_steps": 0}, "'max_steps' must be a positive number, but it is 0"),
        (None, {"max_cost": math.nan}, "'max_cost' must be a positive number"),
        (None, {"devices": 0}, "'devices' must be 1 or more, but it is 0"),
        (None, {"price_per_device_hour": -1}, "'price_per_device_hour' must be 0 or more, but it is -1"),
        (None, {"max_hours": 3}, "'max_hours' needs step times"),
    ],
)
def test_values_out_of_range_and_hardware_that_contradicts_itself_are_refused(
    hardware: list[Hardware] | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recommend(EXACT, hardware, **options)
