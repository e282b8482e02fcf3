"""Templates escape what they are given and refuse what they are not."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from bcrit.analysis.report.template import render

WORDS = {
    "generator": "x",
    "labels": ["<b>one</b>", "two"],
    "targets": [],
    "answer": (),
    "cautions": (),
    "assumed": (),
    "places": (),
    "sections": (),
    "figures": {},
}


def test_texts_are_escaped() -> None:
    page = render("comparison.html", **WORDS)
    assert "&lt;b&gt;one&lt;/b&gt;" in page and "<b>one" not in page


def test_styles_and_scripts_are_in_the_page() -> None:
    page = render("comparison.html", **WORDS)
    assert page.count("* plotly.js v") == 1 and "max-width: 1120px" in page


def test_a_missing_word_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="answer"):
        render("comparison.html", **{name: word for name, word in WORDS.items() if name != "answer"})
