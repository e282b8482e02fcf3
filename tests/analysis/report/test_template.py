"""Templates escape what they are given and refuse what they are not."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from bcrit.analysis.report.answer import Answer
from bcrit.analysis.report.template import page_of, render

RUNS = [{"label": label, "target": None, "location": label} for label in ("<b>one</b>", "two")]
ANSWER = Answer("compare", "<b>one</b> and two", (), (), {"runs": RUNS, "assumed": ()})


def test_texts_are_escaped() -> None:
    page = page_of(ANSWER, "x")
    assert "&lt;b&gt;one&lt;/b&gt;" in page and "<b>one" not in page


def test_styles_and_scripts_are_in_the_page() -> None:
    page = page_of(ANSWER, "x")
    assert page.count("* plotly.js v") == 1 and "max-width: 1120px" in page


def test_a_missing_word_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="generator"):
        render("comparison.html", title="x", runs=RUNS)
