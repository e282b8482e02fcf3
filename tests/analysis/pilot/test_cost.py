"""The cost is the arithmetic that it says it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bcrit.analysis.pilot.cost import (
    CAP_ALONE,
    CONFIRM,
    DRAWS,
    OVERHEAD_SECONDS,
    SEARCH,
    Clock,
    Cost,
    Curve,
    Timing,
    cost,
)
from bcrit.analysis.pilot.grid import Hint
from bcrit.search_spaces.experiment import Experiment

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
    n = 10 * DRAWS.value
    updates = n * SEARCH.value * steps + 6 * CONFIRM.value * steps
    looked = n * round(SEARCH.value * steps / 2) + 6 * round(CONFIRM.value * steps / 2)
    assert study.steps.value == pytest.approx(steps) and study.trial_steps.value == pytest.approx(updates)
    assert study.trial_seconds is not None
    assert study.trial_seconds.value == pytest.approx(updates * 0.01 + looked * 0.002 + (n + 6) * OVERHEAD_SECONDS)
    assert study.trial_steps.low < study.trial_steps.value < study.trial_steps.high


def test_the_whole_is_the_sum_shared_by_the_workers() -> None:
    found = costed(experiment())
    assert found.steps.high == pytest.approx(sum(s.trial_steps.high for s in found.studies))
    assert found.examples.low == pytest.approx(sum(s.trial_steps.low * s.batch_size for s in found.studies))
    assert found.hours is not None and found.n_trials == round(2 * (10 * DRAWS.value + 6))
    seconds = [s.trial_seconds.value for s in found.studies if s.trial_seconds is not None]
    assert found.hours.value == pytest.approx(sum(seconds) / 4 / 3600)


@pytest.mark.parametrize(("rule", "steps"), [("none", 1000), ("full", 1000), ("cap", CAP_ALONE * SEARCH.value * 150)])
def test_rules_that_stop_less_cost_more(rule: str, steps: float) -> None:
    spec = experiment(search={"trials": 10, "stopping": rule})
    [study, _] = costed(spec).studies
    assert study.trial_steps.value == pytest.approx(10 * DRAWS.value * steps + 6 * CONFIRM.value * 150)


def test_a_trial_takes_at_most_its_budget() -> None:
    [study, _] = costed(experiment(budget={"steps": 160})).studies
    assert study.trial_steps.value == pytest.approx(10 * DRAWS.value * 160 + 6 * CONFIRM.value * 150)


def test_reruns_beyond_the_target_go_to_their_horizon() -> None:
    spec = experiment(confirm={"points": 2, "seeds": 3, "beyond_target": True, "horizon": 10})
    [study, _] = costed(spec).studies
    assert study.trial_steps.value == pytest.approx(10 * DRAWS.value * SEARCH.value * 150 + 6 * 1500)


def test_without_the_time_of_a_step_there_are_no_hours() -> None:
    found = costed(experiment(), seconds=None)
    assert found.hours is None and all(study.trial_seconds is None for study in found.studies)
    assert replace(found, hours=None).steps.value == costed(experiment()).steps.value
