"""Batch sizes around a hint: wide enough for the fit, inside the training set, and possible."""

from __future__ import annotations

import pytest

from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.pilot.grid import Hint, grid, hint

NONE = PooledScale(None, None, None, 5, "noise")


def scale(value: float, low: float | None = None, high: float | None = None) -> PooledScale:
    return PooledScale(value, low, high, 5, "")


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
    [
        (scale(80), scale(80), 80, (8, 800)),
        (NONE, scale(30, 20, 50), 30, (10, 100)),
        (NONE, NONE, None, (6.4, 640)),
    ],
    ids=["no interval", "B_noise alone", "neither"],
)
def test_what_is_not_known_makes_it_wider(
    simple: PooledScale, noise: PooledScale, value: float | None, ends: tuple[float, float]
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
