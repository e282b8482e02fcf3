"""The noise scale as a run knows it so far, from the unbiased pair of every update."""

from __future__ import annotations

import math

LEAST_WINDOW = 10
"""Updates that are averaged at least; chosen, not studied."""

SHARE = 0.25
"""Of the updates so far that are averaged later on; chosen, not studied. A scale that grows like t^a is then behind by
the fixed factor 4 / (4 + a): for sqrt(t), by 11 %."""


class RunningNoise:
    """Moving averages of tr(Sigma) and |G|^2 with equal weights, and their ratio.

    average_t = average_(t-1) + (x_t - average_(t-1)) / min(t, max(10, t/4)): the plain mean at first, without a trace
    of where it began, and later an exponential average over the last quarter of the run.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._n = 0
        self._tr_sigma = self._g_sq = 0.0

    def take(self, tr_sigma: float, g_sq: float) -> None:
        """Take in the pair of one update; one that is not finite is set aside."""
        if not (math.isfinite(tr_sigma) and math.isfinite(g_sq)):
            return
        self._n += 1
        weight = 1.0 / min(self._n, max(LEAST_WINDOW, SHARE * self._n))
        self._tr_sigma += weight * (tr_sigma - self._tr_sigma)
        self._g_sq += weight * (g_sq - self._g_sq)

    @property
    def value(self) -> float | None:
        """b_simple, the ratio of the averages; None where either average is not positive."""
        positive = self._n > 0 and self._g_sq > 0.0 and self._tr_sigma > 0.0
        return self._tr_sigma / self._g_sq if positive else None
