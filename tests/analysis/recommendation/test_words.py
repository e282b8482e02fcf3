"""A reader of the paragraph alone decides right, in every kind of situation."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.numbers import duration, rounded_up
from bcrit.analysis.recommendation import Recommendation, recommend
from bcrit.analysis.recommendation.hardware import Hardware, fit_step_times
from tests.analysis.recommendation.offers import (
    A100,
    ALL,
    EXACT,
    H100,
    H100_8,
    LEFT_SIDE,
    NOISY,
    B,
    fitted,
    only_at,
    step_times,
)

BEST = {float(b): {"lr": 0.01 * b, "momentum": 0.9} for b in B}
# Two studies with different options, whose updates take the gradient of each example twice.
APART: dict[float, dict[str, Any]] = {
    8.0: {"lr": 0.1, "schedule": "linear", "extrapolation": "fresh", "warmup": 3, "nesterov": True},
    4096.0: {"lr": 0.2, "schedule": "constant", "extrapolation": "fresh", "warmup": 9, "nesterov": None},
}
ONE, REPEATED = step_times(5, 0.012), step_times(5, 0.012, repeats=3, scatter=0.02)
SHORT = replace(step_times(5, 0.001), batch_sizes=(8.0, 16.0), step_seconds=(5.008, 5.016), repeats=(1, 1))
BARE = [replace(item, price_per_device_hour=None) for item in ALL]
CLOSE = [Hardware(step_times(1, 0.01), "a", 1, 1.0), Hardware(step_times(3.4, 0.0017), "b", 1, 1.0)]
SHARP = fit_step_times(pd.DataFrame({"batch_size": B, "step_seconds": [9.0, 9, 9, 9, 9, 2, 9, 9, 9, 9]}))
FIXED = [only_at(8, "slow", 0.01), only_at(512, "fast", 3.0), only_at(99_999, "far", 3.0)]
TIGHT = fitted({16: 900, 64: 420})
RIGHT_SIDE = fitted({512: 505, 1024: 495, 2048: 505, 4096: 495})
SCATTERED = fitted({8: 100, 16: 300, 32: 90, 64: 250})
FLAT = fitted({1: 103, 2: 101, 4: 100, 8: 100, 16: 100})
BENT = fitted(dict(zip(B, 500 * (1 + (200 / B) ** 4) ** 0.25 * (1 + 0.01 * (-1) ** (B % 3)), strict=True)))

SITUATIONS: dict[str, tuple[HyperbolaFit, Any, dict[str, Any]]] = {
    "a clear optimum": (
        NOISY,
        REPEATED,
        {"price_per_device_hour": 3, "devices": 8, "hyperparameters": BEST, "target": "loss < 1"},
    ),
    "a flat optimum": (EXACT, ONE, {"hyperparameters": BEST}),
    "a sharp optimum": (EXACT, SHARP, {"hyperparameters": BEST}),
    "no step times": (EXACT, None, {"hyperparameters": APART}),
    "a measurement that is asked for": (NOISY, None, {"next_measurement": "batch size 512"}),
    "no studies of larger batches": (LEFT_SIDE, ONE, {"hyperparameters": BEST}),
    "no studies of larger batches, and a limit": (LEFT_SIDE, None, {"max_steps": 1e9}),
    "no studies of smaller batches": (RIGHT_SIDE, ONE, {}),
    "two studies": (TIGHT, None, {}),
    "scattered studies": (SCATTERED, None, {"next_measurement": "batch sizes 512 and 1,024"}),
    "single examples do as well": (FLAT, None, {}),
    "a bend": (BENT, REPEATED, {}),
    "a bend, no step times": (BENT, None, {}),
    "a size that was never timed": (EXACT, SHORT, {}),
    "a step that takes as long as its examples": (EXACT, step_times(0, 0.1), {}),
    "a step that always takes as long": (EXACT, step_times(0.01, 0), {}),
    "several kinds": (EXACT, ALL, {}),
    "several kinds, no prices": (EXACT, BARE, {}),
    "several numbers of devices": (EXACT, [H100, H100_8], {}),
    "one kind is best in everything": (EXACT, [H100, Hardware(step_times(50, 0.2), "old", 1, 3.0)], {}),
    "one kind costs nothing": (EXACT, [replace(H100, price_per_device_hour=0.0), A100], {}),
    "a close race": (NOISY, CLOSE, {}),
    "kinds that were timed at one size": (EXACT, FIXED, {}),
    "a deadline that binds": (NOISY, ALL, {"max_hours": 1.7}),
    "a deadline that does not": (EXACT, ALL, {"max_hours": 100}),
    "a deadline that nothing keeps tighter": (EXACT, [H100], {"max_hours": 100}),
    "a budget that binds": (NOISY, ALL, {"max_cost": 6.3}),
    "a budget in device-hours": (NOISY, BARE, {"max_cost": 2}),
    "a limit of steps": (NOISY, None, {"max_steps": 700}),
    "a limit of steps on hardware": (NOISY, ONE, {"max_steps": 700, "devices": 4}),
    "a limit of steps that nothing keeps safely": (NOISY, None, {"max_steps": 533}),
    "a limit of examples": (EXACT, None, {"max_examples": 125_000, "hyperparameters": BEST}),
    "two limits that decide together": (EXACT, FIXED[:2], {"max_hours": 1, "max_steps": 1000}),
    "a deadline that cannot be kept": (NOISY, ALL, {"max_hours": 0.5}),
    "a budget that cannot be kept": (NOISY, ALL, {"max_cost": 3}),
    "either of two must give": (EXACT, None, {"max_steps": 600, "max_examples": 120_000}),
    "both of two must give": (EXACT, ALL, {"max_cost": 3, "max_hours": 0.1}),
    "steps that no batch size takes": (EXACT, None, {"max_steps": 490}),
    "examples that no batch size takes": (EXACT, None, {"max_examples": 99_000}),
    "steps of a larger batch size": (EXACT, None, {"max_steps": 510}),
    "examples of a smaller batch size": (EXACT, None, {"max_examples": 102_000}),
}


def said(situation: str) -> list[str]:
    fit, hardware, options = SITUATIONS[situation]
    found = recommend(fit, hardware, **options)
    return [*found.sentences, text(found), *(f"note: {caveat}" for caveat in found.caveats)]


def text(found: Recommendation) -> str:
    told = found.paragraph
    assert "None" not in told and "nan" not in told and "  " not in told and told.endswith(".")
    assert told.startswith(("Train at ", "Do not ")) and found.to_json()["paragraph"] == told
    assert all(re.match(r"[A-Za-z0-9]", part) for part in told.split(". "))
    return told


@pytest.mark.parametrize("fit", [EXACT, NOISY, LEFT_SIDE, TIGHT, BENT], ids=["exact", "noisy", "left", "two", "bent"])
@pytest.mark.parametrize("hardware", [None, (H100,), ALL], ids=["no times", "one", "several"])
@pytest.mark.parametrize(
    "limits", [{"max_steps": 1.0}, {"max_steps": 900.0}, {"max_examples": 2e5, "max_steps": 1e9}], ids=str
)
def test_every_situation_has_whole_sentences(fit: Any, hardware: Any, limits: dict[str, float]) -> None:
    assert text(recommend(fit, hardware, hyperparameters=BEST, **limits))  # type: ignore[arg-type]  # only limits


@pytest.mark.parametrize("limits", [{"max_hours": 0.5}, {"max_cost": 3.0}, {"max_steps": 510.0}], ids=str)
def test_the_limit_that_is_printed_as_needed_is_enough(limits: dict[str, float]) -> None:
    (name,) = limits
    told = text(recommend(NOISY, ALL, **limits))  # type: ignore[arg-type]  # only limits are given
    allow = re.search(r"Allow a \w+ of ([\d.,]+)( h| min)?", told)
    assert allow is not None
    value = float(allow[1].replace(",", "")) / (60 if allow[2] == " min" else 1)
    assert recommend(NOISY, ALL, **{name: value}).feasible  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1e-9, 0.0123456, 1.0, 46.21, 99.99, 4500.2])
def test_a_limit_that_is_rounded_up_is_enough_and_hardly_more(value: float) -> None:
    assert value <= rounded_up(value) * (1 + 1e-9) and rounded_up(value) <= 1.02 * value
    assert rounded_up(0.0) == 0.0


@pytest.mark.parametrize("seconds", [2.345678e-6, 0.00234567, 0.1234567])
def test_a_limit_is_enough_as_it_is_printed_in_its_own_unit(seconds: float) -> None:
    number, unit = duration(seconds / 3600, up=True).split()
    assert float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] >= seconds
