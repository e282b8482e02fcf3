"""README and docs tell the truth: their links, commands, outputs, code, keys and words are those of the code."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bcrit.search_spaces import Experiment, Outcome, SearchSpace, Stage, parse_experiment, read_yaml
from bcrit.tuner.workloads.logs import FOLDER, Log
from docs.site import COMMANDS, keys
from tests.bcrit.command import bcrit

ROOT = Path(__file__).parents[1]
FOR_US = "CONTRIBUTING.md"  # its command and code are made up
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / FOR_US, *sorted((ROOT / "docs").rglob("*.md")))
}
_FENCE = re.compile(
    r"(?:^<!-- (run|run: long|file: \S+) -->\n)?^```(\w+)\n(.*?)\n```$(?:\n\n```text\n(.*?)\n```$)?",
    flags=re.DOTALL | re.MULTILINE,
)
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True)
class Block:
    """Code between fences on a page."""

    page: str
    mark: str  # of the comment above it: `run`, `run: long`, `file: NAME`, or nothing
    language: str
    text: str
    printed: str  # the `text` block right below it


BLOCKS = [Block(page, *groups) for page, text in PAGES.items() for groups in _FENCE.findall(text) if page != FOR_US]
PROSE = {page: re.sub(r"<!--.*?-->", "", _FENCE.sub("", text), flags=re.DOTALL) for page, text in PAGES.items()}
RUN = [number for number, block in enumerate(BLOCKS) if block.mark.startswith("run")]


def blocks(language: str) -> list[str]:
    return [block.text for block in BLOCKS if block.language == language]


def full_commands() -> list[str]:
    """The `bcrit` command lines in shell blocks, also those quoted inside another command."""
    lines = re.findall(r"(?:^|&& )bcrit (.+)$", "\n".join(blocks("sh")), flags=re.MULTILINE)
    lines = [re.split(r"\s+(?:#|\|\|) ?", line)[0] for line in lines]
    lines = [line.removesuffix("'") if line.count("'") % 2 else line for line in lines]
    return sorted({line for line in lines if not line.startswith("--")})


def inline_code() -> list[str]:
    prose = (text for page, text in PROSE.items() if page != FOR_US)
    return [" ".join(code.split()) for text in prose for code in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", PROSE[page]) if "://" not in link]
    assert [link for link in links if link and not (ROOT / page).parent.joinpath(link).is_file()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_what_the_pages_on_the_code_name_is_there(page: str) -> None:
    named = [code for code in re.findall(r"`([\w./]+)`", PROSE[page]) if "/" in code and not code.startswith(".")]
    assert len(named) > 5 and [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_is_short_and_all_that_it_says_to_do_is_done() -> None:
    assert len(PAGES["README.md"].encode()) <= 9_000
    left = [block.text for block in BLOCKS if (block.page, block.language, block.mark) == ("README.md", "sh", "")]
    assert left == ["make demo\nmake test"]  # the first runs the example of a block that is run, the second this test
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in ("demo", "test"))
    assert "$(BIN)/bcrit tune examples/digits.yaml" in makefile


@pytest.mark.parametrize("line", full_commands())
def test_a_command_is_understood(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = COMMANDS[name]
    if hasattr(command, "commands"):  # a group: its first word names the command
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)  # parses and checks; runs nothing
    assert all((ROOT / word).is_file() for word in shlex.split(line) if word.startswith("examples/"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands who has cloned the repository, run `make demo`, and some probes."""
    place = tmp_path_factory.mktemp("reader")
    for name in (".venv", "examples"):
        (place / name).symlink_to(ROOT / name if (ROOT / name).exists() else Path(sys.prefix))
    (place / ".code").mkdir()
    (place / ".code/bcrit").symlink_to(ROOT / "bcrit")  # this checkout's, whatever is installed
    for name, run in (("digits", "digits"), ("probes", "full")):
        shutil.copytree(ROOT / "tests/golden/runs" / run, place / "runs" / name)
    return place


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[pytest.mark.long] if "long" in BLOCKS[n].mark else []) for n in RUN],
    ids=[f"{BLOCKS[n].page}: {BLOCKS[n].text.splitlines()[-1][:60]}" for n in RUN],
)
def test_a_block_that_says_so_runs_and_prints_what_the_page_says(number: int, folder: Path) -> None:
    """Its files are those that the page shows; a `text` block below it is what it prints, with `...` for the rest."""
    block = BLOCKS[number]
    for other in BLOCKS:
        if other.page == block.page and other.mark.startswith("file: "):
            (folder / other.mark.removeprefix("file: ")).write_text(other.text + "\n", encoding="utf-8")
    if "long" in block.mark:
        shutil.rmtree(folder / "runs/digits")
    lines = block.text.splitlines()
    if all(line.startswith("bcrit ") for line in lines):
        done = [bcrit(*shlex.split(line)[1:], cwd=folder) for line in lines]
    else:  # word for word in a shell
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        known = {**os.environ, "PYTHONPATH": str(folder / ".code"), "PATH": path, "COLUMNS": "300"}
        words = ["bash", "-euc", block.text]
        done = [subprocess.run(words, cwd=folder, env=known, capture_output=True, text=True, check=False, timeout=280)]
    told = "\n".join(ran.stdout + ran.stderr for ran in done)
    assert [ran.returncode for ran in done] == [0] * len(done), told
    said, place = " ".join(told.split()), 0
    searched = "long" in block.mark  # what a search finds differs from processor to processor: its words are compared
    said = _NUMBER.sub("#", said) if searched else said
    for part in re.split(r"^\.\.\.$", block.printed, flags=re.MULTILINE):
        wanted = " ".join(part.split())
        wanted = _NUMBER.sub("#", wanted) if searched else wanted
        assert wanted in said[place:], f"{wanted!r} is not in what is printed:\n{told}"
        place = said.index(wanted, place)


