"""Budgets that users may give, the default grid, best values within them, and win shares."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.budgets.within import (
    CLEAR,
    N_BUDGETS,
    BestWithin,
    Resource,
    default_budgets,
    read_budgets,
    win_shares,
)
from bcrit.analysis.records.one_pass import Chunk, read_measurements
from bcrit.analysis.studies.steps_to_target import that_count
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction
from tests.analysis.folders import SECONDS, Made, experiment, write_run


def trials(*rows: tuple[int, int], seconds: float = 36.0) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["batch_size", "steps"]).assign(stage="search", outcome="exhausted")
    return frame.assign(examples=frame["batch_size"] * frame["steps"], train_seconds=seconds * frame["steps"])


def test_given_budgets_are_sorted_and_only_those() -> None:
    found = read_budgets({Resource.STEPS: [9, 3, 9], Resource.EXAMPLES: [], Resource.HOURS: [0.5]})
    assert found == {Resource.STEPS: (3, 9), Resource.HOURS: (0.5,)}


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="--hours: a budget is a positive number"):
        read_budgets({Resource.HOURS: [value]})


def test_the_largest_default_budget_is_one_that_every_study_used() -> None:
    table = trials((8, 1600), (8, 100), (16, 800), (32, 400))
    found = default_budgets(table, np.zeros(len(table), dtype=bool))
    assert {resource: budgets[-1] for resource, budgets in found.items()} == {
        "steps": 400,
        "examples": 12_000,
        "hours": 4,
    }
    assert all(len(budgets) == N_BUDGETS and list(budgets) == sorted(budgets) for budgets in found.values())


def test_where_trials_stop_at_the_target_the_second_study_to_reach_ends_the_grid() -> None:
    table = trials((8, 1600), (8, 900), (16, 500), (32, 400))
    found = default_budgets(table, np.array([False, True, True, False]))
    assert found[Resource.STEPS][-1] == 400
    found = default_budgets(table, np.array([False, True, True, True]))
    assert found[Resource.STEPS][-1] == 400 and found[Resource.EXAMPLES][-1] == 8000


def test_re_runs_count_only_where_nothing_was_searched() -> None:
    table = trials((8, 1600), (8, 90), (16, 800), (16, 70), (32, 50))
    table["stage"] = ["search", "confirm", "search", "confirm", "confirm"]
    table["outcome"] = ["reached", "reached", "failed", "reached", "reached"]
    assert that_count(table).tolist() == [True, False, False, True, True]


def test_re_runs_that_stop_at_the_target_do_not_end_the_grid_of_a_search_that_goes_on() -> None:
    table = trials((8, 1600), (8, 90), (16, 800), (16, 70))
    table["stage"] = ["search", "confirm"] * 2
    assert default_budgets(table, np.array([False, True] * 2))[Resource.STEPS][-1] == 800


def test_one_study_or_no_time_has_no_budgets() -> None:
    assert default_budgets(trials((8, 100)), np.array([False])) == {}
    assert Resource.HOURS not in default_budgets(trials((8, 100), (16, 90), seconds=0), np.array([False, False]))


def test_very_few_steps_stay_whole_and_positive() -> None:
    assert default_budgets(trials((8, 2), (16, 3)), np.array([False, False]))[Resource.STEPS] == (1.0, 2.0)


BUDGETS = {Resource.STEPS: (3.0, 5.0, 9.0), Resource.EXAMPLES: (20.0, 40.0), Resource.HOURS: (4 * SECONDS / 3600, 1.0)}
BATCH = np.array([4.0, 8.0, 16.0])
VALUES = st.one_of(st.floats(-3, 3), st.just(math.nan))


def naive(curve: list[tuple[int, float]], batch_size: float, resource: Resource, budget: float, best: str) -> float:
    per_step = {Resource.STEPS: 1.0, Resource.EXAMPLES: batch_size, Resource.HOURS: SECONDS / 3600}[resource]
    seen = [v for s, v in curve if s > 0 and s * per_step <= budget and not math.isnan(v)]
    return (min if best == "minimize" else max)(seen, default=math.nan)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=11), min_size=1, max_size=3), st.sampled_from(list(Direction)))
def test_the_curve_looked_at_is_the_naive_twin(curves: list[list[float]], direction: Direction) -> None:
    rows = [(trial, step, value) for trial, curve in enumerate(curves) for step, value in enumerate(curve)]
    trial, step, value = (np.array(column) for column in zip(*rows, strict=True))
    starts = np.flatnonzero(np.diff(trial, prepend=-1))
    chunk = Chunk(trial, starts, step, np.maximum(step - 1, 0), value.astype(float), SECONDS * step)
    found = BestWithin.of(BUDGETS, direction, BATCH[: len(curves)])
    found.take(chunk)
    for resource, budgets in BUDGETS.items():
        values = found.value(resource)
        for number, curve in enumerate(curves):
            for place, budget in enumerate(budgets):
                expected = naive(list(enumerate(curve)), BATCH[number], resource, budget, direction)
                assert values[number, place] == pytest.approx(expected, nan_ok=True)


def test_a_budget_is_inside_its_limit_and_trials_may_straddle_parts(tmp_path: Path) -> None:
    runs = {"a": Made(8, [(0, 0.1), (3, 2.0), (5, 1.0)]), "b": Made(8, [(2, 3.0), (4, 4.0), (10, 0.5)])}
    folder = write_run(tmp_path / "run", experiment([8]), runs, parts=4)
    found = BestWithin.of(BUDGETS, Direction.MINIMIZE, np.array([8.0, 8.0]))
    read_measurements(folder, ["a", "b"], "loss", [found], timed=True)
    assert found.value(Resource.STEPS).tolist() == [[2.0, 1.0, 1.0], [3.0, 3.0, 3.0]]
    assert found.value(Resource.EXAMPLES)[0].tolist() == [pytest.approx(math.nan, nan_ok=True), 1.0]
    assert found.value(Resource.HOURS)[1].tolist() == [3.0, 0.5]
    found.forget(np.array([1]))
    assert np.isnan(found.value(Resource.STEPS)[1]).all() and found.value(Resource.STEPS)[0, 0] == 2.0


def test_time_that_was_not_recorded_is_in_no_budget() -> None:
    found = BestWithin.of({Resource.HOURS: (1.0,)}, Direction.MINIMIZE, np.array([8.0]))
    one = np.array([0])
    found.take(Chunk(one, one, np.array([1]), one, np.array([2.0]), np.array([math.nan])))
    assert np.isnan(found.value(Resource.HOURS)).all()
    spent = Resource.HOURS.spent(pd.DataFrame({"train_seconds": [0.0, 7200.0]}))
    assert spent.tolist() == [pytest.approx(math.nan, nan_ok=True), 2.0]


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
