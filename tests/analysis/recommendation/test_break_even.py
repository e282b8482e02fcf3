"""At the price that is told, the other kind of device draws level: just below it is chosen, just above it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bcrit.analysis.recommendation.recommend import Recommendation, recommend
from tests.analysis.recommendation.offers import A100, ALL, EXACT, H100, H100_8


def at_price(kind: str, price: float, **limits: Any) -> Recommendation:
    return recommend(EXACT, [replace(h, price_per_device_hour=price) if h.device == kind else h for h in ALL], **limits)


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_hours": 100.0}, {"max_hours": 3.0}, {"max_cost": 30.0}, {"max_cost": 5.0}, {"max_steps": 800}],
    ids=str,
)
def test_the_choice_changes_at_the_price_that_is_told(limits: dict[str, Any]) -> None:
    found = recommend(EXACT, ALL, **limits)
    assert found.advised is not None
    (entry,) = found.break_even
    assert entry.device != found.choices[found.advised].device
    if entry.chosen_below is None:
        below = at_price(entry.device, 1e-9, **limits)
        assert below.choices[below.advised or ""].device != entry.device
        return
    assert entry.chosen_below < entry.price_per_device_hour
    for factor in (0.999, 1.001):
        near = at_price(entry.device, entry.chosen_below * factor, **limits)
        assert (near.choices[near.advised or ""].device == entry.device) == (factor < 1)


def test_without_prices_or_another_kind_there_is_no_such_price() -> None:
    assert recommend(EXACT, [replace(item, price_per_device_hour=None) for item in ALL]).break_even == ()
    assert recommend(EXACT, [H100, H100_8]).break_even == ()
    assert recommend(EXACT, [H100]).break_even == ()


def test_nothing_can_be_cheaper_than_a_choice_that_costs_nothing() -> None:
    found = recommend(EXACT, [replace(H100, price_per_device_hour=0.0), A100])
    (entry,) = found.break_even
    assert (entry.device, entry.chosen_below) == ("a100", None)
    assert "No price makes a100 the choice: what is chosen costs nothing." in found.paragraph
