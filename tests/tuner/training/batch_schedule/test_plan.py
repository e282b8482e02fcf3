"""Decisions: rounding to micro-batches, and the rate of the rounded size."""

from __future__ import annotations

from bcrit.tuner.training.batch_schedule import BatchPlan, ByNoise, Decision, Fixed, State, TunedRates

RATES = TunedRates((8, 64), (0.1, 0.8))


def test_a_size_that_follows_the_noise_is_a_multiple_of_the_micro_batch_and_at_least_two() -> None:
    plan = BatchPlan(ByNoise(1.0, 1, 512), RATES, micro_batch=8)
    sizes = [plan.decide(State(9, 0, b, float(b * b))).batch_size for b in (1, 12, 20, 43, 100)]
    assert sizes == [16, 16, 16, 40, 96]


def test_the_rate_is_that_of_the_rounded_size() -> None:
    decision = BatchPlan(ByNoise(1.0, 1, 512), RATES, micro_batch=32).decide(State(9, 0, 60, 3600.0))
    assert decision == Decision(64, 0.8)


def test_a_fixed_size_is_kept_as_it_is() -> None:
    assert BatchPlan(Fixed(13), RATES, micro_batch=8).decide(State(0, 0)).batch_size == 13


def test_no_batch_is_larger_than_the_training_set() -> None:
    assert BatchPlan(Fixed(500)).decide(State(0, 0), most=100) == Decision(100, None)


def test_in_rows_everything_counts_rows() -> None:
    plan = BatchPlan(Fixed(64), RATES, micro_batch=16).in_rows(lambda b: b // 8, 8.0)
    assert plan == BatchPlan(Fixed(8), TunedRates((1, 8), (0.1, 0.8)), micro_batch=2)