def test_commands_in_sentences_name_commands_and_options_that_exist() -> None:
    groups = [(command, *getattr(command, "commands", {}).values()) for command in COMMANDS.values()]
    options = {option for group in groups for command in group for p in command.params for option in p.opts}
    named = [code.split() for code in inline_code() if code.startswith(("bcrit ", "--"))]
    assert len(named) > 10
    for words in named:
        assert words[0] != "bcrit" or words[1] in {*COMMANDS, "COMMAND"}, words
        assert {word for word in words if word.startswith("--")} <= options | {"--help"}, words


def test_every_command_is_mentioned() -> None:
    mentioned = {line.split()[0] for line in full_commands()}
    mentioned |= {code.split()[1] for code in inline_code() if code.startswith("bcrit ")}
    assert mentioned - {"COMMAND"} == set(COMMANDS)


def test_the_code_and_the_experiments_are_those_of_the_examples() -> None:
    examples = {path.read_text().strip() for path in (ROOT / "examples").glob("*.*")}
    code = [text for language in ("python", "yaml") for text in blocks(language) if "\nname: " in text or '"""' in text]
    assert len(code) >= 2 and [text for text in code if text not in examples] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_a_valid_experiment(path: Path) -> None:
    parse_experiment(read_yaml(path.read_text(), path.name), path.name)


def test_the_dimensions_in_sentences_are_read_as_written() -> None:
    forms = [
        code for code in inline_code() if re.match(r"\{scale: |(log|linear|reverse_log|integer) from|choice of", code)
    ]
    assert len(set(forms)) >= 6
    space = SearchSpace.model_validate({f"x{i}": read_yaml(form, "docs") for i, form in enumerate(forms)})
    assert "fixed" not in [dimension.scale for dimension in space.root.values()]


def test_every_key_of_an_experiment_has_a_meaning() -> None:
    """The reference is made of what stands below each field."""
    assert [key for key, _, meaning in keys(Experiment) if not meaning] == []


def glossary() -> Iterator[tuple[str, str]]:
    for line in PROSE["docs/glossary.md"].splitlines():
        if line.startswith("| `"):
            word, meaning = line.strip("| ").split(" | ")
            yield word.split("`")[1], meaning


def test_the_glossary_has_every_outcome_stage_and_symbol() -> None:
    words = dict(glossary())
    assert {outcome.value: f"outcome: {outcome.sentence}" for outcome in Outcome}.items() <= words.items()
    assert {"s_min", "e_min", "b_crit", "study", "trial", "target", "stage", "boundary"} <= set(words)
    assert all(f"`{stage.value}`" in words["stage"] for stage in Stage)


def test_every_package_stands_in_the_folder_tree() -> None:
    tree = PAGES["docs/architecture.md"]
    packages = [path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")]
    assert set(packages) >= {"bcrit", "tuner", "analysis", "search_spaces"}
    assert [name for name in packages if f"\n{name}/" not in tree] == []


OWN = "docs/guides/own_script.md"


def test_the_experiment_of_a_script_and_the_log_of_one_are_read_as_written() -> None:
    experiment, report = (block.text for block in BLOCKS if (block.page, block.language) == (OWN, "yaml"))
    assert parse_experiment(read_yaml(experiment, "guide"), "guide").optimizer == "own"
    assert Log.model_validate(read_yaml(report, "guide")["report"]).kind == "line"


def test_every_kind_of_log_and_the_folder_of_a_trial_stand_in_the_guide() -> None:
    assert all(f"`{kind}`" in PAGES[OWN] or f"`{{{kind}: " in PAGES[OWN] for kind in Log.model_fields if kind != "step")
    assert f"`{{{FOLDER}}}`" in PAGES[OWN]
