"""Ticks stand at few and readable places; values become text that is never markup; marks have what they are given."""

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.numbers import interval_text, value_text
from bcrit.analysis.report import hover, in_turn, label, log_axis, points, round_numbers, thinned, tick_text, value_axis


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [
        (1, 1e6, [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
        (0.5, 80, [1, 3, 10, 30]),
        (10, 200, [10, 20, 50, 100, 200]),
        (80, 110, [80, 90, 100]),
    ],
)
def test_round_numbers_are_as_dense_as_they_need_to_be(low: float, high: float, places: list[float]) -> None:
    assert round_numbers(low, high) == places


@given(st.floats(-8, 12), st.floats(0.05, 12))
def test_a_log_axis_has_a_handful_of_ticks_within_its_range(start: float, decades: float) -> None:
    axis = log_axis("x", [10**start, 10 ** (start + decades)])
    low, high = axis["range"]
    assert 1 <= len(axis["tickvals"]) <= 11
    assert all(low - 1e-9 <= math.log10(tick) <= high + 1e-9 for tick in axis["tickvals"])


def test_batch_sizes_are_thinned_from_the_largest_down() -> None:
    assert thinned([2.0**k for k in range(15)], 8) == [2.0**k for k in range(0, 15, 2)]


@pytest.mark.parametrize("values", [[], [math.nan, 0, -1, math.inf]], ids=["none", "none that can be shown"])
def test_an_axis_without_values_still_has_a_range(values: list[float]) -> None:
    low, high = log_axis("x", values)["range"]
    assert low < 0 < high


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01, "0.01"), (16, "16"), (1024, "1,024"), (65536, "65,536"), (5e6, "5M"), (1048576, "1,048,576"), (2e9, "2G")],
)
def test_ticks_are_written_exactly(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 3.1], "log"),
        ([1.0, 2.9], None),
        ([0.0, 3.0], None),
        ([-1.0, 9.0], None),
        ([1.0, 2.0, math.inf, math.nan], None),
        ([], None),
    ],
)
def test_a_metric_is_drawn_logarithmically_where_it_spans_a_factor_of_three(values: list[float], kind: str) -> None:
    assert value_axis("loss", values).get("type") == kind


def test_error_bars_reach_from_low_to_high() -> None:
    bars = points([1, 2], [5.0, 6.0], low=[4.0, 3.0], high=[7.0, 6.5])["error_y"]
    assert (bars["arrayminus"], bars["array"]) == ([1.0, 3.0], [2.0, 0.5])


def test_colours_run_from_one_end_of_the_palette_to_the_other() -> None:
    colors = in_turn([8, 64, 512])
    assert list(colors) == [8, 64, 512] and len(set(colors.values())) == 3
    assert in_turn([8]) == {8: colors[8]}


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
