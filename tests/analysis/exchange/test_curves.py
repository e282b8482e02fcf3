"""The vectorised first crossing agrees with `Target.first_crossing`, for any rows in any order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.exchange.write import in_order, summarize
from bcrit.search_spaces.target import Target

VALUES = st.sampled_from([0.0, -0.0, 0.5, 1.0, math.nextafter(1.0, 0.0), 1.5, math.nan, math.inf, -math.inf, None])
Row = tuple[str, int, float | None]
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 6), VALUES), min_size=1, max_size=40)


def table(rows: Sequence[Row], encoded: bool = False) -> pa.Table:
    ids, steps, values = (list(column) for column in zip(*rows, strict=True))
    names = pa.array(ids)
    return pa.table(
        {
            "trial_id": names.dictionary_encode() if encoded else names,
            "step": pa.array(steps, pa.int64()),
            "m": pa.array(values, pa.float64()),
        }
    )


@pytest.mark.parametrize("sentence", ["m < 1", "m > 1"], ids=["minimize", "maximize"])
@given(rows=ROWS)
def test_any_rows_give_the_crossings_of_the_slow_rule(sentence: str, rows: list[Row]) -> None:
    target = Target.model_validate(sentence)
    curves = in_order(table(rows), target)
    summary = summarize(curves, target)
    assert curves.data.num_rows + curves.repeated == len(rows)
    assert summary.trial_ids == list(dict.fromkeys(name for name, _, _ in rows))
    for place, name in enumerate(summary.trial_ids):
        own = sorted(((step, value) for n, step, value in rows if n == name), key=lambda row: row[0])
        sign = 1 if sentence == "m < 1" else -1
        kept: dict[int, float | None] = {}
        for step, value in own:
            kept[step] = min(
                [kept.get(step), value], key=lambda v: (v is None, v is None or math.isnan(v), sign * (v or 0))
            )
        crossing, best = target.first_crossing(kept.items()), target.best(kept.items())
        assert (summary.steps[place], summary.steps_low[place]) == (
            (0, 0) if crossing is None else (crossing.steps, crossing.steps_low)
        )
        assert summary.last_step[place] == own[-1][0]
        assert summary.best[place] == pytest.approx(math.nan if best is None else best, nan_ok=True)
        values = [value for value in kept.values() if value is not None]
        assert summary.broken[place] == (bool(values) and not math.isfinite(values[-1]))


def test_rows_in_order_are_not_copied() -> None:
    data = table([("b", 0, 2.0), ("b", 5, 0.5), ("a", 1, 0.5)], encoded=True)
    curves = in_order(data, Target.model_validate("m < 1"))
    assert curves.data is data and curves.trial_ids == ["b", "a"] and curves.repeated == 0


def test_of_a_repeated_step_the_row_with_the_best_value_stays() -> None:
    data = table([("a", 1, math.nan), ("a", 1, 3.0), ("a", 1, 2.0), ("a", 0, 9.0)])
    assert in_order(data, Target.model_validate("m < 1")).data["m"].to_pylist() == [9.0, 2.0]
    assert in_order(data, Target.model_validate("m > 1")).data["m"].to_pylist() == [9.0, 3.0]


def test_without_the_metric_nothing_is_reached() -> None:
    target = Target.model_validate("other < 1")
    summary = summarize(in_order(table([("a", 1, 0.5), ("a", 3, 0.5)]), target), target)
    assert summary.steps.tolist() == [0] and summary.last_step.tolist() == [3] and np.isnan(summary.best).all()


def test_trials_beyond_the_target_at_the_start_are_counted() -> None:
    target = Target.model_validate("m < 1")
    rows = [("a", 0, 0.5), ("a", 1, 2.0), ("b", 0, 2.0), ("b", 1, 0.5)]
    assert summarize(in_order(table(rows), target), target).beyond_at_start == 1
