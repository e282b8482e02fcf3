"""What to choose: tables, figures and the last words of the page."""

from dataclasses import replace

import pytest

from bcrit.analysis.questions.recommend import answer, by_place, cost_plot, frontier_plot, hardware, time_unit
from bcrit.analysis.report import Answer, Plot, Rows, Table
from tests.analysis.report import runs


def column(table: Table, name: str) -> list[str]:
    return [row[table.head.index(name)] for row in table.rows]


def tables_of(found: Answer) -> dict[str, Table]:
    return {part.heading: part.table for part in found.parts if isinstance(part, Rows)}


def test_with_several_kinds_of_hardware_each_row_says_on_which() -> None:
    analysis = runs.usual()
    found = answer(runs.recommended_on_two(analysis, max_hours=1e-9))
    limits = next(part.table for part in found.parts if isinstance(part, Rows))
    assert column(limits, "on") == ["1 x big"] and not found.yes
    (every,) = (table for heading, table in tables_of(found).items() if heading.startswith("All"))
    assert set(column(every, "on")) == {"1 x big", "1 x small"}
    shown = hardware(analysis.but(recommendation=runs.recommended_on_two(analysis)))
    assert isinstance(shown, Answer)
    plot, prices = shown.parts
    assert isinstance(plot, Plot) and isinstance(prices, Rows)
    assert prices.table.head[:3] == ("device", "price now", "chosen below")
    assert column(prices.table, "device")[0] in ("big", "small")
    assert isinstance(hardware(analysis), str)


def test_the_line_is_the_frontier_and_the_choices_lie_on_it() -> None:
    found = runs.recommended(runs.usual())
    figure = frontier_plot(found)
    assert figure is not None
    traces = {trace.get("name", "").split(":")[0]: trace for trace in figure["data"]}
    line = dict(zip(traces["frontier"]["x"], traces["frontier"]["y"], strict=True))
    assert line == {p.batch_size: pytest.approx((p.hours or 0) * 3.6e6) for p in found.frontier}
    assert traces["batch size of a study"]["x"] == [8, 16, 32, 64, 128, 256]
    for name in ("balanced", "cheapest, fastest"):
        (x,), (y,) = traces[name]["x"], traces[name]["y"]
        assert line[x] == pytest.approx(y)
    assert frontier_plot(runs.recommended(runs.usual(), timed=False)) is None


def test_every_hardware_has_a_line_of_its_own_and_a_point_at_its_fastest_batch_size() -> None:
    found = runs.recommended_on_two(runs.usual(), ("<b>big</b>", "small"))
    names = {"1 x &lt;b&gt;big&lt;/b&gt;", "1 x small"}
    frontier, cost = frontier_plot(found), cost_plot(found)
    assert frontier is not None and cost is not None
    lines = {trace["name"]: trace for trace in frontier["data"] if trace["mode"] == "lines"}
    assert set(lines) == names and len({trace["line"]["color"] for trace in lines.values()}) == 2
    marks = [trace for trace in cost["data"] if trace["mode"] == "markers+text"]
    assert {text.strip() for trace in marks for text in trace["text"]} == names
    assert found.choices["fastest"].cost in [cost for trace in marks for cost in trace["y"]]
    assert cost_plot(runs.recommended(runs.usual())) is None


def test_the_same_batch_size_on_other_hardware_has_a_mark_of_its_own() -> None:
    found = runs.recommended_on_two(runs.usual())
    cheapest, fastest, figure = found.choices["cheapest"], found.choices["fastest"], cost_plot(found)
    assert cheapest.batch_size == fastest.batch_size and cheapest.device != fastest.device and figure is not None
    names = [trace["name"] for trace in figure["data"]]
    assert any(name.startswith("cheapest") and name.endswith("on 1 x small") for name in names)
    assert any("fastest" in name and name.endswith("on 1 x big") for name in names)
    limited = runs.recommended_on_two(runs.usual(), max_steps=50)
    assert sorted(name for names in by_place(limited).values() for name in names) == sorted(limited.choices)


def test_what_another_beats_in_both_is_grey() -> None:
    found = runs.recommended_on_two(runs.usual())
    beaten = tuple(replace(p, efficient=p.efficient and p.device == "big") for p in found.frontier)
    for shown, grey in ((found, []), (replace(found, frontier=beaten), ["1 x small"])):
        figure = cost_plot(shown)
        assert figure is not None
        traces = {trace["name"]: trace for trace in figure["data"]}
        texts = traces.get("slower or dearer than another", {"text": []})["text"]
        assert [text.strip() for text in texts] == grey


def test_limits_are_lines() -> None:
    figure = cost_plot(runs.recommended_on_two(runs.usual(), max_hours=1.0, max_cost=2.0))
    assert figure is not None
    deadline, budget = figure["layout"]["shapes"]
    assert deadline["x0"] == deadline["x1"] == pytest.approx(3.6e6)  # an hour in the figure's milliseconds
    assert budget["y0"] == budget["y1"] == 2.0
    assert {"deadline", "budget"} <= {trace["name"] for trace in figure["data"]}


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
    found = runs.recommended(runs.usual())
    points = tuple(replace(point, hours=hours * (1 + number)) for number, point in enumerate(found.frontier))
    assert time_unit(replace(found, frontier=points))[0] == unit
