"""The batch sizes that different authors call critical, read from one fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bcrit.analysis.fit.landmarks import Knee, Place, crossing, examples_are, steps_are
from bcrit.analysis.wording import readable
from bcrit.search_spaces import InputError

OVER_LINEAR = 1.2
"""Zhang et al. 2024 (arXiv 2410.21676), section 2: 20 % more steps than linear scaling from B0 would need."""


@dataclass(frozen=True)
class Definition:
    """One reading of "critical batch size".

    Attributes:
        name: short, unique in the list.
        batch_size: the estimate; None where it is not identified.
        low: lower end of its interval; 0 = open.
        high: upper end; inf = open.
        definition: what it estimates, in a sentence.
        curve: from which curve it is read.
    """

    name: str
    batch_size: float | None
    low: float
    high: float
    definition: str
    curve: Literal["hyperbola", "p_norm"]


def definitions(
    hyperbola: Knee, free: Knee | None, unit: str, linear_from: float = 0.0, efficiency: float = 0.8
) -> tuple[Definition, ...]:
    """Read all definitions from the curves.

    On the hyperbola the 2x point, both doubling points and the crossing of the asymptotes are one number. On a p-norm
    with p != 1 they differ (1.6-fold for p = 1.4, search-cost study, section 1), which is why its own are listed.

    20 % over linear scaling: linear scaling from B0 needs S(B0) B0 / B steps. With S = s_min (1 + b / B), S(B) = 1.2
    S(B0) B0 / B gives B + b = 1.2 (B0 + b), B* = b / 5 + 1.2 B0 (Zhang et al. 2024). It grows with b_crit, and so do
    the ends of its interval; for B0 = 0 it is where E = 1.2 e_min.

    Sample efficiency e = e_min / E = 1 / (1 + B / b), so B = b (1 / e - 1).

    Args:
        hyperbola: its knee.
        free: the p-norm's; None where it was not fitted or b_crit is not identified.
        unit: what batch sizes count.
        linear_from: B0, in `unit`; 0 is the limit of a small one.
        efficiency: e, in (0, 1).

    Returns:
        The list, the 2x point first.

    Raises:
        InputError: an option is out of range.
    """
    problems = []
    if not 0 <= linear_from < 1e100:
        problems.append(
            f"linear scaling starts from a batch size of at least 0, but it is {linear_from:g}; use 256, say"
        )
    if not 0 < efficiency < 1:
        problems.append(f"an efficiency lies between 0 and 1, but it is {efficiency:g}; use 0.8, say")
    if problems:
        raise InputError("definitions", problems)

    def entry(name: str, place: Place, definition: str, curve: Literal["hyperbola", "p_norm"]) -> Definition:
        return Definition(name, place.batch_size, place.low, place.high, definition, curve)

    end = hyperbola.at(examples_are(OVER_LINEAR))
    start = OVER_LINEAR * linear_from
    linear = Place(None if end.batch_size is None else end.batch_size + start, end.low + start, end.high + start)
    origin = readable(linear_from) if linear_from else "a vanishing batch size"
    found = [
        entry(
            "2x",
            hyperbola.place,
            f"Twice the fewest steps and twice the fewest {unit} (McCandlish et al. 2018).",
            "hyperbola",
        ),
        entry(
            "20_percent_over_linear",
            linear,
            f"20 % more steps than linear scaling from {origin} (Zhang et al. 2024).",
            "hyperbola",
        ),
        entry(
            "efficiency",
            hyperbola.at(examples_are(1 / efficiency)),
            f"{readable(100 * efficiency)} % of the {unit} that are used would do at the smallest batch sizes.",
            "hyperbola",
        ),
    ]
    if free is not None:
        sharpness = f"with a free knee (p = {free.p:.2g})"
        found += [
            entry("steps_double", free.at(steps_are(2)), f"Twice the fewest steps, {sharpness}.", "p_norm"),
            entry("examples_double", free.at(examples_are(2)), f"Twice the fewest {unit}, {sharpness}.", "p_norm"),
            entry(
                "asymptotes_cross",
                free.at(crossing),
                f"Where perfect scaling and plateau, drawn on, meet, {sharpness}.",
                "p_norm",
            ),
        ]
    return tuple(found)


def sentence(found: Definition, unit: str) -> str:
    """One definition, for people."""
    ends = []
    if found.low > 0:
        ends.append(f"from {readable(found.low)}")
    if found.high < math.inf:
        ends.append(f"to {readable(found.high)}")
    between = f" ({' '.join(ends)})" if ends else ""
    size = "not identified" if found.batch_size is None else f"{readable(found.batch_size)} {unit}"
    return f"{size}{between}: {found.definition}"
