"""On an exact hyperbola recommendations must be the closed forms, to the whole number."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.curve.fit import fit_hyperbola
from bcrit.analysis.recommendation.hardware import StepTimes, fit_step_times
from bcrit.analysis.recommendation.recommend import recommend
from bcrit.search_spaces import InputError

B = 2.0 ** np.arange(3, 13)
EXACT = fit_hyperbola(pd.DataFrame({"batch_size": B, "steps": 500 * (1 + 200 / B)}))  # e_min = 100,000
NOISY = fit_hyperbola(pd.DataFrame({"batch_size": B[1:8], "steps": [140, 96, 55, 54, 41, 39, 42]}))
UNIDENTIFIED = fit_hyperbola(pd.DataFrame({"batch_size": [8, 16, 32], "steps": [800, 420, 190]}))


def step_times(c0: float, c1: float) -> StepTimes:
    return fit_step_times(pd.DataFrame({"batch_size": B, "step_seconds": c0 + c1 * B}))


TIMES = step_times(0.01, 1e-4)


def test_without_step_times_and_limits_the_choices_are_the_ends_and_b_crit() -> None:
    found = recommend(EXACT)
    assert {name: point.batch_size for name, point in found.choices.items()} == {
        "cheapest": 8,
        "fastest": 4096,
        "balanced": 200,
    }
    assert found.choices["balanced"].steps == pytest.approx(1000)
    assert (found.feasible, found.binding, found.cost_unit) == (True, (), None)
    assert found.choices["fastest"].hours is None
    assert "Train at batch size 200: about 1,000 steps" in found.sentences[0]


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


def test_a_flat_step_time_makes_the_largest_measured_batch_the_fastest_and_says_so() -> None:
    found = recommend(EXACT, step_times(0.01, 0.0))
    assert found.choices["fastest"].batch_size == 4096
    assert any("larger ones may be faster" in caveat for caveat in found.caveats)


def test_measured_step_times_are_searched_exhaustively() -> None:
    rng = np.random.default_rng(3)
    times = fit_step_times(pd.DataFrame({"batch_size": B, "step_seconds": (0.01 + 1e-4 * B) * rng.uniform(0.7, 1, 10)}))
    every = np.arange(8, 4097)
    seconds = EXACT.curve.steps(every) * times.seconds(every)
    assert recommend(EXACT, times).choices["fastest"].batch_size == every[np.argmin(seconds)]
    kept = every[EXACT.curve.steps(every) <= 560]
    seconds = EXACT.curve.steps(kept) * times.seconds(kept)
    assert recommend(EXACT, times, max_steps=560).choices["best"].batch_size == kept[np.argmin(seconds)]


def test_cost_counts_devices_and_price() -> None:
    plain, priced = recommend(NOISY, TIMES, devices=4), recommend(NOISY, TIMES, devices=4, price_per_device_hour=2.5)
    assert (plain.cost_unit, priced.cost_unit) == ("device-hours", "currency")
    for point, twin in zip(plain.frontier, priced.frontier, strict=True):
        assert point.hours is not None and point.cost is not None and point.hours_high is not None
        assert point.hours == pytest.approx(point.steps * (0.01 + 1e-4 * point.batch_size) / 3600, rel=1e-6)
        assert point.cost == pytest.approx(4 * point.hours)
        assert twin.cost == pytest.approx(10 * point.hours)
        assert twin.cost_high == pytest.approx(10 * point.hours_high)


def test_a_price_of_nothing_still_prefers_the_shorter_training() -> None:
    free = recommend(EXACT, TIMES, price_per_device_hour=0, max_steps=2000)
    assert free.choices["cheapest"] == free.choices["fastest"]
    assert free.choices["best"].batch_size == free.choices["fastest"].batch_size


def test_the_frontier_is_within_the_measured_range_and_has_all_measured_batch_sizes() -> None:
    found = recommend(NOISY)
    sizes = [point.batch_size for point in found.frontier]
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (16, 1024)
    assert [point.batch_size for point in found.frontier if point.measured] == list(B[1:8])
    for point in found.frontier:
        assert point.steps_low is not None and point.steps_high is not None
        assert point.steps_low < point.steps < point.steps_high
        assert point.examples == pytest.approx(point.batch_size * point.steps)


def test_an_impossible_limit_is_told_with_what_it_would_take() -> None:
    found = recommend(EXACT, TIMES, max_steps=500)
    assert (found.feasible, found.binding) == (False, ())
    assert "best" not in found.choices
    (missed,) = found.infeasible
    assert (missed.limit, missed.given) == ("max_steps", 500)
    assert missed.needed == pytest.approx(500 * (1 + 200 / 4096))
    assert recommend(EXACT, TIMES, max_steps=missed.needed).feasible
    assert "max_steps at least 525 (given 500)" in found.sentences[0]


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


def test_a_limit_beyond_the_measured_range_points_there() -> None:
    found = recommend(EXACT, max_steps=510)
    assert any("from batch size 10,000 on, beyond the largest measured, 4,096" in c for c in found.caveats)


def test_a_limit_that_only_the_estimate_keeps_is_a_caveat() -> None:
    assert any("upper end of its interval" in caveat for caveat in recommend(NOISY, max_steps=60).caveats)


def test_without_an_identified_b_crit_only_measurements_are_offered() -> None:
    found = recommend(UNIDENTIFIED, TIMES, max_steps=500)
    assert [(point.batch_size, point.steps) for point in found.frontier] == [(8, 800), (16, 420), (32, 190)]
    assert all(point.steps_low is None and point.measured for point in found.frontier)
    assert found.choices["best"].batch_size in (16, 32)
    assert "Only measured batch sizes are offered" in found.caveats[0]
    assert "not known" in found.sentences[1]


def test_batch_sizes_in_fractions_of_a_unit_are_not_rounded() -> None:
    fit = fit_hyperbola(pd.DataFrame({"batch_size": B / 1000, "steps": 500 * (1 + 200 / B)}), unit="million tokens")
    assert recommend(fit).choices["balanced"].batch_size == pytest.approx(0.2, rel=1e-6)


def test_hyperparameters_are_given_at_every_choice_with_their_source() -> None:
    best = {float(b): {"lr": 0.01 * b} for b in B}
    found = recommend(EXACT, hyperparameters=best)
    assert found.hyperparameters["fastest"].source == "measured"
    assert found.hyperparameters["balanced"].source == "interpolated"
    assert found.hyperparameters["balanced"].values == pytest.approx({"lr": 2.0})
    assert any("interpolated between batch sizes 128 and 256" in caveat for caveat in found.caveats)


@pytest.mark.parametrize(("extrapolation", "told"), [("fresh", 1), ("past", 0), (None, 0)])
def test_a_gradient_that_is_taken_twice_is_told(extrapolation: str | None, told: int) -> None:
    best = {float(b): {"lr": 0.1} | ({"extrapolation": extrapolation} if extrapolation else {}) for b in B}
    caveats = recommend(EXACT, hyperparameters=best).caveats
    assert len([caveat for caveat in caveats if "gradient of each of its examples twice" in caveat]) == told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "'max_steps' must be a positive number, but it is 0"),
        ({"max_cost": math.nan}, "'max_cost' must be a positive number"),
        ({"devices": 0}, "'devices' must be 1 or more, but it is 0"),
        ({"price_per_device_hour": -1}, "'price_per_device_hour' must be 0 or more, but it is -1"),
        ({"max_hours": 3}, "'max_hours' needs step times"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recommend(EXACT, **options)


@pytest.mark.parametrize("fit", [EXACT, NOISY, UNIDENTIFIED], ids=["exact", "noisy", "unidentified"])
def test_the_json_has_the_contracts_keys(fit: Any) -> None:
    found = json.loads(json.dumps(recommend(fit, max_steps=1).to_json(), allow_nan=False))
    assert set(found) >= {"frontier", "choices", "binding", "hyperparameters", "caveats", "infeasible", "feasible"}
    for name in ("steps", "examples", "hours", "cost"):
        assert {name, f"{name}_low", f"{name}_high"} <= set(found["frontier"][0])
    assert set(found["infeasible"][0]) >= {"limit", "given", "needed"}
