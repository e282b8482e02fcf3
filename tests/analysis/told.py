"""Words that are stored beside a test: what is said in made-up situations, and what moves of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import unified_diff
from pathlib import Path

import pytest

Situations = Mapping[str, Callable[[], Sequence[str]]]


def text_of(situations: Situations) -> str:
    """What is said in every situation, a sentence a line."""
    return "".join(f"== {name}\n" + "".join(f"{said}\n" for said in tell()) for name, tell in situations.items())


def held(stored: Path, situations: Situations, name: str) -> None:
    """Fail with the difference between what is said in one situation and what is stored of it."""
    old, new = (
        f"{stored.read_text()}== ".partition(f"== {name}\n")[2].partition("== ")[0],
        "\n".join(situations[name]()),
    )
    lines = list(unified_diff(old.splitlines(), new.splitlines(), f"stored {stored.name}", "new", lineterm="", n=2))
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)
