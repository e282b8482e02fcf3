"""What a run can be asked: one file a question, with its rule, words, figures, tables and options.

The list makes the commands, the sections of the report in their order, and the object of `bcrit analyze --json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from bcrit.analysis.report import Answer

Question: TypeAlias = "Callable[..., Answer | str]"
"""`ask(run, **options)`: a string says why this run cannot be asked: the report then has no section of it, and the
command refuses. Every option is annotated with its help; the docstring is that of the command. `run` may be a table of
steps-to-target too, if it is annotated so: see `ask` in `recommend.py`; or several, as in `finals.py`."""


@dataclass(frozen=True)
class Line:
    """A question's line in the list."""

    says: str = ""  # of its command in the list of commands; "" has no command, or one that measures first
    analyzed: bool = False  # whether its facts stand in the object of `bcrit analyze --json` too


QUESTIONS: Final[Mapping[str, Line]] = {
    "status": Line(),
    "steps": Line(),
    "unreached": Line(analyzed=True),
    "steps.examples": Line(),
    "recommend": Line(
        "Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits."
    ),
    "studies.search": Line(),
    "studies": Line(),
    "recommend.hardware": Line(),
    "fit": Line("Fit the curve S = s_min (1 + b_crit / B) to a table of steps-to-target from anywhere."),
    "targets": Line(
        "Read steps to other targets from the curves of a run, and how b_crit changes with the target.", analyzed=True
    ),
    "budgets": Line("Show the best result of every batch size under fixed budgets, and which one wins.", analyzed=True),
    "optimum": Line(
        "Say how the best learning rate and momentum move with the batch size, and by which law, if any.", analyzed=True
    ),
    "sensitivity": Line(
        "Say how much of each search space does nearly as well as the best, and which hyperparameters matter.",
        analyzed=True,
    ),
    "landscape": Line(analyzed=True),
    "noise_scale": Line(
        "Show the gradient noise scales along the confirming runs, beside the fitted b_crit.", analyzed=True
    ),
    "weight_distance": Line(
        "Show how far the weights moved from their start along the confirming runs, and by which law.", analyzed=True
    ),
    "adaptive": Line(analyzed=True),
    "steps.curves": Line(),
    "studies.about": Line(),
    "recommend.decision": Line(),
}
"""Every question in the order of the report. `file.function` is a further section of the report that a file answers."""

OF_SEVERAL: Final[Mapping[str, Line]] = {
    "compare": Line("Compare runs: optimizers, models, targets side by side, and which differences are real."),
    "finals": Line(
        "Compare what runs have got after their last step, over seeds: for given settings, as in a paper's table."
    ),
}
"""Questions that are asked of several runs at once, which the report of one run does not have."""


def question(name: str) -> Question:
    """The function that answers; its module is loaded when it is asked for, so that `bcrit --help` is quick."""
    module, _, function = name.partition(".")
    found: Question = getattr(import_module(f"{__name__}.{module}"), function or "ask")
    return found
