"""The figure of the answer shows every study once, and of the fit what is known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bcrit.analysis.questions.steps import ask, examples_plot, steps_plot
from bcrit.analysis.report.answer import Answer
from bcrit.analysis.report.figure import Figure
from tests.analysis.report import runs


def trace(figure: Figure, start: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in figure["data"] if t.get("name", "").startswith(start))
    return found


def names(figure: Figure) -> list[str]:
    return [t.get("name", "").split(":")[0] for t in figure["data"]]


def words(figure: Figure) -> str:
    return " ".join(note["text"] for note in figure["layout"]["annotations"])


def test_confirmed_studies_stand_at_their_median_with_their_interval() -> None:
    analysis = runs.usual()
    points = trace(steps_plot(analysis), "confirmed")
    assert points["x"] == list(analysis.studies["batch_size"])
    assert points["y"] == list(analysis.studies["steps"])
    assert points["error_y"]["array"] == list(analysis.studies["steps_high"] - analysis.studies["steps"])
    assert points["error_y"]["arrayminus"] == list(analysis.studies["steps"] - analysis.studies["steps_low"])


def test_studies_that_were_not_reached_point_up_from_where_training_ended() -> None:
    figure = steps_plot(runs.partly((32, 64, 128)))
    points = trace(figure, "not reached")
    assert points["x"] == [8, 16, 256]
    assert points["y"] == [90, 50, 12]
    assert points["marker"]["symbol"] == "triangle-up-open"
    assert trace(figure, "confirmed")["x"] == [32, 64, 128]


def test_studies_without_fresh_seeds_are_hollow() -> None:
    figure = steps_plot(runs.partly((8, 16, 32, 64, 128, 256), confirm=False))
    assert trace(figure, "search only")["x"] == [8, 16, 32, 64, 128, 256]
    assert "confirmed" not in names(figure)


def test_the_curve_and_its_asymptotes_are_those_of_the_fit() -> None:
    analysis = runs.usual()
    assert analysis.fit is not None
    figure = steps_plot(analysis)
    for name, expected in (
        ("fitted", lambda b: analysis.fit.curve.steps(b)),
        ("perfect", lambda b: analysis.fit.e_min / b),
        ("least", lambda b: analysis.fit.s_min),
    ):
        line = trace(figure, name)
        assert line["y"] == pytest.approx([float(expected(b)) for b in line["x"]])
    assert "b_crit = 61 (" in words(figure)
    assert figure["layout"]["shapes"][-1]["x0"] == analysis.fit.b_crit


def test_a_bent_row_of_points_gets_the_curve_with_a_free_knee() -> None:
    assert "curve with a free knee (p = 4)" in names(steps_plot(runs.bent()))
    assert not [name for name in names(steps_plot(runs.usual())) if "free knee" in name]


def test_a_b_crit_that_is_not_identified_is_called_so() -> None:
    assert "b_crit not identified" in words(steps_plot(runs.partly((32, 64))))


def test_without_a_fit_only_the_studies_are_drawn() -> None:
    figure = steps_plot(runs.partly(()))
    assert names(figure) == ["not reached"]
    assert figure["layout"]["annotations"] == figure["layout"]["shapes"] == []


def test_ticks_stand_at_the_batch_sizes() -> None:
    axis = steps_plot(runs.usual())["layout"]["xaxis"]
    assert axis["tickvals"] == [8, 16, 32, 64, 128, 256]
    assert 10 ** axis["range"][0] < 8 < 256 < 10 ** axis["range"][1]
    assert math.isfinite(sum(axis["range"]))


def test_points_are_steps_and_examples_labelled_with_the_batch_size() -> None:
    analysis = runs.usual()
    figure = examples_plot(analysis)
    assert figure is not None
    points = figure["data"][-1]
    assert points["x"] == list(analysis.studies["steps"])
    assert points["y"] == list(analysis.studies["examples"])
    assert points["text"] == ["8", "16", "32", "64", "128", "256"]


def test_choices_that_agree_share_a_mark_on_the_curve() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis)
    figure = examples_plot(analysis.but(recommendation=recommendation))
    assert figure is not None
    marks = {trace["name"].split(":")[0]: trace for trace in figure["data"]}
    cheapest = recommendation.choices["cheapest"]
    assert marks["cheapest, fastest"]["x"] == [cheapest.steps]
    assert marks["cheapest, fastest"]["y"] == [cheapest.examples]
    assert "balanced" in marks


def test_both_asymptotes_are_drawn() -> None:
    analysis = runs.usual()
    assert analysis.fit is not None
    figure = examples_plot(analysis)
    assert figure is not None
    vertical, horizontal = figure["layout"]["shapes"]
    assert vertical["x0"] == vertical["x1"] == analysis.fit.s_min
    assert horizontal["y0"] == horizontal["y1"] == analysis.fit.e_min


def test_nothing_is_drawn_where_nothing_was_reached() -> None:
    assert examples_plot(runs.partly(())) is None


def test_the_steps_ask_nothing_else() -> None:
    """`bcrit analyze` prints at once: what takes seconds, such as the importances, is asked for by name."""
    analysis = runs.usual()
    assert isinstance(ask(analysis), Answer)
    assert not {"sensitivity", "laws"} & set(vars(analysis))
