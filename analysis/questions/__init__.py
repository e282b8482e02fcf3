"""What a run can be asked: one file a question, with its rule, words, figures, tables and options.

The list makes the commands, the sections of the report in their order, and the reference of the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from bcrit.analysis.report.answer import Answer

Question: TypeAlias = "Callable[..., Answer | str]"
"""`ask(run, **options)`: a string says why this run cannot be asked: the report then has no section of it, and the
command refuses. Every option is annotated with its help; the docstring is that of the command."""

QUESTIONS: Final[Mapping[str, str]] = {
    "targets": "Read steps to other targets from the curves of a run, and how b_crit changes with the target.",
    "budgets": "Show the best result of every batch size under fixed budgets, and which one wins.",
}
"""Every question with what its command says in the list of commands, in the order of the report."""


def question(name: str) -> Question:
    """The function that answers; its module is loaded when it is asked for, so that `bcrit --help` is quick."""
    found: Question = import_module(f"{__name__}.{name}").ask
    return found
