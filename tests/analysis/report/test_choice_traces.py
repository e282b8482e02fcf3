"""Choices that agree share a mark; the same batch size on other hardware is another choice."""

from __future__ import annotations

from bcrit.analysis.report.choice_traces import choice_traces, choices_by_place
from tests.analysis.report import runs


def test_every_choice_is_in_one_mark() -> None:
    recommendation = runs.recommended_on_two(runs.usual(), max_steps=50)
    named = [name for names in choices_by_place(recommendation).values() for name in names]
    assert sorted(named) == sorted(recommendation.choices)


def test_the_same_batch_size_on_other_hardware_has_a_mark_of_its_own() -> None:
    recommendation = runs.recommended_on_two(runs.usual())
    cheapest, fastest = recommendation.choices["cheapest"], recommendation.choices["fastest"]
    assert cheapest.batch_size == fastest.batch_size and cheapest.device != fastest.device
    names = [trace["name"] for trace in choice_traces(recommendation, "hours", "cost", x_factor=3600)]
    assert any(name.startswith("cheapest") and name.endswith("on 1 x small") for name in names)
    assert any("fastest" in name and name.endswith("on 1 x big") for name in names)
