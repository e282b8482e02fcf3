"""Learning rates between tuned ones, and the greedy one."""

from __future__ import annotations

import pytest

from bcrit.tuner.training.batch_schedule import GreedyRates, State, TunedRates

NOW = State(0, 0)
TABLE = TunedRates((8, 32, 128), (0.1, 0.4, 0.3))


def test_at_tuned_batch_sizes_the_rate_is_the_tuned_one_to_the_bit() -> None:
    assert [TABLE.rate(b, NOW) for b in (8, 32, 128)] == [0.1, 0.4, 0.3]


def test_between_them_it_is_straight_in_logarithms_and_beyond_them_constant() -> None:
    assert TABLE.rate(16, NOW) == pytest.approx(0.2)
    assert TABLE.rate(64, NOW) == pytest.approx((0.4 * 0.3) ** 0.5)
    assert (TABLE.rate(2, NOW), TABLE.rate(999, NOW)) == (0.1, 0.3)


def test_in_rows_sizes_that_become_one_keep_the_first() -> None:
    rows = TunedRates((16, 32, 48), (0.1, 0.2, 0.3)).in_rows(lambda b: max(1, b // 32))
    assert rows == TunedRates((1,), (0.1,))


def test_the_greedy_rate_is_mccandlishs() -> None:
    assert GreedyRates(0.5).rate(10, State(0, 0, noise_scale=30.0, lr_max=2.0)) == pytest.approx(0.5 * 2.0 / 4.0)
    with pytest.raises(ValueError, match="known in exact models only"):
        GreedyRates().rate(10, NOW)


@pytest.mark.parametrize(
    ("sizes", "rates", "message"),
    [
        ((), (), "one for each batch size"),
        ((8, 8), (0.1, 0.1), "rising order"),
        ((8,), (0.1, 0.2), "2 for"),
        ((8,), (0.0,), "positive"),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(sizes: tuple[int, ...], rates: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TunedRates(sizes, rates)
