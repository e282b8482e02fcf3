"""One row a study: medians with unreached seeds, their intervals, and what an unreached study is known to exceed."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.studies import boundary_table, median_interval, outcome_counts, steps_to_target, tied
from bcrit.analysis.studies.state import coarse_notes
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import STEPS_TO_TARGET, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.report import runs

EXPERIMENT = parse_experiment(
    {
        "workload": "x:Y",
        "batch_sizes": [8, 16],
        "target": "loss < 1",
        "space": {"lr": "log from 0.01 to 1", "momentum": 0.9},
        "budget": {"steps": 400},
        "search": {"trials": 3},
    },
    "test",
)


def row(
    number: int, steps: int | None, stage: str = "search", repeats: str | None = None, **more: Any
) -> dict[str, Any]:
    trained = steps or more.pop("trained", 400)
    more = {"stage": stage, "repeats": repeats, "train_seconds": 0.01 * trained, "lr": 0.1 * (number + 1), **more}
    more = {"steps_to_target_low": None if steps is None else steps - 2, "best_value": 0.9, **more}
    ended = Outcome(more.pop("outcome", Outcome.EXHAUSTED if steps is None else Outcome.REACHED))
    return runs.trial(EXPERIMENT, 8, number, ended, trained, **more)


SEARCH = [row(0, 100), row(1, 120), row(2, None)]


def seeds(winner: int, *steps: int | None, **more: Any) -> list[dict[str, Any]]:
    return [row(10 * winner + i, s, "confirm", f"b8-search-{winner}", **more) for i, s in enumerate(steps)]


def study(*rows: dict[str, Any]) -> pd.Series:
    (found,) = [r for _, r in steps_to_target(to_arrow(TRIALS, rows).to_pandas(), EXPERIMENT).iterrows()]
    return found


def test_the_median_over_seeds_makes_the_number_and_not_the_search() -> None:
    found = study(*SEARCH, *seeds(0, 110, 130, 150))
    assert (found["steps"], found["search_steps"], found["source"]) == (130, 100, "confirm")
    assert (found["n_seeds"], found["n_reached"], found["n_trials"]) == (3, 3, 3)
    assert (found["steps_low"], found["steps_high"], found["steps_level"]) == (110, 150, 0.75)
    assert (found["examples"], found["best_trial"], found["lr"]) == (8 * 130, "b8-search-0", pytest.approx(0.1))
    assert found["step_seconds"] == pytest.approx(0.01) and found["steps_resolution"] == 2


def test_the_point_with_the_smallest_median_is_chosen_whatever_the_search_thought() -> None:
    found = study(*SEARCH, *seeds(0, 150, 160, 170), *seeds(1, 115, 125, 135))
    assert (found["steps"], found["best_trial"]) == (125, "b8-search-1")


def test_an_unreached_seed_counts_as_infinite() -> None:
    found = study(*SEARCH, *seeds(0, 110, None, 150))
    assert (found["steps"], found["n_reached"]) == (150, 2)
    assert found["steps_low"] == 110 and math.isnan(found["steps_high"])


def test_a_study_of_which_half_did_not_reach_is_a_bound_that_does_not_claim_too_much() -> None:
    found = study(*SEARCH, *seeds(0, 100, None))
    assert math.isnan(found["steps"]) and found["max_steps"] == 250  # (100 + 400) / 2, and not 400
    coarse = study(*SEARCH, *seeds(0, 100, None, None, steps_to_target_low=20))
    assert coarse["steps_resolution"] == 80 and not list(
        coarse_notes(coarse.to_frame().T, tied(to_arrow(TRIALS, SEARCH).to_pandas()))
    )
    early = study(*SEARCH, *seeds(0, None, None, None, trained=30, outcome="diverged"))
    assert math.isnan(early["steps"]) and early["max_steps"] == 30


def test_a_re_run_that_failed_says_nothing() -> None:
    failed = seeds(0, 110, 130, 150, None)
    failed[-1]["outcome"] = "failed"
    found = study(*SEARCH, *failed)
    assert (found["steps"], found["n_seeds"]) == (130, 3)


def test_without_re_runs_the_best_search_trial_is_shown_without_interval() -> None:
    found = study(*SEARCH)
    assert (found["steps"], found["source"], found["n_seeds"]) == (100, "search", 0)
    assert math.isnan(found["steps_low"]) and math.isnan(found["steps_high"])


def test_an_unreached_study_stays_in_the_table() -> None:
    found = study(row(0, None), row(1, None, trained=50))
    assert math.isnan(found["steps"]) and found["max_steps"] == 400 and pd.isna(found["best_trial"])


def test_ties_go_to_the_better_value_at_the_crossing_then_to_the_earlier_trial() -> None:
    assert study(row(3, 100), row(1, 100), row(2, 120))["best_trial"] == "b8-search-1"
    assert study(row(3, 100, best_value=0.1), row(1, 100), row(2, 120))["best_trial"] == "b8-search-3"
    # One that went on beyond its crossing is judged by its value there.
    tie = to_arrow(TRIALS, [row(1, 100, best_value=0.5), row(2, 100, best_value=0.1)]).to_pandas()
    assert tied(tie)["trial_id"].tolist() == ["b8-search-1", "b8-search-2"]
    assert steps_to_target(tie, EXPERIMENT, {"b8-search-2": 0.9})["best_trial"].tolist() == ["b8-search-1"]
    up = EXPERIMENT.model_copy(update={"target": Target.model_validate("accuracy > 0.3")})
    assert steps_to_target(tie, up)["best_trial"].tolist() == ["b8-search-1"]


def test_a_crossing_between_two_evaluations_that_are_far_apart_is_an_interval() -> None:
    first = study(row(0, 187, steps_to_target_low=0))
    assert (first["steps"], first["steps_low"], first["steps_high"]) == (187, 1, 187)
    again = seeds(0, 187, 187, 374, steps_to_target_low=0)
    again[2]["steps_to_target_low"] = 187
    found = study(row(0, 187, steps_to_target_low=0), *again)
    assert (found["steps"], found["steps_low"], found["steps_high"]) == (187, 1, 374)
    fine = study(row(0, 3, steps_to_target_low=2))  # every step was evaluated
    assert math.isnan(fine["steps_low"])


def test_the_columns_are_the_schema_s_and_the_hyperparameters() -> None:
    table = steps_to_target(to_arrow(TRIALS, SEARCH).to_pandas(), EXPERIMENT)
    assert list(table.columns) == [*STEPS_TO_TARGET.names, "lr", "momentum", "schedule"]


@pytest.mark.parametrize("n", [2, 3, 5, 6, 9])
def test_the_interval_of_a_median_covers_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = rng.lognormal(size=(4000, n))
    ends = [median_interval(list(d)) for d in draws]
    covered = np.mean([low <= 1 <= high for low, high, _ in ends])
    level = ends[0][2]
    assert covered == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 4000))
    assert level >= 0.9 or n < 5


def test_one_value_has_no_interval() -> None:
    assert all(math.isnan(x) for x in median_interval([3.0]))


def test_outcomes_are_counted_over_the_search_and_all_are_listed() -> None:
    counts = outcome_counts(to_arrow(TRIALS, [*SEARCH, *seeds(0, 110)]).to_pandas(), 8)
    assert (counts["reached"], counts["exhausted"], counts["failed"], sum(counts.values())) == (2, 1, 0, 3)


def test_verdicts_are_given_on_complete_rounds_only() -> None:
    at_edge = [row(i, 100 - 10 * i, lr=0.98 + 0.01 * i) for i in range(3)]
    assert boundary_table(to_arrow(TRIALS, at_edge[:2]).to_pandas(), EXPERIMENT).empty
    (edge,) = boundary_table(to_arrow(TRIALS, at_edge).to_pandas(), EXPERIMENT).to_dict("records")
    assert (edge["dimension"], edge["side"], edge["kind"]) == ("lr", "high", "box") and edge["widened_to"] > 1


def test_trials_that_diverged_do_not_show_that_more_steps_are_needed() -> None:
    diverged = [row(i, None, outcome="diverged", trained=300) for i in range(3)]
    studies = steps_to_target(pd.DataFrame(diverged), EXPERIMENT)
    assert studies["max_steps"].tolist() == [0]
    assert studies["steps"].isna().all()
    both = steps_to_target(pd.DataFrame([*diverged, row(3, None, trained=120)]), EXPERIMENT)
    assert both["max_steps"].tolist() == [120]
