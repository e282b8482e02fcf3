"""Win shares agree with resampling by random numbers, and say nothing where there is nothing to resample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.budgets.winner import CLEAR, win_shares


def resampled(values: dict[int, np.ndarray], draws: int, rng: np.random.Generator) -> dict[int, float]:
    """The naive twin."""
    m = min(len(mine) for mine in values.values()) // 2
    best = {b: rng.choice(mine, (draws, m)).min(axis=1) for b, mine in values.items()}
    table = np.stack(list(best.values()))
    wins = table == table.min(axis=0)
    return dict(zip(values, (wins / wins.sum(axis=0)).mean(axis=1).tolist(), strict=True))


def test_the_shares_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = {8: rng.normal(0, 1, 12), 16: rng.normal(0.2, 1, 12), 32: rng.normal(0.5, 1, 30)}
    exact, twin = win_shares(values), resampled(values, 40_000, rng)
    for batch_size in values:
        assert exact[batch_size] == pytest.approx(twin[batch_size], abs=0.012)


def test_more_trials_alone_do_not_win() -> None:
    rng = np.random.default_rng(1)
    wins = []
    for _ in range(60):
        shares = win_shares({8: rng.normal(0, 1, 200), 16: rng.normal(0, 1, 10)})
        wins.append(shares[8])
    assert np.mean(wins) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("n_studies", "most"), [(2, 0.2), (5, 0.05)])
def test_equal_studies_rarely_have_a_clear_winner(n_studies: int, most: float) -> None:
    rng = np.random.default_rng(2)
    named = [max(win_shares({b: rng.normal(0, 1, 20) for b in range(n_studies)}).values()) >= CLEAR for _ in range(200)]
    assert np.mean(named) <= most


def test_equal_values_share() -> None:
    shares = win_shares({8: np.ones(5), 16: np.ones(5), 32: np.full(5, 2.0)})
    assert shares == pytest.approx({8: 0.5, 16: 0.5, 32: 0.0})


def test_a_gap_that_no_draw_bridges_is_certain() -> None:
    assert win_shares({8: np.array([1.0, 1.1, 1.2]), 16: np.array([2.0, 2.1, 2.2])}) == {8: 1.0, 16: 0.0}


@pytest.mark.parametrize("values", [{}, {8: np.ones(5)}, {8: np.ones(5), 16: np.ones(2)}], ids=["none", "one", "few"])
def test_too_little_says_nothing(values: dict[int, np.ndarray]) -> None:
    assert win_shares(values) == {}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=9), min_size=2, max_size=4))
def test_shares_sum_to_one(values: list[list[float]]) -> None:
    shares = win_shares({2**k: np.array(mine) for k, mine in enumerate(values)})
    assert sum(shares.values()) == pytest.approx(1)
    assert all(-1e-12 <= share <= 1 + 1e-12 for share in shares.values())


def test_of_thousands_of_trials_those_that_are_never_best_change_nothing() -> None:
    rng = np.random.default_rng(3)
    values = {b: rng.normal(0.001 * b, 1, 3000) for b in range(4)}
    m = 1500
    whole = {}
    for b, mine in values.items():
        mine = np.sort(mine)
        tail = ((len(mine) - np.arange(len(mine) + 1)) / len(mine)) ** m
        worse = [(1 - np.searchsorted(np.sort(v), mine) / len(v)) ** m for other, v in values.items() if other != b]
        whole[b] = float(((tail[:-1] - tail[1:]) * np.prod(worse, axis=0)).sum())
    total = sum(whole.values())
    assert win_shares(values) == pytest.approx({b: share / total for b, share in whole.items()}, abs=1e-12)
