"""The marks of a large study are fewer, but every outcome, the fastest and the slowest stay."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.report.shown_trials import shown_trials
from bcrit.analysis.report.trials_plot import trials_plot
from bcrit.search_spaces.outcome import Outcome
from tests.analysis.report import runs


def search(counts: dict[Outcome, int], batch_sizes: tuple[int, ...] = (8, 16)) -> pd.DataFrame:
    """So many trials of each outcome at every batch size, in mixed order."""
    rows = [
        {
            "batch_size": batch_size,
            "outcome": outcome.value,
            "steps": 10.0 + number,
            "steps_to_target": 10.0 + number if outcome is Outcome.REACHED else np.nan,
            "trial_id": f"{batch_size}-{outcome.value}-{number}",
        }
        for batch_size in batch_sizes
        for outcome, count in counts.items()
        for number in range(count)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


MANY = {Outcome.REACHED: 4000, Outcome.CAPPED: 2000, Outcome.DIVERGED: 500, Outcome.FAILED: 3}


def test_few_trials_are_all_shown() -> None:
    trials = search({Outcome.REACHED: 30, Outcome.FAILED: 1})
    assert shown_trials(trials, most=len(trials)) is trials


def test_about_as_many_as_asked_for_are_shown_each_once_and_in_order() -> None:
    trials = search(MANY)
    shown = shown_trials(trials, most=1000)
    assert 950 <= len(shown) <= 1050
    assert shown.index.is_monotonic_increasing and shown.index.is_unique
    pd.testing.assert_frame_equal(shown, trials.loc[shown.index])


def test_every_outcome_keeps_its_share_and_rare_ones_stay_whole() -> None:
    counts = shown_trials(search(MANY), most=1000).groupby("batch_size")["outcome"].value_counts().unstack()
    for _, of_study in counts.iterrows():
        assert of_study["failed"] == 3
        assert of_study["reached"] == pytest.approx(2 * of_study["capped"], rel=0.02)
        assert of_study["reached"] == pytest.approx(8 * of_study["diverged"], rel=0.05)


def test_the_fastest_and_the_slowest_of_every_study_are_shown() -> None:
    trials = search(MANY)
    shown = shown_trials(trials, most=200)
    for end in ("min", "max"):
        steps = [frame.groupby("batch_size")["steps_to_target"].agg(end).to_dict() for frame in (trials, shown)]
        assert steps[0] == steps[1]


def test_what_is_shown_is_spread_like_the_whole() -> None:
    trials = search(MANY, (8,))
    whole, part = (
        frame["steps_to_target"].quantile([0.1, 0.25, 0.5, 0.75]) for frame in (trials, shown_trials(trials, 500))
    )
    assert part.to_numpy() == pytest.approx(whole.to_numpy(), rel=0.02)


def test_the_order_of_the_rows_does_not_matter() -> None:
    trials = search(MANY)
    again = trials.sample(frac=1, random_state=1, ignore_index=True)
    assert set(shown_trials(trials, most=300)["trial_id"]) == set(shown_trials(again, most=300)["trial_id"])


def test_a_study_with_more_trials_than_marks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bcrit.analysis.report.trials_plot.shown_trials", lambda search: shown_trials(search.iloc[:-1], 999)
    )
    analysis = runs.usual()
    total = int((analysis.trials["stage"] == "search").sum())
    drawn = trials_plot(analysis)
    assert f"Of {total} trials {total - 1} are drawn" in drawn.sentence
    marks = sum(len(trace["x"]) for _, panel in drawn.panels for trace in panel["data"] if "hovertext" in trace)
    assert marks == total - 1
    monkeypatch.undo()
    assert "are drawn" not in trials_plot(analysis).sentence
