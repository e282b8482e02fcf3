"""What fixed batch sizes need: the curve that schedules of batch sizes are held against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bcrit.analysis.curve.likelihood import Hyperbola, likelihood, minimise
from bcrit.analysis.curve.other_curves import PNorm, fit_p_norm

FEWEST = 3
"""Fixed batch sizes that a frontier needs: one more than the hyperbola has parameters."""


@dataclass(frozen=True)
class Frontier:
    """Steps and examples of fixed batch sizes.

    Attributes:
        hyperbola: through them, whose s_min and e_min gamma is measured by.
        knee: the same with a knee as sharp as the data's (`curve.other_curves`), where there are four of them or
            more. A knee that is sharper than a hyperbola's would pass for a gain of whatever is compared with it.
        smallest: of their batch sizes.
        largest: likewise.
        scatter: standard deviation of log steps about the curve with the knee, else about the hyperbola: the root of
            the squared residuals over the batch sizes less the parameters.
    """

    hyperbola: Hyperbola
    knee: PNorm | None
    smallest: int
    largest: int
    scatter: float

    def steps_at(self, batch_size: float) -> float:
        """Steps of a fixed batch size."""
        return float((self.knee or self.hyperbola).steps(batch_size))

    def gamma(self, steps: float, examples: float) -> float:
        """(S / s_min - 1) (E / e_min - 1) by the hyperbola (McCandlish et al. 2018, eq. D.4)."""
        return (steps / self.hyperbola.s_min - 1.0) * (examples / self.hyperbola.e_min - 1.0)

    def curve(self, points: int = 60) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Steps and examples along the frontier, as far as there are fixed batch sizes."""
        sizes = [float(b) for b in np.geomspace(self.smallest, self.largest, points)]
        steps = [self.steps_at(b) for b in sizes]
        return tuple(steps), tuple(b * s for b, s in zip(sizes, steps, strict=True))


def frontier(steps: Mapping[int, float]) -> Frontier | None:
    """Fit the frontier.

    Args:
        steps: by batch size, where the target was reached.

    Returns:
        It; None with fewer than three, or where they do not bend, so that there is no s_min or no e_min.
    """
    if len(steps) < FEWEST:
        return None
    x, y = (np.log(np.array(values, dtype=float)) for values in (list(steps), list(steps.values())))
    profile = likelihood(x, y, np.ones(len(x), dtype=bool))
    hyperbola = profile.curve(minimise(profile))
    if not (hyperbola.s_min > 0 and hyperbola.e_min > 0):
        return None
    knee = fit_p_norm(x, y)
    rms = knee.rms_log_residual if knee else float(np.sqrt(((y - np.log(hyperbola.steps(np.exp(x)))) ** 2).mean()))
    scatter = rms * math.sqrt(len(x) / (len(x) - (3 if knee else 2)))
    return Frontier(hyperbola, knee, min(steps), max(steps), scatter)


__all__ = ["FEWEST", "Frontier", "frontier"]
