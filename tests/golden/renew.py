"""Writes the answers again: all, or those whose names hold one of the given words.

python -m tests.golden.renew [WORD...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import tests.conftest  # noqa: F401 (the number of threads, before torch is imported)
from tests.golden.asked import ANSWERS, ask, refused
from tests.golden.questions import QUESTIONS, REFUSED


def main(words: list[str]) -> None:
    for question in QUESTIONS:
        if words and not any(word in question.name for word in words):
            continue
        begun = time.perf_counter()
        with TemporaryDirectory() as place:
            answers = ask(question, Path(place))
        for old in ANSWERS.glob(f"{question}.*"):
            old.unlink()
        for ending, text in answers.items():
            write(f"{question.name}.{ending}", text)
        print(f"{time.perf_counter() - begun:5.1f} s  {question}")
    if not words or "refused" in words:
        with TemporaryDirectory() as place:
            write("refused.txt", refused(REFUSED, Path(place)))


def write(name: str, text: str) -> None:
    (ANSWERS / name).parent.mkdir(parents=True, exist_ok=True)
    (ANSWERS / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
