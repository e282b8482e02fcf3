"""Whether the near-optimal share of the space grows or shrinks with the batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import special, stats

FEWEST: Final = 4
"""Studies below which there is no trend: two degrees of freedom beside the line. Chosen."""


@dataclass(frozen=True)
class Trend:
    """How the near-optimal volume changes with the batch size.

    Attributes:
        kind: shrinks, grows, no trend (the interval of the slope holds 0), or not known (too few studies).
        slope: of log volume on log batch size; None where not known.
        low: lower end of its 95 % t interval.
        high: upper end.
        rank_correlation: Spearman's, which assumes no line.
        p_value: of the rank correlation.
        n: studies.
    """

    kind: Literal["shrinks", "grows", "no trend", "not known"]
    slope: float | None
    low: float
    high: float
    rank_correlation: float | None
    p_value: float | None
    n: int


def trend(batch_sizes: Sequence[float], volumes: Sequence[float]) -> Trend:
    """Regress log volume on log batch size, every study weighing alike.

    Args:
        batch_sizes: of the studies with a volume; (n,).
        volumes: near-optimal volumes in units of one and the same box, above 0; (n,).

    Returns:
        The trend; not known with fewer than four studies.
    """
    n = len(batch_sizes)
    if n < FEWEST:
        return Trend("not known", None, -math.inf, math.inf, None, None, n)
    line = stats.linregress(np.log(batch_sizes), np.log(volumes))
    reach = float(special.stdtrit(n - 2, 0.975)) * float(line.stderr)
    slope, low, high = float(line.slope), float(line.slope) - reach, float(line.slope) + reach
    varied = len(set(volumes)) > 1
    rank, p_value = (float(v) for v in stats.spearmanr(batch_sizes, volumes)) if varied else (0.0, 1.0)
    kind: Literal["shrinks", "grows", "no trend"] = "shrinks" if high < 0 else "grows" if low > 0 else "no trend"
    return Trend(kind, slope, low, high, rank, p_value, n)


__all__ = ["FEWEST", "Trend", "trend"]
