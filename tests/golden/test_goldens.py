"""Numbers and words do not move: what commands answer on stored runs is what they answered before.

`python -m tests.golden.renew` writes the answers again; the difference is then seen in the commit.
"""

import json
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
import typer

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.cli import application
from bcrit.search_spaces.target import Target
from tests.golden.asked import ANSWERS, FACES, HERE, Question, agreed, ask, refused, stored
from tests.golden.questions import QUESTIONS, REFUSED, WITHOUT_ANSWER

SHOWN = 40  # lines of a difference


@pytest.fixture(autouse=True)
def _computed_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What follows from the tables of a stored run is computed for the first question alone, as where a page is made.

    `python -m tests.golden.renew` computes it for each, so that what comes of this is seen here as a difference.
    """
    begin, begun = Run.__init__, list[tuple[tuple[Path, str], Run]]()

    def begin_with(run: Run, folder: RunFolder | str | Path, target: Target | None = None, *known: Any) -> None:
        begin(run, folder, target, *known)
        stored = HERE / "runs" / Path(run.folder.root).name
        if not any(known) and stored.is_dir():
            run.__dict__.update(COMPUTED.get((stored, str(target)), {}))
            begun.append(((stored, str(target)), run))

    monkeypatch.setattr(Run, "__init__", begin_with)
    yield
    for key, run in begun:
        COMPUTED.setdefault(key, {}).update((name, run.__dict__[name]) for name in ALIKE if name in run.__dict__)


COMPUTED: dict[tuple[Path, str], dict[str, Any]] = {}
ALIKE = ("studies", "boundary", "_states", "_fit", "_measured", "targets", "budgets", "laws", "sets", "sensitivity")


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_the_answer_is_the_stored_one(question: Question, tmp_path: Path) -> None:
    answers = ask(question, tmp_path)
    held = [face for face in FACES if answer(question, face).exists()]
    assert sorted(answers) == sorted(held), f"there are other answers than stored: {list(answers)}, {held}"
    for face, new in answers.items():
        if face == "txt":
            differ(f"{question}.{face}", answer(question, face).read_text(), new)
        else:
            facts = stored(f"{question}.{face}".removesuffix(".json"))
            same = agreed(json.loads(new), facts, question.within)
            differ(f"{question}.{face}", *(json.dumps(each, indent=2) for each in (facts, same)))


def test_what_is_refused_is_refused_with_the_same_words(tmp_path: Path) -> None:
    text = refused(REFUSED, tmp_path)
    differ("refused.txt", (ANSWERS / "refused.txt").read_text(), text)
    assert text.count("\nexit code 2\n") == len(REFUSED) and "Traceback" not in text


def test_every_command_has_an_answer_that_is_held() -> None:
    asked = {words for question in QUESTIONS for words in (question.words[:1], question.words[:2])}
    without = {" ".join(words) for words in commands(typer.main.get_command(application(()))) if words not in asked}
    assert without == set(WITHOUT_ANSWER), "add a question to tests/golden/questions.py, or say there why it has none"


def test_every_stored_answer_is_asked_for() -> None:
    asked = {ANSWERS / "refused.txt", *(answer(question, face) for question in QUESTIONS for face in FACES)}
    assert set(ANSWERS.rglob("*.*")) <= asked


def answer(question: Question, face: str) -> Path:
    return ANSWERS / f"{question}.{face}"


def differ(name: str, old: str, new: str) -> None:
    """Fail with the first lines of the difference, if there is one."""
    lines = list(unified_diff(old.splitlines(), new.splitlines(), f"stored {name}", f"new {name}", lineterm="", n=2))
    more = [f"... and {len(lines) - SHOWN} lines more"] if len(lines) > SHOWN else []
    if lines:
        pytest.fail("\n".join([*lines[:SHOWN], *more]), pytrace=False)


def commands(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command below a group of the command line."""
    below: Mapping[str, object] | None = getattr(command, "commands", None)
    if below is None:
        yield words
        return
    for name, each in below.items():
        yield from commands(each, (*words, name))
