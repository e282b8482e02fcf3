"""A reader of the paragraph alone decides right, in every kind of situation."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from bcrit.analysis.curve.fit import fit_hyperbola
from bcrit.analysis.recommendation.hardware import fit_step_times
from bcrit.analysis.recommendation.recommend import Recommendation, recommend
from bcrit.analysis.recommendation.words import hours_up, rounded_up
from bcrit.analysis.wording import duration
from tests.analysis.recommendation.offers import A100, ALL, EXACT, H100, H100_8, LEFT_SIDE, NOISY, B, step_times

BEST = {float(b): {"lr": 0.01 * b, "momentum": 0.9} for b in B}
ONE = step_times(5, 0.012, repeats=3, scatter=0.02)
TIGHT = fit_hyperbola(pd.DataFrame({"batch_size": [16, 64], "steps": [900, 420]}))
BENT = fit_hyperbola(
    pd.DataFrame({"batch_size": B, "steps": 500 * (1 + (200 / B) ** 4) ** 0.25 * (1 + 0.01 * (-1) ** (B % 3))})
)


def text(found: Recommendation) -> str:
    assert "None" not in found.paragraph and "nan" not in found.paragraph and "  " not in found.paragraph
    assert found.paragraph.startswith(("Train at ", "Do not "))
    return found.paragraph


def test_a_clear_optimum_is_told_with_all_it_takes_and_assumes() -> None:
    found = recommend(NOISY, ONE, price_per_device_hour=3, devices=8, hyperparameters=BEST, target="loss < 1")
    point, told = found.choices["cheapest"], text(found)
    assert told.startswith(f"Train at batch size {point.batch_size:g} on 8 devices. This takes about")
    assert "steps (updates of the model)" in told and f"{point.examples:,.0f} examples" in told
    assert re.search(r"h and a cost of [\d.]+; the 95 % interval of the time is .* h to .* h, of the cost", told)
    assert re.search(r"Set lr = [\d.]+, momentum = 0.9: read between the best at batch sizes 256 and 512", told)
    assert "no batch size is faster, and none is cheaper" in told
    assert "Another price changes the cost, not the batch size." in told
    assert told.count("the target (loss < 1) is reached") == 1 and "evaluation takes no time" in told


def test_a_flat_optimum_leaves_the_size_free_and_a_sharp_one_does_not() -> None:
    flat = text(recommend(EXACT, step_times(5, 0.012), hyperparameters=BEST))
    assert re.search(r"The exact size matters little: from 1\d\d to 5\d\d it takes at most 10 % longer", flat)
    assert "Batch size 256 was searched itself and takes at most 10 % longer: the safer start." in flat
    notch = pd.DataFrame({"batch_size": B, "step_seconds": [9.0, 9, 9, 9, 9, 2, 9, 9, 9, 9]})
    sharp = text(recommend(EXACT, fit_step_times(notch)))
    assert sharp.startswith("Train at batch size 256.") and "Stay close to it: outside of" in sharp


@pytest.mark.parametrize(
    ("fit", "first"),
    [
        (LEFT_SIDE, "Measure batch size 256 first."),
        (TIGHT, "2 batch sizes cannot show where larger batches stop paying off"),
    ],
    ids=["only small batches", "two batch sizes"],
)
def test_without_a_curve_the_first_words_are_not_to_decide_yet(fit: Any, first: str) -> None:
    told = text(recommend(fit, step_times(5, 0.012)))
    assert told.startswith("Do not decide on this yet: ")
    assert first in told
    assert "If training must start before that, use batch size" in told
    assert "Train at" not in told


def test_what_to_measure_next_may_be_given() -> None:
    told = text(recommend(LEFT_SIDE, next_measurement="batch sizes 512 and 1,024"))
    assert "Measure batch sizes 512 and 1,024 first." in told
    assert "To be surer, measure batch size 512 next." in text(recommend(NOISY, next_measurement="batch size 512"))


def test_without_step_times_hours_and_cost_are_said_to_be_unknown() -> None:
    told = text(recommend(EXACT))
    assert told.startswith("Train at batch size 200.")
    assert "twice the batch size saves 25 % of the steps and needs 50 % more examples" in told
    assert "Hours and cost are not known: time a step at two batch sizes or more before you pay for hardware." in told


def test_a_deadline_that_binds_is_named_with_what_it_costs_and_what_a_little_more_time_would_save() -> None:
    found = recommend(NOISY, ALL, max_hours=1.7)
    told, free = text(found), found.unbound
    assert free is not None
    assert told.startswith(f"Train at batch size {found.choices['best'].batch_size:g} on 8 x h100.")
    assert f"What decides is the deadline of 1.7 h: without it, batch size {free.batch_size:g} on 1 x a100" in told
    assert re.search(r"Already with [\d.]+ h, batch size \d+ on 1 x h100 would be cheaper", told)
    assert "By the measurements this is safe" in told
    assert "No price makes a100 the choice: it does not keep the deadline of 1.7 h." in told


def test_a_loose_deadline_says_how_tight_it_would_have_to_be() -> None:
    told = text(recommend(EXACT, ALL, max_hours=100))
    assert re.search(r"The deadline of 100 h does not change the choice; only one below 3\.\d+ h would\.", told)
    alone = text(recommend(EXACT, [H100], max_hours=100))
    assert re.search(r"does not change the choice, but nothing here keeps one below [\d.]+ h\.", alone)


def test_a_limit_that_only_the_estimate_keeps_is_not_safe_and_the_safe_choice_is_told() -> None:
    found = recommend(NOISY, max_steps=700)
    told = text(found)
    assert "This is not safe: the estimate keeps the limits, but the 95 % interval reaches up to" in told
    assert f"If the limits must hold, train at batch size {found.choices['safe'].batch_size:,g} instead" in told
    assert f"measure batch size {found.choices['best'].batch_size:g} itself next" in told
    gamble = text(recommend(NOISY, max_steps=float(NOISY.predict([4096])["steps"].iloc[0]) * 1.001))
    assert "No choice is safe, so begin only if" in gamble


def test_a_budget_that_cannot_be_kept_says_not_to_start_and_what_must_give() -> None:
    found = recommend(NOISY, ALL, max_cost=3)
    told = text(found)
    assert told.startswith("Do not start under these limits: no batch size in the measured range keeps them on any of")
    assert re.search(r"Allow a budget of 3\.\d+ instead of 3 \(\d+(\.\d+)? % more; [34]\.\d+ to be safe\), at", told)
    assert "on 1 x a100" in told and "Train at" not in told


def test_a_limit_that_no_batch_size_of_any_size_can_keep_is_told_so() -> None:
    told = text(recommend(EXACT, max_steps=490))
    assert "Larger batches cannot help: even the largest takes at least 500 steps." in told
    told = text(recommend(EXACT, max_examples=99_000))
    assert "Smaller batches cannot help: even the smallest takes at least 100,000 examples." in told
    assert "measure there before relying on it" in text(recommend(EXACT, max_steps=510))


def test_limits_that_must_give_together_are_told_with_one_place() -> None:
    told = text(recommend(EXACT, ALL, max_cost=3, max_hours=0.1))
    assert re.search(
        r"It would take a deadline of .* and a budget of .* together, at batch size \d+ on 1 x h100\.", told
    )


def test_two_kinds_of_device_are_weighed_and_the_price_that_changes_the_choice_is_told() -> None:
    found = recommend(EXACT, ALL)
    told, cheapest, fastest = text(found), found.choices["cheapest"], found.choices["fastest"]
    assert "This weighs time and money alike." in told
    assert f"If only money counts, train at batch size {cheapest.batch_size:g} on 1 x a100" in told
    assert f"if only time counts, at batch size {fastest.batch_size:g} on 8 x h100" in told
    assert re.search(r"a100 becomes the choice below a price of 0\.\d+ per device-hour \(now 1\)\.", told)


def test_one_kind_that_is_best_in_everything_is_told_so() -> None:
    slow = A100.__class__(step_times(50, 0.2), "old", 1, 3.0)
    told = text(recommend(EXACT, [H100, slow]))
    assert "Of all the hardware given this is both the fastest and the cheapest." in told
    assert "old becomes the choice below a price of" in told
    both = text(recommend(EXACT, [H100, H100_8]))
    assert "This is the cheapest. If only time counts, train at" in both or "This weighs time" in both


def test_a_curve_that_bends_away_is_told_to_be_rough() -> None:
    assert BENT.lack_of_fit
    told = text(recommend(BENT, ONE))
    assert re.search(r"Take all this as rough: .* a curve that follows the bend has its best size at \d+\.", told)


def test_a_size_that_was_never_timed_is_to_be_timed_first() -> None:
    times = step_times(5, 0.001)
    short = times.__class__(times.batch_sizes[:3], times.step_seconds[:3], times.c0, times.c1, 0.0)
    told = text(recommend(EXACT, short))
    assert "No step was timed at this size: time one first, and see that it fits into memory." in told
    assert any("gradient accumulation) would not make it faster" in c for c in recommend(EXACT, short).caveats)


@pytest.mark.parametrize("fit", [EXACT, NOISY, LEFT_SIDE, TIGHT, BENT], ids=["exact", "noisy", "left", "two", "bent"])
@pytest.mark.parametrize("hardware", [None, (H100,), ALL], ids=["no times", "one", "several"])
@pytest.mark.parametrize(
    "limits", [{}, {"max_steps": 1.0}, {"max_steps": 900.0}, {"max_examples": 2e5, "max_steps": 1e9}], ids=str
)
def test_every_situation_has_whole_sentences(fit: Any, hardware: Any, limits: dict[str, float]) -> None:
    found = recommend(fit, hardware, hyperparameters=BEST, **limits)  # type: ignore[arg-type]
    told = text(found)
    assert all(re.match(r"[A-Za-z0-9]", part) for part in told.split(". ")) and told.endswith(".")
    assert found.to_json()["paragraph"] == told


@pytest.mark.parametrize("limits", [{"max_hours": 0.5}, {"max_cost": 3.0}, {"max_steps": 510.0}], ids=str)
def test_the_limit_that_is_printed_as_needed_is_enough(limits: dict[str, float]) -> None:
    (name,) = limits
    told = text(recommend(NOISY, ALL, **limits))  # type: ignore[arg-type]  # only limits are given
    allow = re.search(r"Allow a \w+ of ([\d.,]+)( h| min)?", told)
    assert allow is not None
    value = float(allow[1].replace(",", "")) / (60 if allow[2] == " min" else 1)
    assert recommend(NOISY, ALL, **{name: value}).feasible  # type: ignore[arg-type]


def test_where_single_examples_do_as_well_nothing_smaller_is_asked_for() -> None:
    flat = fit_hyperbola(pd.DataFrame({"batch_size": [1, 2, 4, 8, 16], "steps": [103, 101, 100, 100, 100]}))
    told = text(recommend(flat, None))
    assert told.startswith("Do not count on larger batches: the steps hardly fall from batch size 1 on, and there is")
    assert "below 1" not in told
    (said,) = [note for note in flat.notes if note.startswith("e_min is not identified")]
    assert said.endswith("There are no smaller ones: single examples do as well.")


@pytest.mark.parametrize("value", [1e-9, 0.0123456, 1.0, 46.21, 99.99, 4500.2])
def test_a_limit_that_is_rounded_up_is_enough_and_hardly_more(value: float) -> None:
    assert value <= rounded_up(value) * (1 + 1e-9) and rounded_up(value) <= 1.02 * value
    assert value <= hours_up(value) * (1 + 1e-9)


@pytest.mark.parametrize("seconds", [2.345678e-6, 0.00234567, 0.1234567])
def test_a_limit_is_enough_as_it_is_printed_in_its_own_unit(seconds: float) -> None:
    number, unit = duration(hours_up(seconds / 3600)).split()
    assert float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] >= seconds


def test_nothing_is_rounded_up_to_nothing() -> None:
    assert rounded_up(0.0) == hours_up(0.0) == 0.0
