"""The site builds whole and needs no network to be read; its reference holds all that the code has; a notebook runs."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

import bcrit
from bcrit.search_spaces import Experiment
from docs.site import COMMANDS, keys

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with every warning an error: a link that leads nowhere, a page outside the navigation.

    Not with `--quiet`, under which mkdocs counts no warnings.
    """
    place = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_a_reader_needs_no_network(site: Path) -> None:
    loads = re.compile(
        r"""(?:<(?:script|img|iframe|source)\b[^>]*\bsrc|<link\b(?![^>]*canonical)[^>]*\bhref)=["'](https?:)?//"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert [page.name for page in pages if loads.search(page.read_text(encoding="utf-8"))] == []
    styles = [
        sheet.name for sheet in site.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", sheet.read_text("utf-8"))
    ]
    assert styles == []


def test_the_reference_has_every_key_command_option_and_public_name(site: Path) -> None:
    of = {path.stem: path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html")}
    assert [key for key, *_ in keys(Experiment) if f"<code>{key}</code>" not in of["experiment"]] == []
    inner = [c for command in COMMANDS.values() for c in getattr(command, "commands", {"": command}).values()]
    options = {option for command in inner for p in command.params for option in p.opts if option.startswith("--")}
    assert [option for option in options - {"--help"} if option not in of["commands"]] == []
    assert [name for name in bcrit.__all__ if f"bcrit.{name}" not in of["python"]] == []


def test_every_answer_lies_within_two_clicks(site: Path) -> None:
    """The first page leads to the questions and answers, and each answer leads on."""
    asked = re.findall(
        r"^### (.+)\n\n(.+(?:\n(?!\n).+)*)", (ROOT / "docs/faq.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert len(asked) >= 20
    assert [question for question, answer in asked if not re.search(r"\]\(|`bcrit [a-z]", answer)] == []
    assert 'href="faq.html"' in (site / "index.html").read_text(encoding="utf-8")


def test_the_notebook_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "runs/digits")
    cells = json.loads((ROOT / "examples/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)  # nothing that could be out of date
    known: dict[str, Any] = {}
    with chdir(tmp_path):
        for text in code:
            exec(text, known)
    assert "b_crit is identified at 2 of 2 targets" in capsys.readouterr().out
    assert known["plots"] and known["steps"].figure["data"]
