"""The words of the report, one line each."""

from __future__ import annotations

from bcrit.search_spaces.outcome import Outcome


def glossary(unit: str, target: str) -> tuple[tuple[str, str], ...]:
    """Symbols first, then how a trial can end.

    Args:
        unit: what batch sizes count.
        target: in words.
    """
    symbols = (
        ("batch size, B", f"How many {unit} one optimizer update uses."),
        ("step", "One optimizer update."),
        (
            "steps, S(B)",
            "Steps that the best setting at batch size B needs to reach the target: s_min (1 + b_crit / B).",
        ),
        (f"{unit}, E(B)", f"How many {unit} that takes: B S(B) = e_min (1 + B / b_crit)."),
        ("target", f"{target}: reached at the first evaluation that is strictly better."),
        ("s_min", "Steps that remain however large the batch: the floor of time."),
        ("e_min", f"The {unit} that remain however small the batch: the floor of compute."),
        ("b_crit", "e_min / s_min: there steps and " + unit + " are both twice their minimum (2x definition)."),
        ("study", "The search for the best hyperparameters at one batch size."),
        ("trial", "One training run at one setting, with one seed."),
        ("search, confirm", "The search picks a setting; fresh seeds, none stopped early, make its number."),
        (
            "interval of a study",
            "Order statistics over its fresh seeds that cover their median with 90 % (their range if few).",
        ),
    )
    return symbols + tuple((outcome.value, outcome.sentence) for outcome in Outcome)


__all__ = ["glossary"]
