"""What holds of every question: one contract over the list."""

import inspect
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import plotly.graph_objects as go
import pytest
import typer

from bcrit.analysis.questions import OF_SEVERAL, QUESTIONS, Line, Question, question
from bcrit.analysis.records.run_folder import ADAPTIVE, LANDSCAPE, RunFolder
from bcrit.analysis.report import Answer, Plot, Rows, Text
from bcrit.analysis.report.build import finish, sections
from bcrit.analysis.run import Run
from bcrit.cli import application
from tests.analysis.probed_runs import probed_run
from tests.analysis.questions.adaptive.made_up import adaptive
from tests.analysis.questions.landscape.made_up import landscape
from tests.analysis.report import runs
from tests.bcrit.command import ROOT, bcrit, refused

WITHOUT = ("made up", "nothing to recommend", "there is one kind", "the run has no search", "every")
LINES = {**QUESTIONS, **OF_SEVERAL}
every_question = pytest.mark.parametrize("name", LINES)
every_command = pytest.mark.parametrize("name", [name for name, line in LINES.items() if line.says])
BEYOND = {"beyond_target": True}  # as `finals` needs it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose texts try to be markup."""
    target = {"metric": runs.EVIL, "threshold": 1, "direction": "minimize"}
    folder = probed_run(tmp_path_factory.mktemp("run") / "run", target=target, unit=runs.EVIL, confirm=BEYOND)
    folder.write_result(LANDSCAPE, landscape(unit=runs.EVIL, target=runs.EVIL, metric=runs.EVIL, notes=("One.",)))
    folder.write_result(ADAPTIVE, adaptive(unit=runs.EVIL, target=runs.EVIL, notes=("One.",)))
    return Run(folder)


def given(name: str, run: Run) -> Run | list[Run]:
    """What this question takes: the run, or it and the same again under another name."""
    return [run, run.but(location="again")] if name in OF_SEVERAL else run


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(str(probed_run(tmp_path_factory.mktemp("stored") / "run", confirm=BEYOND)))


@every_command
def test_its_options_say_what_they_are_for_and_its_docstring_is_the_line_of_the_list(name: str) -> None:
    ask = question(name)
    assert (inspect.getdoc(ask) or "").splitlines()[0] == LINES[name].says
    for option in list(inspect.signature(ask, eval_str=True).parameters.values())[1:]:
        assert option.default is not option.empty and get_args(option.annotation)[1].endswith(".")


@every_question
def test_an_answer_is_plain_complete_and_holds_no_markup_of_the_users(run: Run, name: str) -> None:
    answer = question(name)(given(name, run))
    assert isinstance(answer, Answer) or not LINES[name].says
    if isinstance(answer, str):
        return
    json.dumps(answer.facts, allow_nan=False)
    assert answer.name == name and (answer.sentences or answer.parts)
    assert all(said.rstrip().endswith((".", ":")) for said in (*answer.sentences, *answer.notes))
    plots = [part for part in answer.parts if isinstance(part, Plot)]
    assert len({plot.name for plot in plots}) == len(plots)
    for plot in plots:
        assert plot.caption.endswith(".")
        go.Figure(plot.figure)
        assert "<script" not in str(plot.figure) and "<b>" not in str(plot.figure)
    for rows in (part for part in answer.parts if isinstance(part, Rows)):
        assert {len(row) for row in rows.table.rows} <= {len(rows.table.head)}


@every_command
def test_the_terminal_the_json_and_the_page_have_the_same_answer(stored: Path, name: str) -> None:
    places = [stored]
    if name in OF_SEVERAL:
        places += [Path(shutil.copytree(stored, stored.with_name("other"), dirs_exist_ok=True))]
    before = sorted(stored.rglob("*"))
    read = [Run(RunFolder.at(place)) for place in places]
    answer = question(name)(read if name in OF_SEVERAL else read[0])
    assert isinstance(answer, Answer)
    typed = name.replace("_", "-")
    shown, told = bcrit(typed, *places), bcrit(typed, *places, "--json")
    assert shown.returncode == told.returncode == (0 if answer.yes else 1), shown.stderr
    assert json.loads(told.stdout) == json.loads(json.dumps(answer.facts))
    words = [part.text if isinstance(part, Text) else part for part in answer.terminal if not isinstance(part, Rows)]
    assert all(sentence in shown.stdout for sentence in words or answer.sentences)
    assert sorted(stored.rglob("*")) == before  # a question writes nothing


@every_command
def test_a_place_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    message = refused(bcrit(name.replace("_", "-"), tmp_path))
    assert "not a run folder" in message or "cannot be read" in message  # as a run, or as a table


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_run_that_cannot_be_asked_says_why(name: str) -> None:
    """Made up: it has no curves, and nothing was measured beside them."""
    answer = question(name)(runs.usual())
    assert isinstance(answer, Answer) or "was measured" in answer or answer.startswith(WITHOUT)


def test_the_question_that_contributing_shows_is_one(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    module = ModuleType("bcrit.analysis.questions.outcomes")
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    (line,) = re.findall(r'`"outcomes": (Line\(.*?\))`', text.replace("\n", " "))
    line = eval(line, {"Line": Line})
    assert line.says == inspect.getdoc(module.ask)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(QUESTIONS, "outcomes", line)
    run = Run(RunFolder.at(stored))
    answer = run.ask("outcomes")
    assert "trials most ended as" in answer.sentences[0]
    assert answer in sections(run) and run.to_json()["outcomes"] == answer.facts  # by the line alone
    json.dumps(answer.facts, allow_nan=False)
    assert module.ask(run, stage="none") == "the run has no finished trial of the stage 'none'"
    assert "outcomes" in typer.main.get_command(application(())).commands  # type: ignore[attr-defined]


def test_a_question_is_asked_once_by_all_that_show_its_answer(
    stored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def counted(name: str) -> Question:
        asked.append(name)
        return question(name)

    monkeypatch.setattr("bcrit.analysis.run.question", counted)
    run = finish(RunFolder.at(Path(shutil.copytree(stored, tmp_path / "run"))))
    run.to_json()
    run.ask("steps")
    assert sorted(asked) == sorted(QUESTIONS)
