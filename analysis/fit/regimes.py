"""The three regimes of Shallue et al. 2018: perfect scaling, diminishing returns, plateau."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from bcrit.analysis.fit.landmarks import Knee, Place, doubling_saves, examples_are
from bcrit.analysis.wording import readable

WASTE = 1.2
"""Perfect scaling ends where E is 20 % above e_min, at b_crit / 5 on the hyperbola: the 20 % of Zhang et al. 2024
(arXiv 2410.21676). Shallue et al. 2018 (arXiv 1811.03600, section 4.1) draw the line by eye."""

SAVING = 0.1
"""The plateau begins where twice the batch size saves less than 10 % of the steps, at 4 b_crit on the hyperbola.
Chosen, not studied; at b_crit doubling saves 25 %."""


class Regime(StrEnum):
    """Where a batch size lies."""

    PERFECT_SCALING = "perfect scaling"
    DIMINISHING_RETURNS = "diminishing returns"
    PLATEAU = "plateau"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class Regimes:
    """The boundaries of the regimes and where each measured batch size lies.

    Attributes:
        perfect_scaling_ends: the batch size where E = 1.2 e_min.
        plateau_begins: the batch size from which doubling saves less than a tenth of the steps.
        studies: batch size -> regime; uncertain where the interval of a boundary crosses it.
    """

    perfect_scaling_ends: Place
    plateau_begins: Place
    studies: tuple[tuple[float, Regime], ...]


def regimes(knee: Knee, batch_sizes: Iterable[float]) -> Regimes:
    """Read the regimes from a curve.

    Where b_crit is only bounded on one side, so are the boundaries: with b_crit > 1000 every batch size below 200 lies
    in perfect scaling, and of the others nothing is said.

    Args:
        knee: of the hyperbola, or of the p-norm where the hyperbola lacks fit.
        batch_sizes: the measured ones.
    """
    first, second = knee.at(examples_are(WASTE)), knee.at(doubling_saves(SAVING))
    return Regimes(first, second, tuple((size, regime(size, first, second)) for size in batch_sizes))


def regime(batch_size: float, first: Place, second: Place) -> Regime:
    """Where a batch size lies between two boundaries that are known to their intervals."""
    if batch_size < first.low:
        return Regime.PERFECT_SCALING
    if batch_size > second.high:
        return Regime.PLATEAU
    if first.high < batch_size < second.low:
        return Regime.DIMINISHING_RETURNS
    return Regime.UNCERTAIN


def sentence(found: Regimes) -> str | None:
    """Where the regimes begin and end, for people; None where neither boundary is known on any side."""
    first, second = found.perfect_scaling_ends, found.plateau_begins
    sizes = [size for size, _ in found.studies]
    # A boundary below all that was measured, perhaps below a single example, is no place on this curve.
    if sizes and second.high < min(sizes):
        return f"All batch sizes lie on the plateau, from the smallest, {readable(min(sizes))}, on."
    if first.batch_size is not None and second.batch_size is not None:
        return (
            f"Perfect scaling up to batch size {_with_interval(first)}, plateau from {_with_interval(second)} on, "
            "diminishing returns between."
        )
    if first.low > 0:
        return f"Perfect scaling at least up to batch size {readable(first.low)}; where it ends is not identified."
    if second.high < math.inf:
        return f"Plateau at the latest from batch size {readable(second.high)} on; where it begins is not identified."
    return None


def _with_interval(place: Place) -> str:
    if not (place.low > 0 and place.high < math.inf):
        return readable(place.batch_size or 0.0)
    return f"{readable(place.batch_size or 0.0)} ({readable(place.low)} to {readable(place.high)})"
