"""The section on batch sizes that change along training: figures, table, when it is out of date."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from bcrit.analysis.report.adaptive_section import adaptive_section, answer_table, rate_table
from bcrit.analysis.report.answer import Answer, Plot
from bcrit.analysis.report.build import build_report
from bcrit.analysis.run import Run
from tests.analysis.adaptive.made_up import SIZES, adaptive
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def analysis() -> Run:
    return runs.usual().but(adaptive=adaptive())


@pytest.fixture(scope="module")
def section(analysis: Run) -> Answer:
    found = adaptive_section(analysis)
    assert found is not None
    return found


def test_without_a_measurement_there_is_no_section() -> None:
    assert adaptive_section(runs.usual()) is None


def test_every_figure_is_one_that_plotly_draws(section: Answer) -> None:
    plots = {part.name: part for part in section.parts if isinstance(part, Plot)}
    assert list(plots) == ["adaptive-frontier", "adaptive-batch-sizes"]
    for plot in plots.values():
        go.Figure(plot.figure)
    legend = [t["name"] for t in plots["adaptive-frontier"].figure["data"] if t.get("showlegend", True)]
    assert legend == [
        *("curve through the fixed batch sizes", "hyperbola", "fixed batch size"),
        *("follows the noise scale", "ramp"),
    ]
    lines = plots["adaptive-batch-sizes"].figure["data"]
    assert len(lines) == 4 * 5 and [t["name"] for t in lines if t["showlegend"]] == [
        *("r = 16", "r = 64", "r = 256", "ramp 0:8")
    ]


def test_marks_stand_at_the_means(section: Answer) -> None:
    [plot] = [part for part in section.parts if isinstance(part, Plot) and part.name == "adaptive-frontier"]
    marks = next(t for t in plot.figure["data"] if t.get("name") == "follows the noise scale")
    assert marks["x"] == [one.steps for one in adaptive().of("noise")]


def test_the_table_has_a_row_a_schedule_with_intervals() -> None:
    table = answer_table(adaptive())
    assert len(table.rows) == len(SIZES) + 4
    row = dict(zip(table.head, next(row for row in table.rows if row[0] == "r = 64"), strict=True))
    assert row["reached"] == "5 of 5" and " to " in row["over fixed"] and row["gamma predicted"] == "0.96"
    assert rate_table(adaptive()).rows[0] == ("8", "0.08", "sgd")


def test_batch_sizes_that_were_confirmed_since_are_said(analysis: Run) -> None:
    text = "run `bcrit adaptive` again"
    assert any(text in said for said in adaptive_section(analysis).sentences)  # type: ignore[union-attr]
    now = tuple(int(b) for b in analysis.studies["batch_size"])
    fresh = analysis.but(adaptive=adaptive(tuned_at=now, rates=(0.1,) * len(now)))
    assert not any(text in said for said in adaptive_section(fresh).sentences)  # type: ignore[union-attr]


def test_the_page_has_it_and_escapes_what_comes_from_users(analysis: Run) -> None:
    evil = analysis.but(adaptive=adaptive(unit=runs.EVIL, notes=(runs.EVIL,)))
    page = build_report(evil)
    assert 'id="adaptive"' in page and "<script>alert" not in page
