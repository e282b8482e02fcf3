"""The proposed study: its batch sizes, the box of lr, what it costs, and the experiment that is written."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.questions.pilot.study import (
    CAP_ALONE,
    OVERHEAD_SECONDS,
    Clock,
    Cost,
    Curve,
    Hint,
    LrBox,
    Rule,
    Slack,
    Timing,
    alpha_of,
    cost,
    grid,
    hint,
    lr_at,
    lr_box,
    momentum_slack,
    proposed_data,
    taken,
)
from bcrit.search_spaces.dimensions import Fixed, Log, ReverseLog
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_data, parse_experiment, read_yaml
from bcrit.search_spaces.options import Budget
from tests.analysis.questions.pilot.made_up import DATA, pilot

NONE = Estimate(None, n=5, why="noise")
SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
ANY = Log(low=1e-4, high=1.0)
BUDGET = Budget(steps=200, examples=9000)

CURVE = Curve(100, 64, Hint(64, 16, 256))


def experiment(**more: Any) -> Experiment:
    given: dict[str, Any] = {
        "workload": "toy",
        "batch_sizes": [32, 128],
        "target": "loss < 1",
        "space": {"lr": 0.1, "momentum": 0.9},
        "budget": {"steps": 1000},
        "search": {"trials": 10},
        "confirm": {"points": 2, "seeds": 3},
    }
    return Experiment.model_validate({**given, **more})


ALONE = taken(experiment())


def costed(spec: Experiment, seconds: float | None = 0.01) -> Cost:
    clock = Clock({b: Timing(b, seconds, "") for b in spec.batch_sizes}, 0.002, lambda steps: round(steps / 2), 4)
    return cost(spec, CURVE, clock)


def test_the_curve_goes_through_the_pilot_and_its_ends_are_those_of_the_hint() -> None:
    assert (CURVE.at(64).value, CURVE.at(64).low, CURVE.at(64).high) == (100, 100, 100)
    small, large = CURVE.at(16), CURVE.at(256)
    assert small.value == pytest.approx(100 * 5 / 2) and small.low == pytest.approx(100 * 2 / 1.25)
    assert small.high == pytest.approx(100 * 17 / 5)
    assert large.low < large.value < large.high


@pytest.mark.parametrize("b_crit", [16, 64, 256])
@pytest.mark.parametrize("batch_size", [1, 16, 64, 1024])
def test_the_budget_is_at_least_four_times_the_steps_that_any_b_crit_in_the_interval_needs(
    batch_size: int, b_crit: float
) -> None:
    needed = Curve(100, 64, Hint(b_crit, b_crit, b_crit)).at(batch_size).value
    assert CURVE.budget().max_steps(batch_size) >= 4 * needed - 1


def test_a_study_is_its_search_trials_and_its_reruns() -> None:
    [study, _] = costed(experiment()).studies
    steps = 100 * (1 + 64 / 32) / 2
    n = 10 * ALONE.draws.value
    updates = n * ALONE.search.value * steps + 6 * ALONE.confirm.value * steps
    looked = n * round(ALONE.search.value * steps / 2) + 6 * round(ALONE.confirm.value * steps / 2)
    assert study.steps.value == pytest.approx(steps) and study.trial_steps.value == pytest.approx(updates)
    assert study.trial_seconds is not None
    assert study.trial_seconds.value == pytest.approx(updates * 0.01 + looked * 0.002 + (n + 6) * OVERHEAD_SECONDS)
    assert study.trial_steps.low < study.trial_steps.value < study.trial_steps.high


def test_a_joint_search_takes_shorter_trials_and_a_start_at_its_middle_batch_size() -> None:
    spec = experiment(search={"protocol": "joint", "trials": 10, "start": 24})
    joint, alone = costed(spec), costed(experiment())
    assert spec.middle == 32 and joint.n_trials == 2 * (10 + 6) + 24
    middle, other = joint.studies
    assert other.trial_steps.value < alone.studies[1].trial_steps.value
    steps = taken(spec).search.value * 10 * 150 + taken(spec).confirm.value * 6 * 150
    assert middle.trial_steps.value == pytest.approx(steps + 24 * 2.4 * 150)
    halved = costed(experiment(search={"protocol": "joint", "trials": 10, "start": 24}, budget={"steps": 160}))
    assert halved.studies[0].trial_steps.value == pytest.approx(10 * 160 + taken(spec).confirm.value * 900 + 24 * 80)


def test_the_whole_is_the_sum_shared_by_the_workers() -> None:
    found = costed(experiment())
    assert found.steps.high == pytest.approx(sum(s.trial_steps.high for s in found.studies))
    assert found.examples.low == pytest.approx(sum(s.trial_steps.low * s.batch_size for s in found.studies))
    assert found.hours is not None and found.n_trials == round(2 * (10 * ALONE.draws.value + 6))
    seconds = [s.trial_seconds.value for s in found.studies if s.trial_seconds is not None]
    assert found.hours.value == pytest.approx(sum(seconds) / 4 / 3600)


@pytest.mark.parametrize(
    ("rule", "steps"), [("none", 1000), ("full", 1000), ("cap", CAP_ALONE * ALONE.search.value * 150)]
)
def test_rules_that_stop_less_cost_more(rule: str, steps: float) -> None:
    spec = experiment(search={"trials": 10, "stopping": rule})
    [study, _] = costed(spec).studies
    assert study.trial_steps.value == pytest.approx(10 * ALONE.draws.value * steps + 6 * ALONE.confirm.value * 150)


def test_a_trial_takes_at_most_its_budget() -> None:
    [study, _] = costed(experiment(budget={"steps": 160})).studies
    assert study.trial_steps.value == pytest.approx(10 * ALONE.draws.value * 160 + 6 * ALONE.confirm.value * 150)


def test_reruns_beyond_the_target_go_to_their_horizon() -> None:
    spec = experiment(confirm={"points": 2, "seeds": 3, "beyond_target": True, "horizon": 10})
    [study, _] = costed(spec).studies
    assert study.trial_steps.value == pytest.approx(10 * ALONE.draws.value * ALONE.search.value * 150 + 6 * 1500)


def test_without_the_time_of_a_step_there_are_no_hours() -> None:
    found = costed(experiment(), seconds=None)
    assert found.hours is None and all(study.trial_seconds is None for study in found.studies)
    assert replace(found, hours=None).steps.value == costed(experiment()).steps.value


def scale(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, low, high, n=5)


def anything(batch_size: int) -> bool:
    return True


def test_the_hint_is_the_geometric_mean_with_room_for_both_scales_and_for_tuning() -> None:
    found = hint(scale(80, 60, 110), scale(20, 1, 400), 64)
    assert found.value == pytest.approx(40)
    assert (found.low, found.high) == (10, 220)  # B_noise is the lower, the end of B_simple the higher; both twofold


def test_ends_are_at_most_a_factor_ten_away() -> None:
    found = hint(scale(100, 1, 1e6), scale(100), 64)
    assert [found.value, found.low, found.high] == pytest.approx([100, 10, 1000])


@pytest.mark.parametrize(
    ("simple", "noise", "value", "ends"),
    [(scale(80), scale(80), 80, (8, 800)), (NONE, scale(30, 20, 50), 30, (10, 100)), (NONE, NONE, None, (6.4, 640))],
    ids=["no interval", "B_noise alone", "neither"],
)
def test_what_is_not_known_makes_it_wider(
    simple: Estimate, noise: Estimate, value: float | None, ends: tuple[float, float]
) -> None:
    found = hint(simple, noise, 64)
    assert found.value is None if value is None else found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(ends)
    assert found.middle == pytest.approx(value or 64)


def test_the_grid_goes_from_a_sixteenth_of_the_low_end_to_beyond_2_5_times_the_high_end() -> None:
    found = grid(Hint(60, 64, 200), None, anything)
    assert found.batch_sizes == (4, 8, 16, 32, 64, 128, 256, 512)
    assert list(found.wanted) == [4, 500] and found.left_out == ()
    assert not found.clipped_low and not found.clipped_high


def test_it_is_clipped_to_one_and_to_the_training_set() -> None:
    found = grid(Hint(10, 5, 500), 1000, anything)
    assert found.batch_sizes == tuple(2**k for k in range(10)) and (found.clipped_low, found.clipped_high) == (1, 1)


def test_it_says_so_where_the_last_power_of_two_in_the_training_set_is_below_what_is_wanted() -> None:
    found = grid(Hint(100, 64, 360), 1000, anything)
    assert found.batch_sizes[-1] == 512 < found.wanted[1] == 900 and found.clipped_high
    assert not grid(Hint(100, 64, 360), 1024, anything).clipped_high


def test_sizes_that_the_workload_cannot_make_are_left_out_and_named() -> None:
    found = grid(Hint(60, 64, 200), None, lambda b: b % 16 == 0)
    assert found.batch_sizes == (16, 32, 64, 128, 256, 512) and found.left_out == (4, 8)


@pytest.mark.parametrize("base", [35, 70, 280])
def test_where_no_power_of_two_can_be_made_the_workload_s_smallest_batch_is_doubled(base: int) -> None:
    found = grid(Hint(60, 64, 200), 5000, lambda b: b % 35 == 0, base=base)
    assert found.batch_sizes == (35, 70, 140, 280, 560) and found.clipped_low
    assert grid(Hint(60, 64, 200), 5000, lambda b: b == 7, base=7).batch_sizes == (7,)


def test_the_law_goes_through_what_was_measured_and_saturates() -> None:
    assert lr_at(64, 0.1, 64, 60, 1.0) == 0.1
    assert lr_at(1, 0.1, 64, 640, 1.0) == pytest.approx(0.1 * (1 + 10) / 641)
    assert lr_at(1e12, 0.1, 64, 64, 0.5) == pytest.approx(0.1 * 2**0.5)


@pytest.mark.parametrize(
    ("optimizer", "alpha"), [("sgd", 1), ("momentum", 1), ("adam", 0.75), ("rmsprop", 0.75), ("extrap_adamw", 0.75)]
)
def test_the_exponent_is_one_for_sgd_and_less_for_adam(optimizer: str, alpha: float) -> None:
    assert alpha_of(optimizer) == alpha


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("scale", [0.5, 60, 1e5], ids=["plateau", "knee", "perfect scaling"])
def test_a_decade_on_both_sides_of_the_centre_lies_inside_at_every_batch_size(optimizer: str, scale: float) -> None:
    box = lr_box(0.1, 64, scale, optimizer, SIZES, ANY, Slack())
    for b in SIZES:
        centre, (low, high) = lr_at(b, 0.1, 64, scale, alpha_of(optimizer)), box.at(b)
        assert low <= centre / 9.5 and high >= centre * 9.5  # written with two digits


@pytest.mark.parametrize(("scale", "rule"), [(0.1, "none"), (60, "sqrt"), (1e6, "linear")])
def test_the_rule_is_the_one_with_the_narrowest_box(scale: float, rule: str) -> None:
    assert lr_box(0.1, 64, scale, "momentum", SIZES, ANY, Slack()).rule == rule


def test_hard_limits_hold_at_every_batch_size() -> None:
    hard = Log(low=0.01, high=0.5, hard_low=0.002, hard_high=1.0)
    box = lr_box(0.1, 64, 60, "momentum", SIZES, hard, Slack())
    for b in SIZES:
        assert box.at(b)[0] >= 0.002 * (1 - 1e-9) and box.at(b)[1] <= 1.0 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("least", "most", "lr"), [(None, 0.2, 0.1), (0.005, 0.2, 0.2), (0.01, None, 0.1), (0.1, 0.1001, 0.1)]
)
def test_within_hard_limits_the_box_still_holds_what_was_measured(
    least: float | None, most: float | None, lr: float
) -> None:
    box = lr_box(lr, 64, 213, "sgd", SIZES, Log(low=0.1, high=0.1001, hard_low=least, hard_high=most), Slack())
    low, high = box.at(64)
    assert low <= lr <= high and low < high


def test_a_searched_momentum_widens_the_box_where_lr_over_one_minus_momentum_counts() -> None:
    momentum = ReverseLog(low=0.0, high=0.99)
    found = momentum_slack("momentum", momentum, 0.9)
    assert [found.down, found.up] == pytest.approx([10 * 10**0.5, 10 * 10**0.5])
    assert momentum_slack("adam", momentum, 0.9) == momentum_slack("momentum", Fixed(value=0.9), 0.9) == Slack()
    wide = lr_box(0.1, 64, 60, "momentum", SIZES, ANY, found)
    narrow = lr_box(0.1, 64, 60, "momentum", SIZES, ANY, Slack())
    assert wide.high / wide.low == pytest.approx(10 * narrow.high / narrow.low, rel=0.1)


def box(rule: Rule = "none") -> LrBox:
    return LrBox(0.0021, 2.5, rule, 64, 1.0, 60)


@pytest.mark.parametrize("rule", ["none", "sqrt", "linear"])
def test_it_is_read_back_with_everything_else_as_it_was(rule: Rule) -> None:
    given = {**DATA, "centre": {"rule": "linear", "batch_size": 8}}
    text = dump_data(proposed_data(given, (4, 8, 16), box(rule), BUDGET))
    found = parse_experiment(read_yaml(text, "x"), "x")
    assert found.batch_sizes == (4, 8, 16) and (found.budget.steps, found.budget.examples) == (200, 9000)
    assert found.budget.epochs is None and found.budget.regime_adaptation is None
    assert found.centre.rule == rule and found.search.trials == 10
    assert (found.space.box("lr").low, found.space.box("lr").high) == (0.0021, 2.5)
    assert (
        found.space.root["momentum"] == parse_experiment({**DATA, "budget": {"steps": 1}}, "x").space.root["momentum"]
    )


def test_hard_limits_stay() -> None:
    lr: dict[str, Any] = {"scale": "log", "low": 0.01, "high": 1, "hard_low": 0.001, "hard_high": 3}
    given = {**DATA, "space": {"lr": lr, "momentum": 0.9}}
    found = proposed_data(given, (4,), box(), BUDGET)["space"]["lr"]
    assert found == {"scale": "log", "low": 0.0021, "high": 2.5, "hard_low": 0.001, "hard_high": 3}


def test_a_fixed_learning_rate_stays_fixed() -> None:
    given = {**DATA, "space": {"lr": 0.3, "momentum": 0.9}}
    assert proposed_data(given, (4,), None, BUDGET)["space"] == given["space"]


def test_what_was_given_is_not_changed() -> None:
    before = {**DATA, "space": dict(DATA["space"])}
    proposed_data(DATA, (4,), box("sqrt"), BUDGET)
    assert before == DATA


@pytest.mark.parametrize("more", [{}, {"steps": None}, {"seconds": None}], ids=str)
def test_a_pilot_is_json(more: dict[str, Any]) -> None:
    found = json.loads(json.dumps(pilot(**more).to_json(), allow_nan=False))
    assert set(found) == {"run", "measured", "hint", "grid", "proposal", "spent"}
    assert (found["proposal"] is None) is ("steps" in more)
    if found["proposal"]:
        assert found["proposal"]["data"]["batch_sizes"] == found["grid"]["batch_sizes"]
