"""The rule of what a cell says is true: checked on made-up studies whose whole curves are known and then cut."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.studies import stopped_at_target
from bcrit.analysis.targets.cells import Ended, Status, Trials, cut_before, judge, trials_of

NOBODY = np.zeros(4, dtype=bool)


def ended(*steps: float, diverged: tuple[int, ...] = (), stopped: tuple[int, ...] = ()) -> Ended:
    places = np.arange(len(steps))
    return Ended(np.array(steps, dtype=float), ~np.isin(places, diverged), np.isin(places, stopped))


def crossing(*steps: float | None) -> np.ndarray:
    return np.array([math.nan if step is None else step for step in steps], dtype=float)


BEST = crossing(50, 80, None, None)
NONE = crossing(None, None, None, None)
CASES = {
    "nothing was cut before": (BEST, ended(50, 80, 50, 120), NOBODY, (Status.VALID, 50, 0, 0, True)),
    "one was stopped before": (BEST, ended(50, 80, 20, 120), NOBODY, (Status.UPPER, 50, 1, 0, True)),
    "and was ahead": (BEST, ended(50, 80, 20, 120), np.isnan(BEST), (Status.UPPER, 50, 1, 1, False)),
    "one that stopped at the run's own target was ahead": (
        *(crossing(50, None, None, None), ended(50, 20, 60, 70, stopped=(0, 1)), NOBODY),
        (Status.UPPER, 50, 1, 1, False),
    ),
    "one that diverged could not have been faster": (
        *(crossing(50, None, None, None), ended(50, 10, 60, 60, diverged=(1,)), NOBODY),
        (Status.VALID, 50, 0, 0, True),
    ),
    "unreached: more than was trained": (
        *(NONE, ended(50, 10, 900, 60, diverged=(2,)), NOBODY),
        (Status.LOWER, 60, 0, 0, True),
    ),
    "unreached, and stopped at the own target: more than the earliest stop": (
        *(NONE, ended(50, 40, 900, 60, stopped=(0, 1)), NOBODY),
        (Status.LOWER, 40, 0, 0, True),
    ),
    "only diverged trials say nothing": (
        *(NONE[:2], ended(5, 6, diverged=(0, 1)), NOBODY[:2]),
        (Status.MISSING, math.nan, 0, 0, False),
    ),
}


@pytest.mark.parametrize(("steps", "times", "ahead", "wanted"), CASES.values(), ids=list(CASES))
def test_the_rule(
    steps: np.ndarray, times: Ended, ahead: np.ndarray, wanted: tuple[Status, float, int, int, bool]
) -> None:
    said = judge(steps, times, ahead)
    assert (said.status, said.n_cut, said.n_ahead, said.fits) == (wanted[0], *wanted[2:])
    assert said.steps == pytest.approx(wanted[1], nan_ok=True)
    assert cut_before(steps, times).sum() == wanted[2]


TRUE_CROSSINGS = st.lists(st.one_of(st.none(), st.integers(1, 60)), min_size=1, max_size=6)


@settings(max_examples=500)
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
