"""The sentences say the ratio, its interval, and no more than the data show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bcrit.analysis.adaptive.sentences import sentences, verdict
from tests.analysis.adaptive.made_up import adaptive


def test_the_first_sentence_is_the_verdict_over_all_exchange_rates() -> None:
    found = replace(adaptive(), pooled=0.93, pooled_low=0.85, pooled_high=1.02, pooled_predicted=0.97)
    assert sentences(found)[0] == (
        "Batch sizes that follow the noise scale need 0.93 (95 %: 0.85 to 1.02) times the steps and examples "
        "of their mean held fixed (mean of 3 exchange rates, 5 seeds): neither a gain nor a loss is shown. The "
        "theory predicts 0.97 from the noise scale along these runs."
    )


NOTHING = "neither a gain nor a loss is shown"
COARSE = f"{NOTHING}, because what fixed ones need is known no better"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (0.8, 0.7, 0.9, "a gain"),
        (1.2, 1.1, 1.3, "a loss"),
        (0.9, 0.7, 1.1, NOTHING),
        (0.985, 0.98, 0.99, COARSE),  # nearer to 1 than the fixed batch sizes lie to their curve
        (0.8, None, None, f"without an interval, which needs three seeds, {NOTHING}"),
    ],
    ids=str,
)
def test_a_gain_is_one_that_interval_and_frontier_both_show(
    ratio: float, low: float | None, high: float | None, said: str
) -> None:
    assert verdict(replace(adaptive(), misfit=0.01), ratio, low, high, [8e7]) == said


def test_a_model_without_chance_needs_no_interval_but_finer_steps_than_its_gain() -> None:
    exact = replace(adaptive(1, 0.0), deterministic=True, misfit=0.001)
    assert verdict(exact, 0.9, None, None, [8e7]) == "a gain"
    assert verdict(exact, 0.95, None, None, [15.0]) == COARSE


def test_every_schedule_has_its_sentence_and_the_notes_come_last() -> None:
    said = sentences(adaptive())
    assert [text.split(" ")[1:4] for text in said[1:4]] == [["r", "=", r] for r in ("16", "64", "256")]
    assert "With ramp 0:8 it took" in said[4] and said[-1] == "one note"
    assert "momentum 0.9 as at batch size 64" in " ".join(said)


def test_a_schedule_that_was_not_reached_says_so() -> None:
    found = adaptive()
    lost = replace(found.of("noise")[0], steps=None, examples=None, ratio=None, n_reached=3)
    answers = tuple(lost if one.schedule == lost.schedule else one for one in found.answers)
    assert "3 of 5 seeds reached the target, so it has no number" in sentences(replace(found, answers=answers))[1]


def test_without_any_number_nothing_is_claimed() -> None:
    assert sentences(replace(adaptive(), pooled=None))[0].startswith("No schedule that follows the noise scale has")
