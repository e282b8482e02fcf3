"""The README tells the truth: its links, commands, code, keys and words are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from bcrit.analysis.questions import OF_SEVERAL, QUESTIONS
from bcrit.cli import application
from bcrit.search_spaces import Experiment, Outcome, SearchSpace, Stage, parse_experiment, read_yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)\n```$", README, flags=re.DOTALL | re.MULTILINE)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
COMMANDS: dict[str, Any] = typer.main.get_command(application({**QUESTIONS, **OF_SEVERAL})).commands  # type: ignore[attr-defined]


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def full_commands() -> list[str]:
    """The `bcrit` command lines in shell blocks, also those quoted inside another command."""
    lines = re.findall(r"(?:^|&& )bcrit (.+)$", "\n".join(blocks("sh")), flags=re.MULTILINE)
    return [line.removesuffix("'") if line.count("'") % 2 else line for line in lines]


def inline_code() -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", PROSE)]


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """The rows of the table under a heading, by their first word in backticks."""
    section = PROSE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].split("`")[1]: tuple(row[1:]) for row in rows}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the schema with its default as the README writes it."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        branch = isinstance(inner, type) and issubclass(inner, BaseModel)
        if field.is_required():
            yield prefix + name, "required"
        elif branch:
            yield prefix + name, "see below"
        else:
            default = str(field.default).lower() if isinstance(field.default, bool) else field.default
            yield prefix + name, f"`{'null' if default is None else default:{'g' if type(default) is float else ''}}`"
        if branch and inner is not SearchSpace:
            assert isinstance(inner, type)
            yield from keys(inner, f"{prefix}{name}.")


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PROSE) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_what_the_other_pages_name_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    named = [code for code in re.findall(r"`([\w./]+)`", prose) if "/" in code and not code.startswith(".")]
    assert len(named) > 5 and [path for path in named if not (ROOT / path).exists()] == []
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).is_file()] == []


@pytest.mark.parametrize("line", full_commands())
def test_a_command_is_understood(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = COMMANDS[name]
    if hasattr(command, "commands"):  # a group: its first word names the command
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)  # parses and checks; runs nothing


@pytest.mark.parametrize("line", full_commands())
def test_the_example_that_a_command_names_is_there(line: str) -> None:
    assert all((ROOT / word).is_file() for word in shlex.split(line) if word.startswith("examples/"))


def test_commands_in_sentences_name_commands_and_options_that_exist() -> None:
    groups = [(command, *getattr(command, "commands", {}).values()) for command in COMMANDS.values()]
    options = {option for group in groups for command in group for p in command.params for option in p.opts}
    named = [code.split() for code in inline_code() if code.startswith(("bcrit ", "--"))]
    assert len(named) > 10
    for words in named:
        assert words[0] != "bcrit" or words[1] in COMMANDS, words
        assert {word for word in words if word.startswith("--")} <= options, words


def test_every_command_is_mentioned() -> None:
    mentioned = {line.split()[0] for line in full_commands()}
    mentioned |= {code.split()[1] for code in inline_code() if code.startswith("bcrit ")}
    assert mentioned == set(COMMANDS)


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^make (\w+)$", "\n".join(blocks("sh")), flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_code_is_the_examples_code() -> None:
    assert blocks("python") == [(ROOT / "examples/my_workload.py").read_text().strip()]


def test_the_experiments_are_the_examples_and_are_valid() -> None:
    files = ["examples/digits.yaml", "examples/my_workload.yaml"]
    assert blocks("yaml") == [(ROOT / file).read_text().strip() for file in files]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_a_valid_experiment(path: Path) -> None:
    parse_experiment(read_yaml(path.read_text(), path.name), path.name)


def test_the_dimensions_in_sentences_are_read_as_written() -> None:
    forms = [
        code for code in inline_code() if re.match(r"\{scale: |(log|linear|reverse_log|integer) from|choice of", code)
    ]
    assert len(forms) == 6
    space = SearchSpace.model_validate({f"x{i}": read_yaml(form, "README") for i, form in enumerate(forms)})
    assert "fixed" not in [dimension.scale for dimension in space.root.values()]


def test_every_key_of_an_experiment_stands_in_the_table_with_its_default() -> None:
    found = {key: cells[0] for key, cells in table("The experiment file").items()}
    assert found == dict(keys(Experiment))


def test_the_glossary_has_every_outcome_stage_and_symbol() -> None:
    words = table("Glossary")
    assert {outcome.value: (f"outcome: {outcome.sentence}",) for outcome in Outcome}.items() <= words.items()
    assert {"s_min", "e_min", "b_crit", "study", "trial", "target", "stage", "boundary"} <= set(words)
    assert all(f"`{stage.value}`" in words["stage"][0] for stage in Stage)


def test_every_package_stands_in_the_folder_tree() -> None:
    tree = "\n".join(blocks("text"))
    packages = [path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")]
    assert set(packages) >= {"bcrit", "tuner", "analysis", "search_spaces"}
    assert [name for name in packages if f"\n{name}/" not in f"\n{tree}"] == []
