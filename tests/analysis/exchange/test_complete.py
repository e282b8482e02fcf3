"""How a trial ended, where only its curve tells."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from bcrit.analysis.arrow_tables import to_arrow
from bcrit.analysis.exchange.run import trial_row
from bcrit.analysis.exchange.write import complete, in_order, summarize
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target

TARGET = Target.model_validate("m < 1")


def ended(values: list[float | None], **known: object) -> dict[str, object]:
    rows = {"trial_id": ["a"] * len(values), "step": range(1, len(values) + 1), "m": pa.array(values, pa.float64())}
    summary = summarize(in_order(pa.table(rows), TARGET), TARGET)
    return dict(complete(to_arrow(TRIALS, [trial_row("a", 8, number=0, **known)]), summary).to_pylist()[0])


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([3.0, 2.0], "exhausted"),
        ([3.0, math.nan], "diverged"),
        ([math.nan, math.nan], "diverged"),
        ([3.0, math.inf], "diverged"),
        ([math.nan, 3.0], "exhausted"),
        ([3.0, None], "exhausted"),
        ([math.nan, None], "diverged"),
        ([0.5, math.nan], "reached"),
    ],
)
def test_a_last_value_that_is_not_finite_means_divergence_where_nothing_was_reached(
    values: list[float | None], outcome: str
) -> None:
    found = ended(values)
    assert found["outcome"] == outcome
    assert ("not finite" in str(found["message"])) == (outcome == "diverged")


def test_what_the_source_says_of_the_ending_stands() -> None:
    assert ended([3.0, math.nan], outcome="pruned")["outcome"] == "pruned"
    assert ended([3.0, math.nan], steps_to_target=2)["outcome"] == "reached"
    assert ended([3.0, math.nan], outcome="diverged", message="boom")["message"] == "boom"
