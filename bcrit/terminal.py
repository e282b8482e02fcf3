"""What is printed: sentences wrapped at words on a terminal, whole lines into files and pipes; tables; answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from bcrit.analysis.report.answer import Answer, Rows


def wide_console(stderr: bool = False) -> Console:
    """A console that does not squeeze tables into 80 columns where there is no terminal to tell its width."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=120)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text, which may hold anything, as it is: without markup or highlighting."""
    console.print(escape(text), style=style, highlight=False, soft_wrap=not console.is_terminal)


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object to stdout."""
    print(json.dumps(content, indent=2, allow_nan=False))


def show(answer: Answer) -> None:
    """The terminal's face of an answer: its brief tables, then what it says, unless it has a face of its own."""
    from bcrit.analysis.report.answer import Rows, Text

    console = wide_console()
    brief = (part for part in answer.parts if isinstance(part, Rows) and part.brief)
    usual: tuple[str | Rows | Text, ...] = (*brief, *answer.sentences, *(f"  note: {note}" for note in answer.notes))
    for part in answer.terminal or usual:
        if isinstance(part, Rows):
            console.print(table(part))
        elif isinstance(part, Text):
            say(console, part.text, style="bold")
        else:
            say(console, part)


def table(rows: Rows) -> Table:
    """Right-aligned under its heading; where there is too little room cells are broken, but never within a word."""
    found = Table(title=escape(rows.heading) or None, box=box.SIMPLE_HEAD)
    for place, heading in enumerate(rows.table.head):
        words = " ".join((heading, *(row[place] for row in rows.table.rows))).split()
        found.add_column(escape(heading), justify="right", min_width=max(map(len, words), default=1))
    for row in rows.table.rows:
        found.add_row(*map(escape, row))
    return found
