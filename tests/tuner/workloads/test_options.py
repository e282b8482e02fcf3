from __future__ import annotations

import re
from typing import Any

import pytest

from bcrit.search_spaces.target import Direction
from bcrit.tuner.workloads.data.source import ImageChoice
from bcrit.tuner.workloads.options import read_choice, with_train_loss


def test_a_word_is_the_source() -> None:
    assert read_choice(ImageChoice, "mnist", "data", "source") == ImageChoice(source="mnist")
    assert read_choice(ImageChoice, ImageChoice(source="mnist"), "data", "source").source == "mnist"


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown key": ({"source": "a", "valdation": 1}, "there is no key 'valdation'; did you mean 'validation'?"),
    "no source": ({"validation": 1}, "option 'data': 'source' is missing; add it"),
    "a list": ([1], "'data' must be a word or a mapping with 'source', but it is [1]"),
    "nobody left": ({"source": "a", "validation": 0}, "option 'data': 'validation"),
    "a share above 1": ({"source": "a", "validation": 1.5}, "option 'data': 'validation"),
    "two at once": ({"source": "a", "channels": 2, "examples": 0}, "'examples'"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_choice(ImageChoice, given, "data", "source")


def test_train_loss_becomes_a_metric_where_it_is_wanted() -> None:
    metrics = {"val_loss": Direction.MINIMIZE}
    assert with_train_loss(0, metrics) == (0, metrics)
    assert with_train_loss(5, metrics) == (5, {**metrics, "train_loss": Direction.MINIMIZE})
    for wrong in (-1, True, "5", 2.0):
        with pytest.raises(ValueError, match="'train_loss_examples' must be a whole number from 0"):
            with_train_loss(wrong, metrics)
