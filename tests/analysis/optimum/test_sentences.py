from __future__ import annotations

import math

import numpy as np
import pytest

from bcrit.analysis.optimum.law_fit import Estimate
from bcrit.analysis.optimum.laws import LAWS, PLAIN_LAWS
from bcrit.analysis.optimum.sentences import LAW_WORDS, estimate_text, law_sentence
from bcrit.analysis.optimum.verdict import judge
from tests.analysis.optimum.test_laws import TRUTH, B
from tests.analysis.optimum.test_verdict import verdict


def test_every_law_has_words() -> None:
    assert set(LAW_WORDS) == {law.name for law in LAWS}


def test_the_sentence_names_the_law_its_numbers_and_what_is_rejected() -> None:
    found = verdict(TRUTH["saturating"] * np.exp(0.05 * np.random.default_rng(0).normal(size=8)))
    text = law_sentence(found, "effective_lr", LAWS)
    assert "levels off" in text and "B_n = " in text and "from 8 studies" in text
    assert "Rejected: no change" in text


def test_the_sentence_of_no_law_says_what_was_missed_and_what_is_done_instead() -> None:
    zigzag = np.exp(1.2 * (-1.0) ** np.arange(8))
    text = law_sentence(verdict(zigzag), "lr", LAWS)
    assert text.startswith("None of the laws passes") and "misses those at batch size" in text
    assert "interpolated" in text
    few = judge(PLAIN_LAWS, B, zigzag, zigzag / 1.1, zigzag * 1.1)
    assert law_sentence(few, "1 - momentum", PLAIN_LAWS).startswith("Neither a constant nor a power")


def test_laws_that_cannot_be_told_apart_are_all_named() -> None:
    found = verdict(TRUTH["sqrt"][:5] * np.exp(0.3 * np.random.default_rng(2).normal(size=5)), 2.0, B[:5])
    text = law_sentence(found, "lr", LAWS)
    assert "cannot be told apart with 5 studies" in text
    assert all(f"({name})" in text for name in found.supported)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(2, 1, 3), "2 (1 to 3)"),
        (Estimate(2, math.nan, math.nan), "2 (no interval)"),
        (Estimate(2, 1, math.inf), "at least 1"),
        (Estimate(2, 0, 3), "at most 3"),
        (Estimate(2, 0, math.inf), "not identified"),
    ],
)
def test_open_ends_are_words(estimate: Estimate, text: str) -> None:
    assert estimate_text(estimate) == text
