from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bcrit.tuner.training.trial import Ended, Report
from bcrit.tuner.workloads.function.child import _number
from bcrit.tuner.workloads.function.reading import read_report

BEFORE = Report(2, None, train_seconds=1.0, evaluate_seconds=0.0, metrics={})  # 16 examples at batch size 8


def said(**changes: Any) -> dict[str, Any]:
    return {
        "step": 4,
        "examples": None,
        "train_seconds": None,
        "seconds": 3.0,
        "metrics": {"loss": 1},
        **changes,
    }


def test_without_seconds_of_its_own_all_time_is_training() -> None:
    report = read_report(said(), BEFORE, 8)
    assert (report.train_seconds, report.evaluate_seconds, report.examples) == (3.0, 0.0, None)
    assert type(report.metrics["loss"]) is float


def test_the_function_s_own_seconds_leave_the_rest_to_evaluation() -> None:
    report = read_report(said(train_seconds=2, examples=99), BEFORE, 8)
    assert (report.train_seconds, report.evaluate_seconds, report.examples) == (2.0, 1.0, 99)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": None}, "'step' must be a whole number .* but it is None"),
        ({"step": "3"}, "'step' must"),
        ({"examples": 2.5}, "'examples' must be a whole number .* but it is 2.5 at step 4; or leave it out"),
        ({"examples": -1}, "'examples' must"),
        ({"examples": 2**63}, "at least 0 and below 2\\^63, but it is 9223372036854775808 at step 4"),
        ({"examples": 15}, "'examples' must be .* at least 16 as before, but it is 15 at step 4; count from the start"),
        ({"train_seconds": 0.5}, "'train_seconds' must be .* at least 1 as before, but it is 0.5 at step 4"),
        ({"train_seconds": math.nan}, "'train_seconds' must"),
        ({"metrics": {"loss": "list [1]"}}, r"'loss' must be a number, but it is list \[1\] at step 4"),
        ({"metrics": {"loss": None}}, "'loss' must be a number, but it is None"),
        (
            {"metrics": {"loss \udce9": 1}},
            r"name of a metric must be text that can be printed, but it is 'loss \\udce9'",
        ),
        ({"metrics": {"trial_id": 1}}, "'trial_id' is a column of the run folder's tables"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Ended) as caught:
        read_report(said(**changes), BEFORE, 8)
    assert re.search(message, caught.value.message), caught.value.message


def test_examples_left_out_must_not_fall_either() -> None:
    before = replace(BEFORE, examples=50)
    with pytest.raises(Ended) as caught:
        read_report(said(), before, 8)
    assert "at least 50 as before, but it is 32 (step x batch_size, because it was left out)" in caught.value.message
    assert read_report(said(examples=50), before, 8).examples == 50


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (3.0, 3),
        (2.5, 2.5),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (torch.tensor(0.25), 0.25),
        (torch.tensor([0.25]), 0.25),
        (None, None),
        (True, "True"),
        ("low", "'low'"),
        ([1], "list [1]"),
        (torch.zeros(2), "Tensor tensor([0., 0.])"),
    ],
    ids=repr,
)
def test_numbers_of_every_kind_arrive_as_numbers_and_all_else_as_words(value: Any, number: Any) -> None:
    assert _number(value) == number and type(_number(value)) is type(number)


def test_infinity_and_nan_stay_what_they_are() -> None:
    assert _number(torch.tensor(math.inf)) == math.inf and math.isnan(_number(np.nan))
