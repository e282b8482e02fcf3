"""Asking a command as the goldens do: on copies of what it names, in a terminal of 100 columns without colour."""

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
    r'("top_residual": )[-+.\de]+': r'\1"ROUNDING"',  # the last digits of an iteration that has converged
    # The versions that are installed here, not those a run was made with.
    r'("torch": ")[^"]+': r"\1VERSION",
    r"python -m [\w.]*bcrit\b": "bcrit",  # as click names the program when a module of ours runs it
}
"""What is not of the answer but of the place and the day."""

FACES = ("json", "txt", "figures.json")
"""What is held of an answer, by the ending of its file: `--json`, the terminal and a page's text, a page's figures."""


@dataclass(frozen=True)
class Question:
    """One command on one run."""

    name: str  # of its answers: folder/file
    words: tuple[str, ...]  # without --json; a path of `runs/`, `inputs/` or `recipe/` names what lies there
    faces: tuple[str, ...] = ("json", "txt")  # which are held; a page has its figures beside its text
    within: float = 1e-6  # relative difference of two numbers that are the same

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
    return {face: text for face, text in answers.items() if text}


def refused(commands: Sequence[str], place: Path) -> str:
    """What is printed to those who did something wrong, one command after another."""
    blocks = []
    for number, command in enumerate(commands):
        words, here = tuple(shlex.split(command)), place / str(number)
        with patch.dict(TERMINAL, TTY_COMPATIBLE="0"):  # whole lines: where one ends must not depend on the place
            blocks.append(steady(said(words, typed(words, here)), here))
        lay_out(words, beside := place / "beside")
        assert files(here) == files(beside), f"{command}: what is refused writes nothing"
        shutil.rmtree(beside)
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


def files(place: Path) -> dict[str, bytes]:
    """What lies in a folder."""
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


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


def stored(name: str) -> Any:
    """A stored answer; "as in full/targets" stands in it for what is an answer of its own."""
    facts = json.loads((ANSWERS / f"{name}.json").read_text())
    if not isinstance(facts, dict):
        return facts
    return {key: stored(value[6:]) if str(value).startswith("as in ") else value for key, value in facts.items()}


def once(name: str) -> Any:
    """The same with those of its parts only named that are answers of their own."""
    facts, folder = stored(name), name.partition("/")[0]
    own = {key: f"{folder}/{key}" for key in facts if (ANSWERS / folder / f"{key}.json").exists()}
    same = {
        key: f"as in {other}" for key, other in own.items() if agreed(facts[key], stored(other), 1e-6) == stored(other)
    }
    return facts | same


def written(value: Any, ahead: int = 0, indent: int = 0) -> str:
    """JSON in lines of 120 columns, with nine digits of each number: more than is compared."""
    value = float(f"{value:.9g}") if isinstance(value, float) else value
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(f"{json.dumps(key)}: ", each) for key, each in value.items()]
    elif isinstance(value, list):
        items = [("", each) for each in value]
    if not items:
        return json.dumps(value, ensure_ascii=False)
    cells = [f"{key}{written(each, len(key) + 1, indent + 1)}" for key, each in items]
    flat = f"{opening}{', '.join(cells)}{closing}"
    if "\n" not in flat and indent + ahead + len(flat) <= 120:
        return flat
    lines = [cells[0]]
    for cell in cells[1:]:
        if "\n" in lines[-1] + cell or indent + 3 + len(lines[-1]) + len(cell) > 120:
            lines.append(cell)
        else:
            lines[-1] += f", {cell}"
    margin = "\n" + " " * (indent + 1)
    return f"{opening}{margin}{f',{margin}'.join(lines)}\n{' ' * indent}{closing}"


__all__ = ["ANSWERS", "FACES", "HERE", "Question", "agreed", "ask", "once", "refused", "stored", "written"]
