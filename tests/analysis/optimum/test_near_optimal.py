import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.optimum.near_optimal import NearOptimal, seed_noise, study_points
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import TRIALS
from tests.analysis.optimum.surface import LR, PLANE, bowl, one, searched, sets, spec
from tests.analysis.report import runs


def study(rows: list[dict[str, Any]], space: dict[str, Any] = LR) -> NearOptimal:
    return one(to_arrow(TRIALS, rows).to_pandas(), spec(space, (8,)))


def row(number: int, lr: float, steps: int, outcome: Outcome = Outcome.REACHED, **more: Any) -> dict[str, Any]:
    return runs.trial(spec(LR, (8,)), 8, number, outcome, steps, lr=lr, **more)


def test_points_are_near_optimal_worse_or_not_known() -> None:
    found = study(
        [
            row(0, 0.1, 100),
            row(1, 0.2, 120),
            row(2, 0.4, 121),
            row(3, 0.5, 110, Outcome.CAPPED),
            row(4, 0.6, 120, Outcome.EXHAUSTED),
            row(5, 5.0, 2, Outcome.DIVERGED),
            row(6, 0.05, 50, Outcome.PRUNED),
        ]
    )
    assert found.inside.tolist() == [True, True, False, False, False, False, False]
    assert found.worse.tolist() == [False, False, True, False, True, True, False]
    assert found.counts == (2, 3, 2)


def test_a_range_reaches_half_way_to_the_next_trial_and_is_open_where_that_is_not_known_to_be_worse() -> None:
    found = study(
        [row(0, 0.1, 100), row(1, 0.2, 110), row(2, 0.8, 300), row(3, 0.025, 30, Outcome.PRUNED)],
    ).ranges["lr"]
    assert [found.seen_low, found.seen_high, found.n] == pytest.approx([0.1, 0.2, 2])
    assert found.low == pytest.approx(math.sqrt(0.1 * 0.025)) and found.open_low
    assert found.high == pytest.approx(math.sqrt(0.2 * 0.8)) and not found.open_high
    assert found.centre == pytest.approx(math.sqrt(0.1 * 0.2))


def test_a_range_without_a_trial_beyond_ends_at_the_box_and_is_open() -> None:
    found = study([row(0, 0.1, 100)]).ranges["lr"]
    assert [found.low, found.high] == pytest.approx([0.001, 10])
    assert found.open_low and found.open_high


def test_the_set_is_never_narrower_than_the_seed_noise() -> None:
    seeds = [row(i, 0.1, s, stage="confirm", repeats="b8-search-0") for i, s in enumerate((60, 100, 170))]
    found = study([row(0, 0.1, 100), row(1, 0.2, 150), *seeds])
    assert found.steps == 100
    assert found.limit == pytest.approx(100 * math.exp(np.std(np.log([60, 100, 170]), ddof=1)))
    assert found.inside.all()


def test_the_best_point_is_in_its_own_set_even_if_its_search_trial_was_slow() -> None:
    seeds = [row(i, 0.2, 100, stage="confirm", repeats="b8-search-1") for i in range(3)]
    found = study([row(0, 0.1, 150), row(1, 0.2, 160), *seeds])
    assert found.best == {"lr": 0.2} and found.inside.tolist() == [False, True]


def test_a_study_that_did_not_reach_has_an_empty_set() -> None:
    found = study([row(0, 0.1, 400, Outcome.EXHAUSTED), row(1, 0.2, 3, Outcome.DIVERGED)])
    assert not found.reached and found.ranges == {} and math.isnan(found.limit)


def test_options_are_counted() -> None:
    space = {**LR, "flavour": "choice of sweet, sour"}
    rows = [row(0, 0.1, 100, flavour="sweet"), row(1, 0.2, 110, flavour="sweet"), row(2, 0.3, 200, flavour="sour")]
    assert study(rows, space).options == {"flavour": {"sweet": (2, 0, 2), "sour": (0, 1, 1)}}


