"""The top of the page says what is known, and what speaks against it."""

from __future__ import annotations

import pytest

from bcrit.analysis.report.headline import answer, caveats, key_numbers
from bcrit.analysis.run import Run
from tests.analysis.report import runs


def test_the_recommendation_is_the_answer_with_its_hyperparameters() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis)
    sentences = answer(analysis, recommendation)
    assert sentences[:2] == recommendation.sentences
    assert sentences[2].startswith("Hyperparameters there (interpolated): lr = ")


def test_limits_that_cannot_be_kept_name_no_hyperparameters() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis, max_steps=1)
    assert answer(analysis, recommendation) == recommendation.sentences


def test_a_fit_without_a_recommendation_says_so() -> None:
    assert "No recommendation was computed" in answer(runs.usual(), None)[0]


def test_numbers_travel_with_their_interval_unit_target_and_definition() -> None:
    fit = runs.bent().fit
    assert fit is not None
    b_crit, s_min, e_min = key_numbers(fit, "loss < 1")
    assert b_crit.value == "64 examples"
    assert b_crit.interval.startswith("95 % interval: ")
    assert "2x" in b_crit.meaning
    assert "loss < 1" in b_crit.meaning
    assert s_min.value.endswith(" steps")
    assert e_min.value.endswith(" examples")


def test_the_interval_of_s_min_is_that_of_the_curve_far_out() -> None:
    fit = runs.bent().fit
    assert fit is not None
    far = fit.predict([1e12]).iloc[0]
    shown = key_numbers(fit, "loss < 1")[1].interval
    assert shown == f"95 % interval: {far['steps_low']:.0f} to {far['steps_high']:.0f}"


def test_what_is_not_identified_is_not_shown_as_a_number() -> None:
    fit = runs.partly((32, 64)).fit
    assert fit is not None
    assert [number.value for number in key_numbers(fit, "loss < 1")] == ["not identified"] * 3
    assert [number.interval for number in key_numbers(fit, "loss < 1")] == ["no interval"] * 3


@pytest.mark.parametrize(
    ("analysis", "sentence"),
    [
        (runs.partly((32, 64, 128)), "The target was not reached at batch size (in steps): 8 (90), 16 (50), 256 (12)."),
        (runs.partly((8, 16), confirm=False), "At batch size 8, 16 the number is that of the search's best trial"),
    ],
    ids=["not reached", "not confirmed"],
)
def test_what_the_studies_lack_is_said(analysis: Run, sentence: str) -> None:
    assert any(found.startswith(sentence) for found in caveats(analysis, None))


def test_seeds_that_missed_the_target_are_counted() -> None:
    analysis = runs.usual()
    studies = analysis.studies.assign(n_reached=2)
    assert any("8 (2 of 3)" in found for found in caveats(analysis.but(studies=studies), None))


def test_an_optimum_at_the_end_of_a_box_that_was_not_widened_is_a_caveat() -> None:
    analysis = runs.widened()
    at_end = analysis.but(boundary=analysis.boundary.assign(widened_to=float("nan"), round=1, kind="box"))
    assert any("the best lr lies at the high end of its box" in found for found in caveats(at_end, None))


def test_every_caveat_is_said_once() -> None:
    analysis = runs.bent()
    found = caveats(analysis, runs.recommended(analysis))
    assert len(found) == len(set(found))
    assert analysis.fit is not None
    assert set(analysis.fit.notes) <= set(found)
