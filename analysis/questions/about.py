"""What was run, and what do the words mean?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bcrit.analysis.report.answer import Answer, Part, Rows, Table, Text, Words, table_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.load import dump_experiment
from bcrit.search_spaces.outcome import Outcome


def ask(run: Run) -> Answer:
    """The experiment, the environment, the place, and the words of the report."""
    whole = Text(dump_experiment(run.experiment), "Experiment, with all defaults filled in", verbatim=True)
    parts: list[Part] = [whole]
    if run.environment:
        parts.append(Rows("Environment", environment_table(run.environment)))
    parts.append(Text(f"Run folder: {run.location}"))
    parts.append(Words(glossary(run.experiment.unit, str(run.experiment.target)), "Words"))
    return Answer("about", "What was run", (), tuple(parts))


def environment_table(sessions: Sequence[Mapping[str, Any]]) -> Table:
    """Versions, host and devices; where a later session of the run had others, both."""
    names = dict.fromkeys(name for session in sessions for name in session)
    values = {name: dict.fromkeys(_flat(session.get(name)) for session in sessions) for name in names}
    return table_of([{"what": name, "value": "; then ".join(different)} for name, different in values.items()])


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(inner) for inner in value) or "none"
    return "–" if value is None else str(value)


def glossary(unit: str, target: str) -> dict[str, str]:
    """Symbols first, then how a trial can end, one line each."""
    return {
        "batch size, B": f"How many {unit} one optimizer update uses.",
        "step": "One optimizer update.",
        "steps, S(B)": "Steps that the best setting at batch size B needs to reach the target: s_min (1 + b_crit / B).",
        f"{unit}, E(B)": f"How many {unit} that takes: B S(B) = e_min (1 + B / b_crit).",
        "target": f"{target}: reached at the first evaluation that is strictly better.",
        "s_min": "Steps that remain however large the batch: the floor of time.",
        "e_min": f"The {unit} that remain however small the batch: the floor of compute.",
        "b_crit": f"e_min / s_min: there steps and {unit} are both twice their minimum (2x definition).",
        "study": "The search for the best hyperparameters at one batch size.",
        "trial": "One training run at one setting, with one seed.",
        "search, confirm": "The search picks a setting; fresh seeds, none stopped early, make its number.",
        "interval of a study": (
            "Order statistics over its fresh seeds that cover their median with 90 % (their range if few)."
        ),
        **{outcome.value: outcome.sentence for outcome in Outcome},
    }
