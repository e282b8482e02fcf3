"""The top of the report: the question, the answer, the key numbers, and what speaks against them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.recommendation.words import listed
from bcrit.analysis.run import Run
from bcrit.analysis.wording import interval_text, readable


@dataclass(frozen=True)
class KeyNumber:
    """One number of the answer.

    Attributes:
        symbol: as in the glossary.
        value: with its unit, or that it is not identified.
        interval: its interval or bound, in words.
        meaning: what it is, in a sentence.
        identified: whether the data determine it.
    """

    symbol: str
    value: str
    interval: str
    meaning: str
    identified: bool


def answer(analysis: Run, recommendation: Recommendation | None) -> tuple[str, ...]:
    """The sentences of the prominent box."""
    if recommendation is not None:
        return (*recommendation.sentences, *settings(recommendation))
    if analysis.fit is None:
        why = analysis.no_fit or "too little was measured"
        return ("No batch size can be recommended: there is no fit.", f"{why[0].upper()}{why[1:].rstrip('.')}.")
    return ("No recommendation was computed for this run; the fit below is all that is known.",)


def settings(recommendation: Recommendation) -> tuple[str, ...]:
    """The hyperparameters of the choice that the first sentence names; nothing where it names none."""
    if recommendation.advised is None or not recommendation.hyperparameters:
        return ()
    at = recommendation.hyperparameters[recommendation.advised]
    return (f"Hyperparameters there ({at.source}): {listed(at.values)}.",)


def key_numbers(fit: HyperbolaFit, target: str) -> tuple[KeyNumber, ...]:
    """b_crit, s_min and e_min with their intervals."""
    level, unit = f"{100 * fit.level:g} % interval", fit.unit
    found = []
    twice = (
        f"the batch size that takes twice the fewest steps and twice the fewest {unit} ({fit.definition} definition)"
    )
    for symbol, counted, meaning in (
        ("b_crit", unit, f"Critical batch size: {twice}, to {target}."),
        ("s_min", "steps", f"Fewest steps to {target}, at very large batch sizes."),
        ("e_min", unit, f"Fewest {unit} to {target}, at very small batch sizes."),
    ):
        value: float = getattr(fit, symbol)
        known = fit.identified[symbol]
        between = interval_text(None, *fit.interval(symbol))
        interval = between if between == "no interval" else f"{level}: {between}"
        found.append(
            KeyNumber(symbol, f"{readable(value)} {counted}" if known else "not identified", interval, meaning, known)
        )
    return tuple(found)


def caveats(analysis: Run, recommendation: Recommendation | None) -> tuple[str, ...]:
    """What speaks against the answer: notes of the fit, caveats of the recommendation, and what the studies lack."""
    fit = analysis.fit
    found = [
        *(recommendation.caveats if recommendation else ()),
        *(fit.notes if fit else ()),
        *analysis.notes,
        *_studies(analysis),
    ]
    return tuple(dict.fromkeys(found))


def _studies(analysis: Run) -> list[str]:
    studies = analysis.studies.to_dict("records")
    unreached = [f"{readable(s['batch_size'])} ({readable(s['max_steps'])})" for s in studies if math.isnan(s["steps"])]
    reached = [study for study in studies if not math.isnan(study["steps"])]
    searched = [readable(study["batch_size"]) for study in reached if study["source"] != "confirm"]
    missed = [
        f"{readable(study['batch_size'])} ({study['n_reached']} of {study['n_seeds']})"
        for study in reached
        if study["n_reached"] < study["n_seeds"]
    ]
    found = []
    if unreached:
        found.append(f"The target was not reached at batch size (in steps): {', '.join(unreached)}.")
    if searched:
        found.append(
            f"At batch size {', '.join(searched)} the number is that of the search's best trial, not confirmed on "
            "fresh seeds, and so too low by the luck of the search."
        )
    if missed:
        found.append(f"Not all fresh seeds reached the target at batch size (how many did): {', '.join(missed)}.")
    edges = [edge for study in studies for edge in analysis.last_edges(study["batch_size"]).to_dict("records")]
    return found + [
        f"At batch size {readable(edge['batch_size'])} the best {edge['dimension']} lies at the {edge['side']} end of "
        "its box; a better point may lie outside."
        for edge in edges
        if edge["kind"] == "box" and math.isnan(edge["widened_to"])
    ]


__all__ = ["KeyNumber", "answer", "caveats", "key_numbers"]
