"""Ticks stand at few and readable places."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.report.axes import log_axis, round_numbers, thinned, tick_text, value_axis


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
