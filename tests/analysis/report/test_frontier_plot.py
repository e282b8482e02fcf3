"""The figure of time has one point a batch size of the frontier, in a unit that can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bcrit.analysis.report.frontier_plot import frontier_plot, time_unit
from tests.analysis.report import runs


def test_the_line_is_the_frontier_and_the_choices_lie_on_it() -> None:
    recommendation = runs.recommended(runs.usual())
    figure = frontier_plot(recommendation, "examples")
    assert figure is not None
    traces = {trace.get("name", "").split(":")[0]: trace for trace in figure["data"]}
    line = dict(zip(traces["frontier"]["x"], traces["frontier"]["y"], strict=True))
    assert line == {p.batch_size: pytest.approx((p.hours or 0) * 3.6e6) for p in recommendation.frontier}
    assert traces["batch size of a study"]["x"] == [8, 16, 32, 64, 128, 256]
    for name in ("balanced", "cheapest, fastest"):
        (x,), (y,) = traces[name]["x"], traces[name]["y"]
        assert line[x] == pytest.approx(y)


def test_every_hardware_has_a_line_of_its_own() -> None:
    recommendation = runs.recommended_on_two(runs.usual(), ("<b>big</b>", "small"))
    figure = frontier_plot(recommendation, "examples")
    assert figure is not None
    lines = {trace["name"]: trace for trace in figure["data"] if trace["mode"] == "lines"}
    assert set(lines) == {"1 x &lt;b&gt;big&lt;/b&gt;", "1 x small"}
    assert len({trace["line"]["color"] for trace in lines.values()}) == 2


def test_without_step_times_there_is_no_figure() -> None:
    assert frontier_plot(runs.recommended(runs.usual(), timed=False), "examples") is None


@pytest.mark.parametrize(
    ("hours", "unit"),
    [
        (48.0, "days"),
        (1.0, "hours"),
        (0.5, "minutes"),
        (0.01, "seconds"),
        (1e-5, "milliseconds"),
        (1e-9, "milliseconds"),
    ],
)
def test_times_are_told_in_the_largest_unit_that_leaves_them_above_one(hours: float, unit: str) -> None:
    recommendation = runs.recommended(runs.usual())
    points = tuple(replace(point, hours=hours * (1 + number)) for number, point in enumerate(recommendation.frontier))
    assert time_unit(replace(recommendation, frontier=points))[0] == unit
