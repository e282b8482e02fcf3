"""The findings come out in words that hold for the numbers, and what speaks against a comparison has its sentence.

`python -m tests.analysis.questions.compare.test_words` writes the stored words again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bcrit.analysis.questions.compare.sides import cautions
from tests.analysis.questions.compare.made_up import CASES, PLAIN, compared, labelled, run
from tests.analysis.told import held, text_of

STORED = Path(__file__).with_name("words.txt")


def said(case: str, across_targets: bool = False) -> tuple[str, ...]:
    answer = compared(case, across_targets)
    return (*answer.sentences, *(f"note: {note}" for note in answer.notes))


TOLD = {case: partial(said, case) for case in CASES} | {
    "other targets, as asked for": partial(said, "other targets", across_targets=True)
}


@pytest.mark.parametrize("case", TOLD)
def test_the_words_are_the_stored_ones(case: str) -> None:
    held(STORED, {case: TOLD[case]}, case)


def test_every_stored_case_is_told() -> None:
    assert [line[3:] for line in STORED.read_text().splitlines() if line.startswith("== ")] == list(TOLD)


def test_labels_and_values_with_commas_can_be_told_apart() -> None:
    sides = [replace(labelled("x", run(**PLAIN, trials=n)), label=name) for name, n in (("t, 12", 2), ("d", 4))]
    assert "(search trials a batch size: t, 12: 2; d: 4)" in cautions(sides)[0]


if __name__ == "__main__":
    STORED.write_text(text_of(TOLD))
