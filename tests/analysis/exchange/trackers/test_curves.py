"""The curve of a logged run: against a slow twin, and the rules on restarts and on how a run ended."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.logged import SECONDS, LoggedRun, Names, curve, ending
from bcrit.analysis.exchange.run import Notes
from bcrit.search_spaces.outcome import Outcome
from tests.analysis.exchange.planted import READING, TARGET

NAMES = Names("batch_size", None, "step")


def logged(rows: list[tuple[float | None, float | None]], **more: object) -> LoggedRun:
    log = pd.DataFrame(rows, columns=["step", "val_loss"], dtype=float)
    return replace(LoggedRun("run", {"batch_size": 8}, log), **more)  # type: ignore[arg-type]


Count = st.one_of(st.none(), st.integers(0, 12).map(float))
Value = st.one_of(st.none(), st.floats(0, 1))


@settings(deadline=None)
@given(rows=st.lists(st.tuples(Count, Value), max_size=12), factor=st.sampled_from([1.0, 0.5, 3.0]))
def test_the_curve_is_what_a_slow_reading_gives(rows: list[tuple[float | None, float | None]], factor: float) -> None:
    found = curve(logged(rows), NAMES, replace(READING, steps_per_count=factor), 8, Notes())
    slow: list[tuple[int, float]] = []
    count = None
    for own, value in rows:
        count = own if own is not None else count
        if count is None or value is None:
            continue
        step = round(count * factor)
        slow = [(s, v) for s, v in slow if s < step] + [(step, value)]
    assert list(zip(found["step"], found["val_loss"], strict=True)) == slow


def test_what_is_left_out_is_noted() -> None:
    notes = Notes()
    rows = [(None, 0.9), (5, 0.8), (10, None), (10, 0.7), (5, 0.6), (math.nan, 0.5)]
    found = curve(logged(rows), NAMES, READING, 8, notes)
    assert list(zip(found["step"], found["val_loss"], strict=True)) == [(5, 0.5)]
    assert notes.sentences() == [
        "Reports without a number for 'val_loss' were left out (1)",
        "Reports before any 'step' were left out (1)",
        "Reports that a later one at the same or an earlier step replaces (3; the first: run)",
    ]
    assert found[SECONDS].isna().all()


def test_examples_become_steps_at_the_run_s_batch_size() -> None:
    reading = replace(READING, examples_per_count=100.0)
    assert curve(logged([(1, 0.9), (2, 0.5)]), NAMES, reading, 8, Notes())["step"].tolist() == [12, 25]


@pytest.mark.parametrize(
    ("rows", "broken", "says", "expected"),
    [
        ([(1, 0.5)], False, None, None),
        ([(1, 0.5)], False, Outcome.PRUNED, Outcome.PRUNED),
        ([(1, 0.5)], True, None, Outcome.DIVERGED),
        ([(1, 0.5)], True, Outcome.FAILED, Outcome.DIVERGED),
        ([(1, 0.05)], True, Outcome.FAILED, None),
        ([(1, 0.05)], False, Outcome.FAILED, None),
        ([(0, 0.05)], False, Outcome.FAILED, Outcome.FAILED),
        ([], False, Outcome.FAILED, Outcome.FAILED),
        ([(1, 0.5)], True, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY),
    ],
)
def test_a_run_that_reached_has_reached_and_a_nan_is_divergence(
    rows: list[tuple[float | None, float | None]], broken: bool, says: Outcome | None, expected: Outcome | None
) -> None:
    run = logged(rows, outcome=says, broken=frozenset({"val_loss"} if broken else ()))
    found = ending(run, curve(run, NAMES, READING, 8, Notes()), TARGET, Notes())
    assert found["outcome"] == (None if expected is None else expected.value)
    assert (found["message"] is not None) == (
        broken and says is not Outcome.OUT_OF_MEMORY or (expected is None and says is Outcome.FAILED)
    )
