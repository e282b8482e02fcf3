"""The figure of the exchange shows every study that reached, and the choices on the curve."""

from __future__ import annotations

from bcrit.analysis.report.examples_plot import examples_plot
from tests.analysis.report import runs


def test_points_are_steps_and_examples_labelled_with_the_batch_size() -> None:
    analysis = runs.usual()
    figure = examples_plot(analysis, None)
    assert figure is not None
    points = figure["data"][-1]
    assert points["x"] == list(analysis.studies["steps"])
    assert points["y"] == list(analysis.studies["examples"])
    assert points["text"] == ["8", "16", "32", "64", "128", "256"]


def test_choices_that_agree_share_a_mark_on_the_curve() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis)
    figure = examples_plot(analysis, recommendation)
    assert figure is not None
    marks = {trace["name"].split(":")[0]: trace for trace in figure["data"]}
    cheapest = recommendation.choices["cheapest"]
    assert marks["cheapest, fastest"]["x"] == [cheapest.steps]
    assert marks["cheapest, fastest"]["y"] == [cheapest.examples]
    assert "balanced" in marks


def test_both_asymptotes_are_drawn() -> None:
    analysis = runs.usual()
    assert analysis.fit is not None
    figure = examples_plot(analysis, None)
    assert figure is not None
    vertical, horizontal = figure["layout"]["shapes"]
    assert vertical["x0"] == vertical["x1"] == analysis.fit.s_min
    assert horizontal["y0"] == horizontal["y1"] == analysis.fit.e_min


def test_nothing_is_drawn_where_nothing_was_reached() -> None:
    assert examples_plot(runs.partly(()), None) is None
