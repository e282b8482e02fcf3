"""The learning rate's box holds the law's centre, with a decade on both sides, at every batch size."""

from __future__ import annotations

import pytest

from bcrit.analysis.pilot.lr_box import Slack, alpha_of, lr_at, lr_box, momentum_slack
from bcrit.search_spaces.dimensions import Fixed, Log, ReverseLog

SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
ANY = Log(low=1e-4, high=1.0)


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
