"""What batch size each schedule wants."""

from __future__ import annotations

import math

import pytest

from bcrit.tuner.training.batch_schedule import ByNoise, Fixed, Ramp, State

R16 = ByNoise(16.0, low=8, high=256)


def test_a_fixed_one_never_changes() -> None:
    assert [Fixed(24).wanted(State(step, 24 * step, 24, 1e9)) for step in (0, 5)] == [24, 24]


def test_a_ramp_changes_at_its_steps_or_examples() -> None:
    by_steps, by_examples = Ramp(((0, 8), (10, 32))), Ramp(((0, 8), (100, 32)), by="examples")
    assert [by_steps.wanted(State(step, 0)) for step in (0, 9, 10, 99)] == [8, 8, 32, 32]
    assert [by_examples.wanted(State(0, used)) for used in (0, 99, 100)] == [8, 8, 32]


@pytest.mark.parametrize("noise_scale", [9.0, 16.0, 100.0])
def test_with_noise_it_is_the_root_of_rate_times_noise_scale(noise_scale: float) -> None:
    wanted = math.sqrt(16.0 * noise_scale)
    assert R16.wanted(State(5, 0, round(wanted), noise_scale)) == pytest.approx(wanted)
    doubled = ByNoise(16.0, 8, 256, factor=4.0).wanted(State(5, 0, round(2 * wanted), noise_scale))
    assert doubled == pytest.approx(2 * wanted)


def test_it_changes_by_a_factor_of_two_at_most_and_stays_within_its_range() -> None:
    assert R16.wanted(State(5, 0, 16, 1e6)) == 32 and R16.wanted(State(5, 0, 128, 1e-6)) == 64
    assert R16.wanted(State(5, 0, 256, 1e6)) == 256 and R16.wanted(State(5, 0, 8, 1e-6)) == 8


def test_it_stays_where_the_noise_scale_is_not_known() -> None:
    assert R16.wanted(State(5, 0, 40, None)) == 40
    assert R16.wanted(State(0, 0)) == 8 and ByNoise(16.0, 8, 256, first=999).wanted(State(0, 0)) == 256


def test_in_rows_of_several_items_the_same_rows_are_wanted() -> None:
    tokens = ByNoise(48.0, low=64, high=4096, first=128)
    rows = tokens.in_rows(lambda batch_size: batch_size // 16, 16.0)
    assert (rows.low, rows.high, rows.first) == (4, 256, 8)
    in_tokens, in_rows = tokens.wanted(State(3, 0, 512, 4800.0)), rows.wanted(State(3, 0, 32, 300.0))
    assert in_tokens == pytest.approx(16 * in_rows)
    ramp = Ramp(((0, 64), (160, 128)), by="examples").in_rows(lambda batch_size: batch_size // 16, 16.0)
    assert ramp.stages == ((0, 4), (10, 8)) and Fixed(64).in_rows(lambda b: b // 16, 16.0) == Fixed(4)


def test_the_first_batch_size_is_rounded_to_rows_where_the_workload_makes_whole_ones_only() -> None:
    def rows(batch_size: int) -> int:
        if batch_size % 16:
            raise ValueError("tokens do not fill whole sequences")
        return batch_size // 16

    assert ByNoise(48.0, low=64, high=4096, first=137).in_rows(rows, 16.0).first == 9
    assert ByNoise(48.0, low=64, high=4096).in_rows(rows, 16.0).first is None


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "begin at 0"),
        (((5, 8),), "begin at 0"),
        (((0, 8), (0, 9)), "begin at 0 and rise"),
        (((0, 0),), "at least 1"),
    ],
    ids=str,
)
def test_stages_that_are_no_ramp_are_refused(stages: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ramp(stages)


@pytest.mark.parametrize(
    ("rate", "low", "high", "message"),
    [(0.0, 1, 2, "must be positive"), (math.inf, 1, 2, "must be positive"), (1.0, 4, 2, "low <= high")],
    ids=str,
)
def test_impossible_values_are_refused(rate: float, low: int, high: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ByNoise(rate, low, high)
