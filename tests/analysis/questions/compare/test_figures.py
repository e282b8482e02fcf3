"""Curves end where the run ends, collapsed points lie on one line, dots and intervals are those of the fits."""

from __future__ import annotations

import numpy as np
import pytest

from bcrit.analysis.questions.compare.figures import MOST_BANDS, collapse_plot, curves_plot, look, numbers_plot
from bcrit.analysis.questions.compare.sides import StepsTable
from bcrit.analysis.report.figure import Trace
from tests.analysis.questions.compare.made_up import labelled, table

A = labelled("a", table("a", 100, 64))
B = labelled("<b>", table("b", 900, 8, sizes=(8.0, 16.0, 64.0, 256.0)))
NOISY = labelled("a", table("a", 100, 64, noise=0.03, seed=1))
SCALING = labelled("scaling", table("scaling", 1, 1e6, noise=0.03, seed=3))


def lines(data: list[Trace]) -> list[Trace]:
    return [trace for trace in data if trace["mode"] == "lines" and trace["line"]["width"] > 0]


def test_each_run_has_points_a_curve_and_a_name() -> None:
    drawn = curves_plot([A, B], "examples")
    assert drawn is not None
    assert [trace["name"] for trace in drawn["data"] if "name" in trace] == ["a", "&lt;b&gt;"]
    ends = [(trace["x"][0], trace["x"][-1]) for trace in lines(drawn["data"])]
    assert ends == [pytest.approx((4, 1024)), pytest.approx((8, 256))]


def test_runs_are_told_apart_by_more_than_colour() -> None:
    drawn = curves_plot([A, B], "examples")
    assert drawn is not None
    points = [trace["marker"] for trace in drawn["data"] if "name" in trace]
    assert len({point["symbol"] for point in points}) == len({point["color"] for point in points}) == 2
    assert len({trace["line"]["dash"] for trace in lines(drawn["data"])}) == 2


def test_many_bands_are_left_out() -> None:
    some = [labelled(str(k), table(str(k), 100, 64, noise=0.02, seed=k)) for k in range(MOST_BANDS + 1)]
    for runs, filled in ((some, 0), (some[1:], MOST_BANDS)):
        drawn = curves_plot(runs, "examples")
        assert drawn is not None
        assert sum("fill" in trace for trace in drawn["data"]) == filled


def test_an_unreached_study_is_drawn_where_its_training_ended() -> None:
    missing = table("m", 100, 64)
    missing.table.loc[0, ["steps", "max_steps"]] = [np.nan, 900.0]
    drawn = curves_plot([labelled("m", missing)], "examples")
    assert drawn is not None
    (trace,) = [t for t in drawn["data"] if t.get("name") == "m: not reached, more than this"]
    assert (trace["x"], trace["y"], trace["marker"]["symbol"]) == ([4], [900], "triangle-up-open")


def test_exact_hyperbolas_collapse_on_one_line() -> None:
    drawn = collapse_plot([A, B])
    assert drawn is not None
    for trace in drawn["data"][1:]:
        assert np.allclose(trace["y"], 1 + 1 / np.array(trace["x"]))


def test_without_a_knee_there_is_nothing_to_collapse() -> None:
    assert collapse_plot([SCALING]) is None
    drawn = collapse_plot([SCALING, A])
    assert drawn is not None and len(drawn["data"]) == 2


def test_without_studies_there_is_no_figure() -> None:
    nothing = table("n", 100, 64)
    assert curves_plot([labelled("n", StepsTable("n", nothing.table.iloc[:1]))], "examples") is None


def of(data: list[Trace], axis: str) -> list[Trace]:
    return [trace for trace in data if trace["xaxis"] == axis]


def test_every_number_has_its_row_of_axes() -> None:
    drawn = numbers_plot([NOISY, SCALING], "tokens")
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
    drawn = numbers_plot([NOISY], "examples")
    assert drawn is not None
    line, dot = of(drawn["data"], axis)
    assert line["x"] == pytest.approx([NOISY.estimates[name].low, NOISY.estimates[name].high])
    assert dot["x"] == pytest.approx([NOISY.estimates[name].value])
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
    assert numbers_plot([labelled("s", StepsTable("s", short.table.iloc[:1]))], "examples") is None


def test_twelve_runs_have_twelve_looks_and_neighbours_share_nothing() -> None:
    looks = [look(place) for place in range(12)]
    assert len({of[1:] for of in looks}) == 12  # without colour
    for one, other in zip(looks, looks[1:], strict=False):
        assert not set(one) & set(other)
