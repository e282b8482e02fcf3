"""The panels of the search show every trial, whatever became of it."""

from __future__ import annotations

import math

import pytest

from bcrit.analysis.report.trials_plot import MARKS, trials_plot
from bcrit.search_spaces.outcome import Outcome
from tests.analysis.report import runs

SPACES = {
    "lr and momentum": runs.PLANE,
    "lr only": {"lr": "log from 0.01 to 10"},
    "fixed": {"lr": 0.1},
    "two others": {"lr": 0.1, "width": "integer from 4 to 64", "mix": "linear from 0 to 1"},
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_trial_of_a_study_is_a_mark_of_its_outcome(space: dict[str, object]) -> None:
    analysis = runs.usual(space)
    drawn = trials_plot(analysis)
    assert [batch_size for batch_size, _ in drawn.panels] == list(analysis.studies["batch_size"])
    assert drawn.outcomes == tuple(Outcome)
    for batch_size, panel in drawn.panels:
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
    (batch_size, panel), *_ = trials_plot(analysis).panels
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
    (_, panel), *_ = trials_plot(analysis).panels
    star = next(trace for trace in panel["data"] if trace["name"] == "point of the study")
    best = analysis.studies.iloc[0]
    assert star["y"] == pytest.approx([1 - best["momentum"]])


def test_first_and_widened_boxes_are_drawn() -> None:
    drawn = trials_plot(runs.widened())
    assert drawn.widened
    ((_, panel),) = drawn.panels
    assert [trace["name"] for trace in panel["data"]][:2] == ["search box", "widened box 1"]
    first, wider = panel["data"][:2]
    assert max(wider["x"]) > max(first["x"])


def test_with_one_coordinate_trials_that_did_not_reach_stand_on_top() -> None:
    (_, panel), *_ = trials_plot(runs.usual({"lr": "log from 0.01 to 10"})).panels
    traces = {trace["name"]: trace for trace in panel["data"]}
    assert min(traces["pruned"]["y"]) > max(traces["reached"]["y"])
    assert [shape["type"] for shape in panel["layout"]["shapes"]][0] == "rect"


def test_a_run_that_reached_nothing_is_drawn() -> None:
    drawn = trials_plot(runs.partly((), space={"lr": "log from 0.01 to 10"}))
    assert Outcome.REACHED not in drawn.outcomes
    assert all(len(panel["data"]) == len(Outcome) - 1 for _, panel in drawn.panels)
