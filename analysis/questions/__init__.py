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
command refuses. Every option is annotated with its help; the docstring is that of the command. `run` may be a table of
steps-to-target too, if it is annotated so: see `ask` in `recommend.py`; or several, as in `finals.py`."""

QUESTIONS: Final[Mapping[str, str]] = {
    "steps": "",
    "steps.examples": "",
    "recommend": "Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits.",
    "search": "",
    "studies": "",
    "recommend.hardware": "",
    "fit": "Fit the curve S = s_min (1 + b_crit / B) to a table of steps-to-target from anywhere.",
    "targets": "Read steps to other targets from the curves of a run, and how b_crit changes with the target.",
    "budgets": "Show the best result of every batch size under fixed budgets, and which one wins.",
    "optimum": "Say how the best learning rate and momentum move with the batch size, and by which law, if any.",
    "sensitivity": "Say how much of each search space does nearly as well as the best, and which hyperparameters "
    "matter.",
    "landscape": "",
    "noise_scale": "Show the gradient noise scales along the confirming runs, beside the fitted b_crit.",
    "weight_distance": "Show how far the weights moved from their start along the confirming runs, and by which law.",
    "adaptive": "",
    "curves": "",
    "about": "",
    "recommend.decision": "",
}
"""Every question with what its command says in the list of commands, in the order of the report; "" has no command,
or one that measures first.
`file.function` is a further section of the report that a file answers."""

OF_SEVERAL: Final[Mapping[str, str]] = {
    "compare": "Compare runs: optimizers, models, targets side by side, and which differences are real.",
    "finals": (
        "Compare what runs have got after their last step, over seeds: for given settings, as in a paper's table."
    ),
}
"""Questions that are asked of several runs at once, which the report of one run does not have."""


def question(name: str) -> Question:
    """The function that answers; its module is loaded when it is asked for, so that `bcrit --help` is quick."""
    module, _, function = name.partition(".")
    found: Question = getattr(import_module(f"{__name__}.{module}"), function or "ask")
    return found
