"""Dots and intervals are those of the fits; open ends and unidentified numbers look different."""

from __future__ import annotations

import pytest

from bcrit.analysis.report.comparison.numbers_plot import numbers_plot
from bcrit.analysis.report.figure import Trace
from tests.analysis.comparison.made_up import labelled, table

A = labelled("a", table("a", 100, 64, noise=0.03, seed=1))
SCALING = labelled("scaling", table("scaling", 1, 1e6, noise=0.03, seed=3))


def of(data: list[Trace], axis: str) -> list[Trace]:
    return [trace for trace in data if trace["xaxis"] == axis]


def test_every_number_has_its_row_of_axes() -> None:
    drawn = numbers_plot([A, SCALING], "tokens")
    assert drawn is not None
    layout = drawn["layout"]
    assert [layout[f"xaxis{n}"]["title"]["text"] for n in ("", "2", "3")] == [
        "s_min (steps)",
        "e_min (tokens)",
        "b_crit (tokens)",
    ]
    assert layout["yaxis"]["ticktext"] == ["a", "scaling"]


@pytest.mark.parametrize(("axis", "name"), [("x", "s_min"), ("x2", "e_min"), ("x3", "b_crit")])
def test_dots_and_ends_are_the_estimates(axis: str, name: str) -> None:
    drawn = numbers_plot([A], "examples")
    assert drawn is not None
    line, dot = of(drawn["data"], axis)
    assert line["x"] == pytest.approx([A.estimates[name].low, A.estimates[name].high])
    assert dot["x"] == pytest.approx([A.estimates[name].value])
    assert line["line"]["dash"] == "solid" and "open" not in dot["marker"]["symbol"]


def test_an_open_end_is_a_triangle_and_an_unidentified_number_hollow() -> None:
    drawn = numbers_plot([SCALING], "examples")
    assert drawn is not None
    traces = of(drawn["data"], "x3")
    assert traces[0]["marker"]["symbol"] == ["line-ns", "triangle-right"]
    assert traces[0]["line"]["dash"] == "dot"
    assert all("not identified: above" in trace["hovertext"][0] for trace in traces)
    assert all(trace["marker"]["symbol"].endswith("-open") for trace in traces[1:])


def test_without_a_fit_there_is_no_figure() -> None:
    short = table("s", 100, 64)
    assert numbers_plot([labelled("s", type(short)("s", short.table.iloc[:1]))], "examples") is None
