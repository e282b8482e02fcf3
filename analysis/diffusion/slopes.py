"""How the speed at which the weights move goes with the batch size (Hoffer, Hubara and Soudry 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bcrit.analysis.diffusion.movement import Law, Movement
from bcrit.analysis.diffusion.straight_line import straight_line, t_quantile


@dataclass(frozen=True)
class SlopeLaw:
    """slope = factor batch_size^exponent over batch sizes with one law, least squares of the logarithms.

    Hoffer et al.: with one learning rate for all, larger batches move slower; with lr proportional to sqrt(B) the
    slopes agree, an exponent of 0.

    Attributes:
        law: of the distances.
        exponent: per cent by which the slope grows when the batch grows by one per cent.
        exponent_low: lower end of its t-interval.
        exponent_high: upper end.
        n_batch_sizes: used.
        level: confidence of the interval.
    """

    law: Law
    exponent: float
    exponent_low: float
    exponent_high: float
    n_batch_sizes: int
    level: float


def fit_slopes(
    movements: Sequence[Movement], law: Law = "log", level: float = 0.95, *, all_the_same: bool = False
) -> SlopeLaw | str:
    """How the speed of the movement goes with the batch size.

    Args:
        movements: one a batch size.
        law: only batch sizes whose movement follows it are used.
        level: confidence, in (0, 1).
        all_the_same: use every batch size, whether its movement follows the law or not: a slope is then a mean speed.

    Returns:
        The law, or in a sentence why there is none: fewer than three batch sizes follow it with a positive slope.
    """
    lines = {m.batch_size: m.log if law == "log" else m.sqrt for m in movements if all_the_same or m.law == law}
    used = [(batch_size, line.slope) for batch_size, line in lines.items() if line.slope > 0]
    if len({batch_size for batch_size, _ in used}) < 3:
        are = f"is {len(used)}" if len(used) == 1 else f"are {len(used)}"
        return f"The slopes need three batch sizes whose weights move with {law} t; there {are}."
    x, y = np.log(np.array(used, dtype=np.float64)).T
    fit = straight_line(x, y)
    half = t_quantile(len(used) - 2, level) * math.sqrt(fit.rss / (len(used) - 2) / fit.spread)
    return SlopeLaw(law, fit.slope, fit.slope - half, fit.slope + half, len(used), level)


__all__ = ["SlopeLaw", "fit_slopes"]