def test_the_interval_holds_the_true_optimum() -> None:
    rng, covered = np.random.default_rng(1), []
    for space, name in ((LR, "lr"), (PLANE, "effective_lr")):
        experiment = spec(space, (4, 64, 512))
        trials = searched(experiment, bowl(lambda b: 0.5 / (1 + 64 / b)), rng, noise=0.03)
        found = sets(trials, experiment).studies
        covered += [s.ranges[name].low <= 0.5 / (1 + 64 / s.batch_size) <= s.ranges[name].high for s in found]
    assert sum(covered) >= 5


def test_no_end_of_a_range_passes_the_values_themselves_by_rounding() -> None:
    """exp(log(0.1)) is 0.10000000000000002, above the best point itself."""
    values = [0.1, 0.2, 0.3, 0.7, 1.1, 3.3, 0.05]
    for value in values:
        only = study([row(0, value, 100), row(1, value, 101)]).ranges["lr"]
        assert only.low <= only.best <= only.high and only.seen_low == only.best == only.seen_high == only.centre
    found = study([row(n, value, 100 + n) for n, value in enumerate(values)]).ranges["lr"]
    assert (found.seen_low, found.seen_high) == (min(values), max(values))


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    usual = {"batch_size": 8, "stage": "search", "repeats": None, "lr": 0.1, "outcome": "reached", "steps": 100}
    return pd.DataFrame(
        [{**usual, "steps_to_target": np.nan, "trial_id": f"t{i}", **row} for i, row in enumerate(rows)]
    )


def again(repeats: str, steps: float, trained: int = 100) -> dict[str, Any]:
    outcome = "reached" if math.isfinite(steps) else "exhausted"
    steps_to_target = steps if math.isfinite(steps) else np.nan
    return {"stage": "confirm", "repeats": repeats, "outcome": outcome, "steps_to_target": steps_to_target} | {
        "steps": trained
    }


def test_a_re_run_point_has_the_median_of_its_seeds_and_any_other_its_own_trial() -> None:
    trials = frame(
        {"steps_to_target": 50}, {"steps_to_target": 70}, again("t0", 60), again("t0", 80), again("t0", math.inf)
    )
    points = study_points(trials, 8)
    assert points.steps.tolist() == [80, 70]


def test_what_a_point_without_steps_needs_more_than_is_how_far_it_was_trained_or_infinity() -> None:
    trials = frame(
        {"outcome": "capped", "steps": 40},
        {"outcome": "diverged", "steps": 3},
        {"outcome": "failed", "steps": 0},
        {"steps_to_target": 50},
    )
    points = study_points(trials, 8)
    assert points.longer_than[:2].tolist() == [40, math.inf] and math.isnan(points.longer_than[2])
    assert (len(points.rows), points.n_set_aside) == (3, 1)


def test_seeds_of_a_point_without_a_search_trial_are_a_point() -> None:
    trials = frame({"outcome": "capped"}, again("elsewhere", 60), again("elsewhere", 70), again("elsewhere", math.inf))
    points = study_points(trials, 8)
    assert points.steps[1] == 70 and len(points.rows) == 2
    only = study_points(frame(again("elsewhere", math.inf, 90), again("elsewhere", math.inf, 70)), 8)
    assert math.isnan(only.steps[0]) and only.longer_than[0] == 80


def test_the_seed_noise_is_pooled_over_points() -> None:
    trials = searched(spec(LR), bowl(lambda b: 0.5), np.random.default_rng(0), noise=0.1, seeds=5)
    noise = seed_noise(trials)
    assert noise.freedom == 8 * 3 * 4
    assert noise.log_sd == pytest.approx(0.1, rel=0.2)


def test_without_two_seeds_of_a_point_the_noise_is_not_known() -> None:
    trials = frame({"steps_to_target": 50}, again("t0", 60), again("t0", math.inf))
    noise = seed_noise(trials)
    assert (noise.log_sd, noise.freedom, noise.n_unreached) == (None, 0, 1)
