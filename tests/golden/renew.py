"""Writes the answers again: all, or those whose names hold one of the given words.

python -m tests.golden.renew [WORD...]
"""

import json
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import tests.conftest  # noqa: F401 (the number of threads, before torch is imported)
from tests.golden.asked import ANSWERS, agreed, ask, once, refused, stored, written
from tests.golden.questions import QUESTIONS, REFUSED


def main(words: list[str]) -> None:
    old = {path: stored(str(path.relative_to(ANSWERS))[:-5]) for path in ANSWERS.rglob("*.json")}
    if not words:
        shutil.rmtree(ANSWERS, ignore_errors=True)
    for question in QUESTIONS:
        if words and not any(word in question.name for word in words):
            continue
        begun = time.perf_counter()
        with TemporaryDirectory() as place:
            answers = ask(question, Path(place))
        for face, text in answers.items():
            path = ANSWERS / f"{question}.{face}"
            if face != "txt":  # a commit shows what moved, not last digits and the order of keys
                text = written(agreed(json.loads(text), old.get(path), question.within)) + "\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        print(f"{time.perf_counter() - begun:5.1f} s  {question}")
    for name in (str(question) for question in QUESTIONS if question.words[0] == "analyze"):
        if (path := ANSWERS / f"{name}.json").exists():
            path.write_text(written(once(name)) + "\n")
    if not words or "refused" in words:
        with TemporaryDirectory() as place:
            (ANSWERS / "refused.txt").write_text(refused(REFUSED, Path(place)))


if __name__ == "__main__":
    main(sys.argv[1:])
