"""What is printed: sentences wrapped at words on a terminal, whole lines into files and pipes; tables; answers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from bcrit.analysis.report.answer import Answer, Rows


_UNBOUNDED = 10_000  # columns: wide enough for any table, so that it is measured as it is


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


def show(answer: Answer, console: Console | None = None) -> None:
    """The terminal's face of an answer: its brief tables, then what it says, unless it has a face of its own."""
    from bcrit.analysis.report.answer import Rows, Text

    console = console or wide_console()
    brief = (part for part in answer.parts if isinstance(part, Rows) and part.brief)
    usual: tuple[Rows | Text | str, ...] = (*brief, *answer.sentences, *(f"  note: {note}" for note in answer.notes))
    for part in answer.terminal or usual:
        if isinstance(part, Rows):
            console.print(table(part, console))
        elif isinstance(part, Text):
            say(console, part.text, style="bold")
        else:
            say(console, part)


def table(rows: Rows, console: Console) -> Table:
    """Right-aligned under its heading, without the spare columns that do not fit: a cut number would be a wrong one.

    Where there is still too little room cells are broken, but never within a word.
    """
    places, unbounded = list(rows.spare), console.options.update(width=_UNBOUNDED)
    for kept in range(len(places), -1, -1):
        found = _table(rows, places[kept:])
        if kept < len(places):
            found.caption = escape(f"not shown: {', '.join(rows.spare[place] for place in places[kept:])}")
        if Measurement.get(console, unbounded, found).maximum <= console.width:
            break
    return found


def _table(rows: Rows, hidden: Collection[int]) -> Table:
    found = Table(title=escape(rows.heading) or None, box=box.SIMPLE_HEAD)
    shown = [place for place in range(len(rows.table.head)) if place not in hidden]
    for place in shown:
        words = " ".join((rows.table.head[place], *(row[place] for row in rows.table.rows))).split()
        width = max(map(len, words), default=1)
        found.add_column(escape(rows.table.head[place]), justify="right", min_width=width)
    for row in rows.table.rows:
        found.add_row(*(escape(row[place]) for place in shown))
    return found
