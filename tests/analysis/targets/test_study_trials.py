"""Which trials count, and which ended because they reached the run's own target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.targets.study_trials import Trials, stopped_at_target, trials_of

FRAME = pd.DataFrame(
    {
        "trial_id": ["a", "b", "c", "d", "e"],
        "repeats": [None, None, None, "a", None],
        "stage": ["search", "search", "search", "confirm", "search"],
        "number": range(5),
        "batch_size": [8, 8, 8, 8, 16],
        "outcome": ["reached", "diverged", "failed", "reached", "exhausted"],
        "steps": [30, 20, 5, 40, 90],
        "steps_to_target": [30, np.nan, np.nan, 40, np.nan],
    }
)
STEPS = np.array([[10.0, 30], [5, np.nan], [1, np.nan], [12, 40], [50, np.nan]])


def studies(imported: bool) -> dict[int, Trials]:
    return trials_of(FRAME, STEPS, STEPS - 1, np.zeros(5), imported)


def test_a_trial_that_failed_says_nothing_and_seeds_are_told_apart() -> None:
    found = studies(imported=False)
    assert (list(found[8].search.ids), list(found[8].seeds.ids), list(found[16].ids)) == (["a", "b"], ["d"], ["e"])
    assert found[8].seeds.repeats == ["a"]


@pytest.mark.parametrize(("imported", "steps"), [(False, 5), (True, 10)])
def test_who_diverged_later_reached_unless_the_run_was_imported(imported: bool, steps: float) -> None:
    search = studies(imported)[8].search
    assert search.steps[search.fastest(0), 0] == steps
    assert search.ended.feasible.tolist() == [True, False]


def test_the_earlier_trial_wins_a_tie() -> None:
    same = np.full((5, 1), 7.0)
    found = trials_of(FRAME.assign(number=[3, 1, 2, 0, 0]), same, same, np.zeros(5), False)[8]
    assert found.search.ids[found.search.fastest(0)] == "b"


def test_runs_that_go_on_do_not_stop_at_their_target_even_if_one_reached_it_last() -> None:
    assert stopped_at_target(FRAME).tolist() == [True, False, False, True, False]
    imported = FRAME.assign(stage="confirm", steps=[90, 20, 5, 40, 90])
    assert not stopped_at_target(imported).any()


def test_a_search_that_goes_on_is_told_from_its_re_runs_which_stop() -> None:
    assert stopped_at_target(FRAME.assign(steps=[90, 20, 5, 40, 90])).tolist() == [False, False, False, True, False]
