"""The last words of the page are the decision, with what should make a reader wait."""

from __future__ import annotations

from bcrit.analysis.report.answer import Plot, Rows
from bcrit.analysis.report.recommendation_section import closing_section, hardware_section
from tests.analysis.report import runs


def test_the_decision_is_the_recommendations_paragraph() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis)
    section = closing_section(analysis, recommendation)
    assert section.sentences == (recommendation.paragraph,)
    assert section.parts == ()


def test_without_a_fit_the_decision_is_not_to_decide() -> None:
    (text,) = closing_section(runs.partly(()), None).sentences
    assert text.startswith("Do not decide on a batch size from this run yet: A curve needs") or text.startswith(
        "Do not decide on a batch size from this run yet: a curve needs"
    )


def test_numbers_of_single_lucky_runs_are_to_be_confirmed_first() -> None:
    analysis = runs.partly((8, 16, 32, 64, 128, 256), confirm=False)
    (text,) = closing_section(analysis, runs.recommended(analysis)).sentences
    assert "The steps at 6 batch sizes are those of the luckiest single run of a search" in text


def test_an_optimum_at_the_end_of_what_was_searched_is_told() -> None:
    analysis = runs.widened()
    at_end = analysis.but(boundary=analysis.boundary.assign(widened_to=float("nan"), round=1, kind="box"))
    (text,) = closing_section(at_end, None).sentences
    assert "At 1 of 1 batch sizes the best lr lies at the end of what was searched: widen the search" in text


def test_several_kinds_of_hardware_have_a_figure_and_a_table_of_prices() -> None:
    analysis = runs.usual()
    section = hardware_section(runs.recommended_on_two(analysis))
    assert section is not None
    plot, prices = section.parts
    assert isinstance(plot, Plot) and isinstance(prices, Rows)
    assert prices.table.head[:3] == ("device", "price now", "chosen below")
    assert hardware_section(runs.recommended(analysis)) is None
    assert hardware_section(None) is None
