"""Values become text that is never markup."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bcrit.analysis.report.labels import hover, interval_text, label, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (pd.NA, "–"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (True, "True"),
        (16, "16"),
        (1234.5, "1,234"),
        (0.01234, "0.0123"),
        ("cosine", "cosine"),
    ],
)
def test_values_are_written_in_three_digits_or_as_they_are(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_markup_in_a_label_is_escaped() -> None:
    assert label("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"


def test_a_long_value_is_cut_before_it_is_escaped() -> None:
    assert label("<" * 500) == "&lt;" * 119 + "…"


def test_both_names_and_values_of_a_hover_box_are_escaped() -> None:
    assert hover({"<i>": "<b>", "n": 3}) == "&lt;i&gt;: &lt;b&gt;<br>n: 3"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (70.2, 114, "89.5 (70.2 to 114)"),
        (0, 114, "89.5 (below 114)"),
        (70.2, math.inf, "89.5 (above 70.2)"),
        (0, math.inf, "89.5 (no interval)"),
        (None, None, "89.5 (no interval)"),
        (math.nan, math.nan, "89.5 (no interval)"),
    ],
)
def test_open_ends_of_an_interval_are_words(low: float | None, high: float | None, text: str) -> None:
    assert interval_text(89.5, low, high) == text


def test_an_interval_that_is_nothing_is_none() -> None:
    assert interval_text(None, 0.0, 0.0) == "no interval" and interval_text(None, 0.0, 0.5) == "below 0.5"
