"""The comparison as a whole: runs and tables mixed, JSON without infinities, tables, figures, refusals."""

import numpy as np
import pytest

from bcrit.analysis.questions.compare import _look, ask, collapse_plot, curves_plot, numbers_plot
from bcrit.analysis.questions.compare.sides import StepsTable
from bcrit.analysis.report import Answer, Figure, Plot, Rows, Table, Trace
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from tests.analysis.questions.compare.made_up import SCALING, compared, labelled, missing, run, table

RUN, TABLE = run("a"), table("t", 100, 64, noise=0.03, seed=1)


def tables(answer: Answer) -> dict[str, Table]:
    parts = [part for section in answer.sections for part in section.parts]
    return {part.heading: part.table for part in parts if isinstance(part, Rows)}


def cells(table: Table, row: int) -> dict[str, str]:
    return dict(zip(table.head, table.rows[row], strict=True))


def test_nothing_comparable_is_known_as_such() -> None:
    assert not compared("other targets").yes and compared("other targets", across_targets=True).yes


@pytest.mark.parametrize(
    ("sources", "message"),
    [([], "two or more runs are needed, but there is 0"), ([RUN, TABLE, RUN], "'runs/a-sgd-0' is given twice")],
    ids=["none", "twice"],
)
def test_bad_input_is_refused(sources: list[Run | StepsTable], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(sources)


def test_what_is_known_of_a_number_or_a_ratio_is_in_its_cell() -> None:
    shown = tables(compared("two tables"))
    numbers = [cells(shown["Numbers, with their intervals"], row) for row in range(2)]
    assert numbers[0]["s_min"].endswith(")") and numbers[1]["b_crit"].startswith("not identified (above ")
    rows = {row[1]: dict(zip(shown["Against missing"].head, row, strict=True)) for row in shown["Against missing"].rows}
    assert rows["b_crit"]["ratio (interval)"].startswith("above ") and rows["b_crit"]["verdict"] == "differs"
    assert rows["b_crit"]["p"] == "< 0.0001"
    assert rows["s_min"]["ratio (interval)"] == rows["s_min"]["p"] == "–" and "not identified" in rows["s_min"]["why"]
    sizes = shown["As measured, at the batch sizes of both runs"]
    row = cells(sizes, 0)  # a run that did not reach keeps the bound on its ratio
    assert row["ratio (interval)"].startswith("below ") and row["fewer steps"].startswith("missing did not reach")


def test_figures_are_of_runs_that_can_share_an_axis_and_long_tables_are_folded() -> None:
    for case, names in (("two runs", ["curves-0", "collapse", "numbers-0"]), ("two units", 5)):
        plots = [part.name for one in compared(case).sections for part in one.parts if isinstance(part, Plot)]
        assert (plots if isinstance(names, list) else len(plots)) == names
    seven = compared("seven tables")
    parts = [part for section in seven.sections for part in section.parts]
    assert sum(isinstance(part, Rows) and part.folded for part in parts) == 2
    assert any(isinstance(part, Plot) and "the bands are left out." in part.caption for part in parts)


# --- figures ---

A = labelled("a", table("a", 100, 64))
B = labelled("<b>", table("b", 900, 8, sizes=(8.0, 16.0, 64.0, 256.0)))
NOISY, STEEP = labelled("a", TABLE), labelled("scaling", SCALING)


def data(figure: Figure | None) -> list[Trace]:
    assert figure is not None
    return list(figure["data"])


def test_many_bands_are_left_out() -> None:
    some = [labelled(str(k), table(str(k), 100, 64, noise=0.02, seed=k)) for k in range(7)]
    for sides, filled in ((some, 0), (some[1:], 6)):
        assert sum("fill" in trace for trace in data(curves_plot(sides, "examples"))) == filled


def test_an_unreached_study_is_drawn_where_its_training_ended() -> None:
    drawn = data(curves_plot([labelled("m", missing())], "examples"))
    (trace,) = [t for t in drawn if t.get("name") == "m: not reached, more than this"]
    assert (trace["x"], trace["y"], trace["marker"]["symbol"]) == ([4], [900], "triangle-up-open")


def test_exact_hyperbolas_collapse_on_one_line_where_there_is_a_knee() -> None:
    for trace in data(collapse_plot([A, B]))[1:]:
        assert np.allclose(trace["y"], 1 + 1 / np.array(trace["x"]))
    assert collapse_plot([STEEP]) is None and len(data(collapse_plot([STEEP, A]))) == 2


def test_an_open_end_is_a_triangle_and_an_unidentified_number_hollow() -> None:
    traces = [trace for trace in data(numbers_plot([STEEP], "examples")) if trace["xaxis"] == "x3"]
    assert traces[0]["marker"]["symbol"] == ["line-ns", "triangle-right"]
    assert traces[0]["line"]["dash"] == "dot"
    assert all("not identified: above" in trace["hovertext"][0] for trace in traces)
    assert all(trace["marker"]["symbol"].endswith("-open") for trace in traces[1:])


def test_without_studies_or_a_fit_there_is_no_figure() -> None:
    nothing = labelled("n", StepsTable("n", TABLE.table.iloc[:1]))
    assert curves_plot([nothing], "examples") is None and numbers_plot([nothing], "examples") is None


def test_twelve_runs_have_twelve_looks_and_neighbours_share_nothing() -> None:
    looks = [_look(place) for place in range(12)]
    assert len({of[1:] for of in looks}) == 12  # without colour
    for one, other in zip(looks, looks[1:], strict=False):
        assert not set(one) & set(other)
