"""The rule of what a cell says is true: checked on made-up studies whose whole curves are known and then cut."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.studies.steps_to_target import stopped_at_target
from bcrit.analysis.targets.cells import Ended, Status, Trials, cut_before, judge, trials_of

NOBODY = np.zeros(4, dtype=bool)


def ended(*steps: float, diverged: tuple[int, ...] = (), stopped: tuple[int, ...] = ()) -> Ended:
    places = np.arange(len(steps))
    return Ended(np.array(steps, dtype=float), ~np.isin(places, diverged), np.isin(places, stopped))


def crossing(*steps: float | None) -> np.ndarray:
    return np.array([math.nan if step is None else step for step in steps], dtype=float)


def test_nothing_cut_before_is_valid() -> None:
    verdict = judge(crossing(50, 80, None, None), ended(50, 80, 50, 120), NOBODY)
    assert (verdict.status, verdict.steps, verdict.n_cut, verdict.fits) == (Status.VALID, 50, 0, True)


def test_a_trial_that_was_stopped_before_makes_it_an_upper_bound() -> None:
    verdict = judge(crossing(50, 80, None, None), ended(50, 80, 20, 120), NOBODY)
    assert (verdict.status, verdict.n_cut, verdict.n_ahead, verdict.fits) == (Status.UPPER, 1, 0, True)


def test_a_trial_that_was_stopped_before_and_was_ahead_keeps_it_out_of_the_fit() -> None:
    ahead = np.array([False, False, True, True])
    verdict = judge(crossing(50, 80, None, None), ended(50, 80, 20, 120), ahead)
    assert (verdict.status, verdict.n_cut, verdict.n_ahead, verdict.fits) == (Status.UPPER, 1, 1, False)


def test_a_trial_that_stopped_at_the_runs_own_target_was_ahead() -> None:
    verdict = judge(crossing(50, None, None, None), ended(50, 20, 60, 70, stopped=(0, 1)), NOBODY)
    assert (verdict.status, verdict.n_ahead, verdict.fits) == (Status.UPPER, 1, False)


def test_a_diverged_trial_could_not_have_been_faster() -> None:
    times = ended(50, 10, 60, 60, diverged=(1,))
    assert judge(crossing(50, None, None, None), times, NOBODY).status is Status.VALID
    assert not cut_before(crossing(50, None, None, None), times).any()


def test_unreached_by_all_is_a_lower_bound_of_what_was_trained() -> None:
    verdict = judge(crossing(None, None, None, None), ended(50, 10, 900, 60, diverged=(2,)), NOBODY)
    assert (verdict.status, verdict.steps, verdict.fits) == (Status.LOWER, 60, True)


def test_trials_that_stopped_at_the_own_target_bound_a_stricter_one_by_the_earliest_stop() -> None:
    verdict = judge(crossing(None, None, None, None), ended(50, 40, 900, 60, stopped=(0, 1)), NOBODY)
    assert (verdict.status, verdict.steps) == (Status.LOWER, 40)


def test_only_diverged_trials_say_nothing() -> None:
    verdict = judge(crossing(None, None), ended(5, 6, diverged=(0, 1)), NOBODY[:2])
    assert verdict.status is Status.MISSING and math.isnan(verdict.steps) and not verdict.fits


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_sentence(status: Status) -> None:
    assert status.sentence.endswith(".")


TRUE_CROSSINGS = st.lists(st.one_of(st.none(), st.integers(1, 60)), min_size=1, max_size=6)


@settings(max_examples=500, deadline=None)
@given(st.data(), TRUE_CROSSINGS)
def test_what_the_verdict_says_is_true_of_the_whole_curves(data: st.DataObject, whole: list[int | None]) -> None:
    """`whole` are the true crossings of curves of 100 steps; each trial is cut somewhere, none for being behind."""
    n = len(whole)
    cuts = np.array(data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n)))
    seen = crossing(
        *(step if step is not None and step <= cut else None for step, cut in zip(whole, cuts, strict=True))
    )
    times = ended(*np.where(np.isnan(seen), cuts, np.fmin(cuts, np.nan_to_num(seen))).tolist())
    truth = min((step for step in whole if step is not None), default=math.inf)
    verdict = judge(seen, times, np.ones(n, dtype=bool))
    if verdict.status is Status.VALID:
        assert verdict.steps == truth
    elif verdict.status is Status.UPPER:
        assert verdict.steps >= truth and not verdict.fits
        assert times.steps[np.isnan(seen)].min() <= truth
    else:
        assert verdict.status is Status.LOWER
        assert verdict.steps == times.steps.max() and np.isnan(seen).all()


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
    assert found[8].seeds.repeats.tolist() == ["a"]


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
