"""Laws and near-optimal sets in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from bcrit.analysis.optimum.coordinates import EFFECTIVE
from bcrit.analysis.optimum.law_fit import Estimate
from bcrit.analysis.optimum.laws import Law
from bcrit.analysis.optimum.near_optimal import NearOptimal, Range
from bcrit.analysis.optimum.verdict import FEWEST, Fitted, LawVerdict
from bcrit.analysis.wording import readable

WORDS: Final = {
    EFFECTIVE: "effective learning rate lr / (1 - momentum)",
    "lr": "learning rate",
}
"""Hyperparameters as sentences name them; others by their own name."""

LAW_WORDS: Final = {
    "none": "shows no change with the batch size",
    "sqrt": "grows like the square root of the batch size",
    "linear": "grows in proportion to the batch size",
    "power": "follows a power of the batch size",
    "saturating": "grows in proportion to the batch size and levels off, y_max / (1 + B_n / B)",
    "saturating_sqrt": "grows like the square root of the batch size and levels off, y_max / (1 + B_n / B)^0.5",
    "saturating_free": "grows and levels off, y_max / (1 + B_n / B)^g",
    "surge": "rises up to a batch size B_n and falls beyond",
}
"""What each law says."""


def words(name: str) -> str:
    """A hyperparameter or quantity as a sentence names it."""
    return WORDS.get(name, name)


def law_sentence(verdict: LawVerdict, name: str, laws: Sequence[Law]) -> str:
    """The verdict on the laws for one quantity."""
    n, what = len(verdict.batch_sizes), words(name)
    if verdict.kind == "too few":
        return f"{n} studies reached the target; a law for the {what} needs {FEWEST}, better 6."
    if verdict.kind == "none":
        return _rejected(verdict, what, laws)
    best = verdict.law(verdict.supported[0])
    if verdict.kind == "several":
        others = "; or ".join(f"it {LAW_WORDS[law]} ({law})" for law in verdict.supported)
        exponent = _exponent(verdict)
        return f"Laws for the best {what} cannot be told apart with {n} studies: {others}.{exponent}"
    rejected = [f.law.name for f in verdict.laws if f.rejected]
    out = f" Rejected: {', '.join('no change' if name == 'none' else name for name in rejected)}." if rejected else ""
    return f"The best {what} {LAW_WORDS[best.law.name]}: {parameters(best)}, from {n} studies.{out}{_exponent(verdict)}"


def _rejected(verdict: LawVerdict, what: str, laws: Sequence[Law]) -> str:
    nearest = min(verdict.laws, key=lambda f: math.inf if f.p_value is None else -f.p_value)
    misses = ", ".join(readable(b) for b in nearest.misses)
    missing = f" misses those at batch size {misses}" if misses else " misses them by too much together"
    tested = "None of the laws passes" if len(laws) > 2 else "Neither a constant nor a power of the batch size passes"
    return (
        f"{tested} through the near-optimal {what} of all {len(verdict.batch_sizes)} studies; the nearest, "
        f"{nearest.law.name},{missing}. Between batch sizes it is interpolated."
    )


def _exponent(verdict: LawVerdict) -> str:
    """The exponent of a plain power, which says how far from constant, square root and linear it is."""
    straight = {"none", "sqrt", "linear"} & set(verdict.supported)
    if not straight or not any(f.law.name == "power" for f in verdict.laws):
        return ""
    g = verdict.law("power").fit.parameters["g"]
    if math.isnan(g.low):
        return ""
    return f" Its mean slope over the measured range is B^{g.value:.2f} (95 % interval {g.low:.2f} to {g.high:.2f})."


def parameters(fitted: Fitted) -> str:
    """The numbers of a law with their intervals: `y_max = 1.9 (1.4 to 2.5), B_n = 60 (30 to 120)`."""
    return ", ".join(f"{name} = {estimate_text(value)}" for name, value in fitted.fit.parameters.items())


def estimate_text(value: Estimate) -> str:
    """A number with its interval; open ends in words."""
    if math.isnan(value.low):
        return f"{readable(value.value)} (no interval)"
    if math.isinf(value.high):
        return f"at least {readable(value.low)}" if value.low > 0 else "not identified"
    if value.low == 0:
        return f"at most {readable(value.high)}"
    return f"{readable(value.value)} ({readable(value.low)} to {readable(value.high)})"


def set_sentence(found: NearOptimal, margin: float) -> str:
    """What may be chosen at one batch size and what that costs."""
    name = EFFECTIVE if EFFECTIVE in found.ranges else "lr" if "lr" in found.ranges else next(iter(found.ranges), None)
    at, cost = f"At batch size {readable(found.batch_size)}", f"{100 * margin:.0f} % more steps"
    if name is None:
        return f"{at} the best point needs {readable(found.steps)} steps."
    seen = found.ranges[name]
    if seen.n == 1:
        return f"{at} a single point, at {words(name)} {readable(seen.best)}, was near-optimal; {_beyond(seen)}."
    ends = f"{words(name)} {readable(seen.seen_low)} to {readable(seen.seen_high)}"
    return f"{at}, {ends} costs at most {cost} than the best ({seen.n} points); {_beyond(seen)}."


def _beyond(seen: Range) -> str:
    below = None if seen.open_low else f"below {readable(seen.low)}"
    above = None if seen.open_high else f"above {readable(seen.high)}"
    known = " and ".join(text for text in (below, above) if text)
    return f"trials {known} were worse" if known else "how far the range reaches beyond is not known"


__all__ = ["LAW_WORDS", "WORDS", "estimate_text", "law_sentence", "parameters", "set_sentence", "words"]
