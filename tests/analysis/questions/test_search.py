"""The panels of the search show every trial, in the plane that the space chooses, or fewer where they are too many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.questions import search as question
from bcrit.analysis.questions.search import MARKS, ask, coordinates, outline, shown_trials
from bcrit.analysis.report.answer import Answer, Panels
from bcrit.analysis.report.figure import Figure
from bcrit.analysis.run import Run
from bcrit.analysis.studies.steps_to_target import searched_spaces
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import SearchSpace
from tests.analysis.report import runs

SPACES = {
    "lr and momentum": runs.PLANE,
    "lr only": {"lr": "log from 0.01 to 10"},
    "fixed": {"lr": 0.1},
    "two others": {"lr": 0.1, "width": "integer from 4 to 64", "mix": "linear from 0 to 1"},
}


def drawn(analysis: Run) -> Panels:
    answer = ask(analysis)
    assert isinstance(answer, Answer)
    (panels,) = answer.parts
    assert isinstance(panels, Panels)
    return panels


def first(analysis: Run) -> Figure:
    return next(iter(drawn(analysis).figures.values()))


def keys(analysis: Run) -> list[str]:
    return [key.text for key in drawn(analysis).legend]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_trial_of_a_study_is_a_mark_of_its_outcome(space: dict[str, object]) -> None:
    analysis = runs.usual(space)
    assert list(drawn(analysis).figures) == list(analysis.studies["batch_size"])
    assert keys(analysis)[: len(Outcome)] == [outcome.value for outcome in Outcome]
    for batch_size, panel in drawn(analysis).figures.items():
        search = analysis.trials[(analysis.trials["batch_size"] == batch_size) & (analysis.trials["stage"] == "search")]
        traces = {trace["name"]: trace for trace in panel["data"]}
        for outcome in Outcome:
            expected = int((search["outcome"] == outcome).sum())
            assert len(traces[outcome]["x"]) == len(traces[outcome]["y"]) == expected
            assert None not in traces[outcome]["x"] + traces[outcome]["y"]
            assert traces[outcome]["marker"]["symbol"] == MARKS[outcome][0]


def test_every_outcome_has_a_symbol_of_its_own() -> None:
    assert set(MARKS) == set(Outcome)
    assert len({symbol for symbol, _ in MARKS.values()}) == len(Outcome)


def test_the_plane_is_that_of_the_effective_learning_rate() -> None:
    analysis = runs.usual()
    (batch_size, panel), *_ = drawn(analysis).figures.items()
    reached = next(trace for trace in panel["data"] if trace["name"] == "reached")
    rows = analysis.trials[
        (analysis.trials["batch_size"] == batch_size)
        & (analysis.trials["stage"] == "search")
        & (analysis.trials["outcome"] == "reached")
    ]
    assert reached["x"] == pytest.approx(list(rows["lr"] / (1 - rows["momentum"])))
    assert reached["y"] == pytest.approx(list(1 - rows["momentum"]))
    assert reached["marker"]["color"] == pytest.approx([math.log2(3), 0])


def test_the_best_point_is_marked() -> None:
    analysis = runs.usual()
    star = next(trace for trace in first(analysis)["data"] if trace["name"] == "point of the study")
    best = analysis.studies.iloc[0]
    assert star["y"] == pytest.approx([1 - best["momentum"]])


def test_first_and_widened_boxes_are_drawn() -> None:
    assert keys(runs.widened())[-2:] == ["search box", "widened box"] and "widened box" not in keys(runs.usual())
    panel = first(runs.widened())
    assert [trace["name"] for trace in panel["data"]][:2] == ["search box", "widened box 1"]
    own, wider = panel["data"][:2]
    assert max(wider["x"]) > max(own["x"])


def test_with_one_coordinate_trials_that_did_not_reach_stand_on_top() -> None:
    panel = first(runs.usual({"lr": "log from 0.01 to 10"}))
    traces = {trace["name"]: trace for trace in panel["data"]}
    assert min(traces["pruned"]["y"]) > max(traces["reached"]["y"])
    assert [shape["type"] for shape in panel["layout"]["shapes"]][0] == "rect"


def test_a_run_that_reached_nothing_is_drawn() -> None:
    analysis = runs.partly((), space={"lr": "log from 0.01 to 10"})
    assert "reached" not in keys(analysis)
    assert all(len(panel["data"]) == len(Outcome) - 1 for panel in drawn(analysis).figures.values())


AXES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "lr and momentum": (runs.PLANE, ["lr / (1 − momentum)", "1 − momentum"]),
    "lr": ({"lr": "log from 0.1 to 1", "momentum": 0.9}, ["lr"]),
    "momentum": ({"lr": 0.1, "momentum": "reverse_log from 0 to 0.9"}, ["1 − momentum"]),
    "the first two of three": ({k: "linear from 0 to 1" for k in "abc"}, ["a", "b"]),
    "conditional ones where there are no others": ({"a": {"x": {}, "y": {"z": "linear from 0 to 1"}}}, ["z"]),
    "conditional ones give way": ({"a": {"x": {"z": "linear from 0 to 1"}}, "b": "log from 1 to 2"}, ["b"]),
    "no number": ({"a": "choice of x, y"}, []),
}


@pytest.mark.parametrize(("space", "titles"), AXES.values(), ids=AXES)
def test_the_axes_fit_the_space(space: dict[str, Any], titles: list[str]) -> None:
    assert [coordinate.title for coordinate in coordinates(SearchSpace.model_validate(space))] == titles


def test_an_outline_encloses_the_points_of_its_box() -> None:
    space = SearchSpace.model_validate(runs.PLANE)
    plane = coordinates(space)
    x, y = (np.log(line) for line in outline(space, plane))
    rng = np.random.default_rng(0)
    for point in (space.sample(rng) for _ in range(50)):
        px, py = (np.log(coordinate.of(point)) for coordinate in plane)
        assert y.min() - 1e-9 <= py <= y.max() + 1e-9
        # lr, the sum of the two logarithms, bounds the box along the diagonal.
        assert (x + y).min() - 1e-9 <= px + py <= (x + y).max() + 1e-9
    assert (x[0], y[0]) == pytest.approx((x[-1], y[-1]))


def test_a_box_of_one_coordinate_is_a_span() -> None:
    space = SearchSpace.model_validate({"lr": "log from 0.1 to 10"})
    (line,) = outline(space, coordinates(space))
    assert list(line) == pytest.approx([0.1, 10])


def test_widened_boxes_follow_the_table_of_edges() -> None:
    analysis = runs.widened()
    declared, second = (space.box("lr") for space in searched_spaces(analysis.experiment, analysis.boundary, 8))
    assert (declared.low, declared.high) == (0.01, 10.0)
    assert second.low == declared.low
    assert second.high == analysis.boundary["widened_to"].iloc[0]


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
    monkeypatch.setattr(question, "shown_trials", lambda search: shown_trials(search.iloc[:-1], 999))
    analysis = runs.usual()
    total = int((analysis.trials["stage"] == "search").sum())
    assert f"Of {total} trials {total - 1} are drawn" in str(ask(analysis))
    panels = drawn(analysis).figures.values()
    marks = sum(len(trace["x"]) for panel in panels for trace in panel["data"] if "hovertext" in trace)
    assert marks == total - 1
    monkeypatch.undo()
    assert "are drawn" not in str(ask(analysis))
