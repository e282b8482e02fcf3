"""Time against money has a point a hardware, and the limits that were given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bcrit.analysis.report.cost_plot import cost_plot
from tests.analysis.report import runs


def test_every_hardware_is_a_point_at_its_fastest_batch_size() -> None:
    recommendation = runs.recommended_on_two(runs.usual(), ("<b>big</b>", "small"))
    figure = cost_plot(recommendation, "examples")
    assert figure is not None
    marks = [trace for trace in figure["data"] if trace["mode"] == "markers+text"]
    assert {text.strip() for trace in marks for text in trace["text"]} == {"1 x &lt;b&gt;big&lt;/b&gt;", "1 x small"}
    fastest = recommendation.choices["fastest"]
    assert fastest.cost in [cost for trace in marks for cost in trace["y"]]


def test_what_another_beats_in_both_is_grey() -> None:
    recommendation = runs.recommended_on_two(runs.usual())
    beaten = tuple(replace(p, efficient=p.efficient and p.device == "big") for p in recommendation.frontier)
    for shown, grey in ((recommendation, []), (replace(recommendation, frontier=beaten), ["1 x small"])):
        figure = cost_plot(shown, "examples")
        assert figure is not None
        traces = {trace["name"]: trace for trace in figure["data"]}
        found = traces.get("slower or dearer than another", {"text": []})["text"]
        assert [text.strip() for text in found] == grey


def test_limits_are_lines() -> None:
    recommendation = runs.recommended_on_two(runs.usual(), max_hours=1.0, max_cost=2.0)
    figure = cost_plot(recommendation, "examples")
    assert figure is not None
    deadline, budget = figure["layout"]["shapes"]
    assert deadline["x0"] == deadline["x1"] == pytest.approx(3.6e6)  # an hour in the figure's milliseconds
    assert budget["y0"] == budget["y1"] == 2.0
    assert {"deadline", "budget"} <= {trace["name"] for trace in figure["data"]}


def test_one_hardware_needs_no_such_figure() -> None:
    assert cost_plot(runs.recommended(runs.usual()), "examples") is None
