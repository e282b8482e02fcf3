"""What to choose: tables, figures and the last words of the page; several devices, limits and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.questions.recommend import answer, by_place, cost_plot, decision, frontier_plot, hardware, time_unit
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table
from tests.analysis.report import runs
from tests.bcrit.command import bcrit, refused

STEPS = "batch_size,steps\n" + "".join(f"{2**k},{500 * (1 + 200 / 2**k)}\n" for k in range(3, 13))
TIMES = """device,devices,batch_size,examples_per_second
h100,1,8,1.6
h100,1,4096,74.4
h100,8,8,1.6
h100,8,4096,310
a100,1,8,0.9
a100,1,4096,31
"""


@pytest.fixture()
def tables(tmp_path: Path) -> Path:
    (tmp_path / "steps.csv").write_text(STEPS)
    (tmp_path / "times.csv").write_text(TIMES)
    return tmp_path


def column(table: Table, name: str) -> list[str]:
    return [row[table.head.index(name)] for row in table.rows]


def tables_of(found: Answer) -> dict[str, Table]:
    return {part.heading: part.table for part in found.parts if isinstance(part, Rows)}


def test_several_devices_are_weighed_in_one_answer(tables: Path) -> None:
    options = ["--step-time", "times.csv", "--price", "h100=3", "--price", "a100=1"]
    found = json.loads(bcrit("recommend", "steps.csv", *options, "--json", cwd=tables).stdout)
    devices = {(point["device"], point["devices"]) for point in found["frontier"]}
    assert devices == {("h100", 1), ("h100", 8), ("a100", 1)}
    assert (found["choices"]["fastest"]["device"], found["choices"]["fastest"]["devices"]) == ("h100", 8)
    assert {"efficiency", "efficient"} <= set(found["frontier"][0])
    assert found["cost_unit"] == "currency" and found["balanced_by"] == "hours_x_cost"
    done = bcrit("recommend", "steps.csv", *options, cwd=tables)
    assert done.returncode == 0
    assert done.stdout.startswith(found["paragraph"])


def test_limits_that_cannot_be_kept_end_with_1_and_name_the_device_that_comes_nearest(tables: Path) -> None:
    options = ["--step-time", "times.csv", "--max-hours", "0.01", "--json"]
    done = bcrit("recommend", "steps.csv", *options, cwd=tables)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["paragraph"].startswith("Do not start under these limits")
    assert (found["infeasible"][0]["device"], found["infeasible"][0]["devices"]) == ("h100", 8)


def test_the_unit_and_the_level_of_a_table_can_be_given(tables: Path) -> None:
    options = ["--unit", "tokens", "--level", "0.5", "--max-steps", "620", "--json"]
    found = json.loads(bcrit("recommend", "steps.csv", *options, cwd=tables).stdout)
    assert (found["unit"], found["level"]) == ("tokens", 0.5)
    assert "tokens" in found["paragraph"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step-time", "times.csv", "--devices", "2"], "the column 'devices' and --devices both say"),
        (["--step-time", "times.csv", "--price", "b200=1"], "the devices of the table are h100, a100"),
        (["--price", "h100=1"], "which only a table given by --step-time has"),
        (["--step-time", "times.csv", "--price", "h100"], "must have the form KIND=NUMBER"),
        (["--max-hours", "3"], "'max_hours' needs step times"),
        (["--level", "2"], "level"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_contradiction_is_one_message(tables: Path, options: list[str], message: str) -> None:
    assert message in refused(bcrit("recommend", "steps.csv", *options, cwd=tables))


@pytest.mark.parametrize("timed", [True, False])
def test_choices_say_what_they_take_and_how_to_train(timed: bool) -> None:
    found = runs.recommended(runs.usual(), timed=timed, max_steps=50)
    table, advice, *_ = tables_of(answer(found)).values()
    named = [name for cell in column(table, "choice") for name in cell.split(", ")]
    assert sorted(named) == ["balanced", "best", "cheapest", "fastest", "safe"]
    # Choices that agree share a row.
    assert len(table.rows) == len(set(found.choices.values())) == (2 if timed else 4)
    assert all("%" in cell for cell in column(table, "sample efficiency"))
    assert ("cost (device-hours)" in table.head) == timed
    assert column(advice, "choice") == column(table, "choice")
    assert {"lr", "momentum", "where from"} < set(advice.head)
    assert f"All {len(found.frontier)} points of the frontier" in tables_of(answer(found))


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


def test_the_decision_is_the_recommendations_paragraph() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis)
    shown = decision(analysis.but(recommendation=recommendation))
    assert (shown.sentences, shown.parts) == ((recommendation.paragraph,), ())


def test_without_a_fit_the_decision_is_not_to_decide() -> None:
    (text,) = decision(runs.partly(())).sentences
    assert text.casefold().startswith("do not decide on a batch size from this run yet: a curve needs")


def test_numbers_of_single_lucky_runs_are_to_be_confirmed_first() -> None:
    (text,) = decision(runs.partly((8, 16, 32, 64, 128, 256), confirm=False)).sentences
    assert "The steps at 6 batch sizes are those of the luckiest single run of a search" in text


def test_an_optimum_at_the_end_of_what_was_searched_is_told() -> None:
    analysis = runs.widened()
    at_end = analysis.but(boundary=analysis.boundary.assign(widened_to=float("nan"), round=1, kind="box"))
    (text,) = decision(at_end).sentences
    assert "At 1 of 1 batch sizes the best lr lies at the end of what was searched: widen the search" in text


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
    found, names = (
        runs.recommended_on_two(runs.usual(), ("<b>big</b>", "small")),
        {"1 x &lt;b&gt;big&lt;/b&gt;", "1 x small"},
    )
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
