"""What mkdocs asks while it builds the site: files from outside docs/ that pages link to, and reference made from code.

Links are written as they lead through the repository, so that a page reads the same there and on the site.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

from bcrit.analysis.exchange import SOURCES
from bcrit.analysis.questions import OF_SEVERAL, QUESTIONS
from bcrit.cli import application
from bcrit.search_spaces import Experiment, SearchSpace

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = typer.main.get_command(application({**QUESTIONS, **OF_SEVERAL, **SOURCES})).commands  # type: ignore[attr-defined]
# Times the score of another page in the site's search. With 5, 26 of 27 searches in the words of public threads had the
# answer first, with 2 it was 22.
_ANSWERS_FIRST = 5
_LINK = re.compile(r"\]\(([^)#:\s]+)(?=[)#])")


@cache
def _code() -> Any:
    """The source of the experiment's keys, read once that somebody asks."""
    return griffe.load("bcrit.search_spaces", search_paths=[str(ROOT)], submodules=True)


def place(path: Path) -> str:
    """Where a file of the repository stands in the site."""
    name = path.relative_to(ROOT).as_posix()
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def linked(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if (found := (page.parent / target).resolve()).is_file() and found.is_relative_to(ROOT):
            yield found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README as the first page, and what is linked to from it and from other pages."""
    pages = [ROOT / "README.md", *(Path(file.abs_src_path or "") for file in files.documentation_pages())]
    here = {place(page) for page in pages[1:]}
    while pages:
        page = pages.pop()
        if place(page) not in here and not page.is_relative_to(ROOT / "docs"):
            here.add(place(page))
            files.append(File.generated(config, place(page), abs_src_path=str(page)))
        if page.suffix == ".md":
            pages += [found for found in linked(page) if place(found) not in here]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links into the site's, and fill in what is made from the code; answers come first in a search."""
    source = Path(page.file.abs_src_path or "")
    if source.name == "faq.md":
        page.meta["search"] = {"boost": _ANSWERS_FIRST}

    def moved(link: re.Match[str]) -> str:
        found = (source.parent / link[1]).resolve()
        return "](" + os.path.relpath(place(found), Path(place(source)).parent)

    made = {"<!-- keys -->": key_table, "<!-- commands -->": command_list}
    for mark, write in made.items():
        markdown = markdown.replace(mark, write()) if mark in markdown else markdown
    return _LINK.sub(moved, markdown)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key of an experiment with its default and its meaning, which stands below the field."""
    fields = _code()[model.__module__.removeprefix("bcrit.search_spaces.") + f".{model.__name__}"].members
    for name, field in model.model_fields.items():
        kind = field.annotation
        branch = isinstance(kind, type) and issubclass(kind, BaseModel)
        default: Any = "required" if field.is_required() else "see below" if branch else field.default
        if not field.is_required() and not branch:
            plain = str(default).lower() if isinstance(default, bool) else "null" if default is None else default
            default = f"`{plain:g}`" if type(plain) is float else f"`{plain}`"
        said = fields[name].docstring
        yield prefix + name, default, " ".join(said.value.split()) if said else ""
        if branch and kind is not SearchSpace:
            assert isinstance(kind, type)
            yield from keys(kind, f"{prefix}{name}.")


def key_table() -> str:
    """The keys as a table."""
    rows = (f"| `{key}` | {default} | {meaning} |" for key, default, meaning in keys(Experiment))
    return "\n".join(("| key | default | meaning |", "| --- | --- | --- |", *rows))


def command_list() -> str:
    """Every command as its `--help` has it."""
    found = []
    for name, command in COMMANDS.items():
        for inner in getattr(command, "commands", {"": command}).values():
            words = f"bcrit {name} {inner.name}" if inner is not command else f"bcrit {name}"
            context = command.make_context(words, [], resilient_parsing=True)
            usage = " ".join(inner.collect_usage_pieces(context))
            options = [
                f"| `{', '.join(p.opts)}`{' …' if p.multiple else ''} | {_shown(p.help)} | {_default(p)} |"
                for p in inner.params
                if p.param_type_name == "option" and p.name != "help"
            ]
            table = ["| option | meaning | default |", "| --- | --- | --- |", *options, ""] if options else []
            found += [f"## {words}", "", f"`{words} {usage}`", "", inner.help or "", "", *table]
    return "\n".join(found)


def _shown(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _default(option: Any) -> str:
    return "" if option.default in (None, False, ()) or option.required else f"`{option.default}`"
