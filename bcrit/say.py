"""Printing sentences and tables: wrapped at words on a terminal, whole lines into files and pipes."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape


def wide_console(stderr: bool = False) -> Console:
    """A console that does not squeeze tables into 80 columns where there is no terminal to tell its width."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=120)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is, without markup or highlighting.

    Args:
        console: where.
        text: may hold anything, brackets too.
        style: of rich.
    """
    console.print(escape(text), style=style, highlight=False, soft_wrap=not console.is_terminal)
