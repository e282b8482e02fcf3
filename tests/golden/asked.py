"""Asking a command as the goldens do: on copies of what it names, in a terminal of 100 columns without colour."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.bcrit.command import Done, bcrit
from tests.golden.page import Page, outline

HERE = Path(__file__).parent
ANSWERS = HERE / "answers"
TERMINAL: dict[str, str] = {"COLUMNS": "100", "LINES": "40", "TERM": "dumb", "TTY_COMPATIBLE": "1"}
NOT_SET = ("NO_COLOR", "FORCE_COLOR", "BCRIT_TRACEBACK")
WITHOUT_JSON = ("export", "report")

PASSING: Mapping[str, str] = {
    # The versions that are installed here, not those a run was made with.
    r'("torch": ")[^"]+': r"\1VERSION",
    r"python -m [\w.]*bcrit\b": "bcrit",  # as click names the program when a module of ours runs it
}
"""What is not of the answer but of the place and the day."""

FACES = ("json", "txt", "figures.json")
"""What is held of an answer, by the ending of its file: `--json`, the terminal and a page's text, a page's figures."""

# Durations, and what the pilot made of steps: it times them until a second is over.
_DURATION = re.compile(r"\b[\d.,]+ (µs|ms|s|min|h|days)\b|(?<=The pilot made )[\d,]+ steps, [\d.]+ %")


@dataclass(frozen=True)
class Question:
    """One command on one run.

    Attributes:
        name: of its answers: folder/file.
        words: of the command line, without --json. A path of `runs/`, `inputs/` or `recipe/` names what lies there.
        faces: which of "json" and "txt" are held; a page has its figures beside its text.
        within: relative difference of two numbers that are the same.
        timed: whether it has times of this machine, which are left out.
    """

    name: str
    words: tuple[str, ...]
    faces: tuple[str, ...] = ("json", "txt")
    within: float = 1e-6
    timed: bool = False

    def __str__(self) -> str:
        return self.name


def ask(question: Question, place: Path) -> dict[str, str]:
    """The answer by its faces, as they are stored; `place` is an empty folder."""
    answers: dict[str, str] = {}
    if "json" in question.faces and question.words[0] not in WITHOUT_JSON:
        answers["json"] = steady(typed(question.words, place / "json", "--json").stdout, place / "json")
    if "txt" in question.faces:
        place /= "txt"
        answers["txt"] = steady(said(question.words, typed(question.words, place)), place)
    if question.name.endswith("page") and (path := next(place.rglob("*.html"), None)):
        page = Page(path.read_text())
        answers["txt"] += steady("\n".join(["", *page.lines, ""]), place)
        answers["figures.json"] = json.dumps(outline(page.figures), indent=2) + "\n"
    if question.timed:
        answers["json"] = json.dumps(untimed(json.loads(answers["json"])), indent=2) + "\n"
    return {face: text for face, text in answers.items() if text}


def refused(commands: Sequence[str], place: Path) -> str:
    """What is printed to those who did something wrong, one command after another."""
    blocks = []
    for number, command in enumerate(commands):
        words, here = tuple(shlex.split(command)), place / str(number)
        with patch.dict(TERMINAL, TTY_COMPATIBLE="0"):  # whole lines: where one ends must not depend on the place
            blocks.append(steady(said(words, typed(words, here)), here))
    return "\n".join(blocks)


def lay_out(words: tuple[str, ...], place: Path) -> None:
    """Copy what a command names to a new folder, so that nothing of the repository is written to."""
    place.mkdir()
    for word in words:
        for source in (HERE / "runs" / word, HERE / word):
            if source.is_dir():
                shutil.copytree(source, place / word, dirs_exist_ok=True)
            elif source.is_file():
                (place / word).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place / word)


def typed(words: tuple[str, ...], place: Path, *more: str) -> Done:
    """What a command does when it is typed in a terminal at this place, a new folder."""
    lay_out(words, place)
    with patch.dict(os.environ, TERMINAL):
        for name in NOT_SET:
            os.environ.pop(name, None)
        return bcrit(*words, *more, cwd=place)


def said(words: tuple[str, ...], done: Done) -> str:
    """A command, its exit code and what it printed."""
    errors = f"--- stderr\n{done.stderr}" if done.stderr else ""
    return f"$ bcrit {shlex.join(words)}\nexit code {done.returncode}\n{done.stdout}{errors}"


def steady(text: str, place: Path) -> str:
    """The same without what depends on the place and the day, and without blanks at the ends of lines."""
    text = text.replace(str(place.resolve()), "PLACE").replace(str(place), "PLACE")
    for pattern, instead in PASSING.items():
        text = re.sub(pattern, instead, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def untimed(value: Any) -> Any:
    """An answer without the seconds and hours that this machine took."""
    if isinstance(value, dict):
        return {
            key: "TIME" if re.search("seconds|hours|^spent$", key) else untimed(each) for key, each in value.items()
        }
    if isinstance(value, list):
        return [untimed(each) for each in value]
    return _DURATION.sub("TIME", value) if isinstance(value, str) else value


def agreed(new: Any, old: Any, within: float) -> Any:
    """`new` with every number that is the same as in `old` written as it is there, and its keys in the order there."""
    if isinstance(new, dict) and isinstance(old, dict):
        order = [*(key for key in old if key in new), *(key for key in new if key not in old)]
        return {key: agreed(new[key], old.get(key), within) for key in order}
    if isinstance(new, list) and isinstance(old, list):
        return [agreed(one, old[k] if k < len(old) else None, within) for k, one in enumerate(new)]
    if _is_number(new) and _is_number(old) and abs(new - old) <= max(within * max(abs(new), abs(old)), 1e-12):
        return old
    return new


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


__all__ = ["ANSWERS", "FACES", "HERE", "Question", "agreed", "ask", "refused"]
