"""What the noise scale along runs predicts: the factor that makes it b_crit, and gamma."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from bcrit.analysis.adaptive.gain import Gain, gain, progress
from bcrit.analysis.adaptive.result import Trained

Floats = NDArray[np.float64]

_WIDEST = math.log(1e4)
"""The factor is sought between 1e-4 and 1e4; b_simple and b_crit differ by up to 10 (McCandlish et al. 2018, section
5), for language models by more (Merrill et al. 2025)."""


def gain_along(run: Trained, factor: float = 1.0) -> Gain | None:
    """The frontier of the best schedules for the noise scale that one run had.

    Args:
        run: with its noise scales.
        factor: what they are multiplied by.

    Returns:
        It; None where the noise scale is known at fewer than three points.
    """
    known = _known(run)
    if known is None:
        return None
    steps, noise, batch_sizes = known
    return gain(progress(steps, factor * noise, batch_sizes), factor * noise)


def noise_factor(runs: Sequence[Trained], b_crit: float) -> float | None:
    """The factor on the noise scale that makes its mean over progress b_crit, as e_min / s_min is in the theory.

    Which r belongs to which batch size depends on it. The gamma that is predicted does so less, through progress alone,
    which counts N / B: for N ~ sqrt(t) from 0.94 to 0.91 where the factor goes from 1/4 to 4.

    Args:
        runs: at a fixed batch size; the geometric mean of their factors is taken.
        b_crit: of the fixed batch sizes.

    Returns:
        It; None where no run knows its noise scale.
    """
    logs = []
    for run in runs:

        def miss(log_factor: float, run: Trained = run) -> float:
            found = gain_along(run, math.exp(log_factor))
            return 0.0 if found is None else math.log(found.b_crit / b_crit)

        if _known(run) is not None and miss(-_WIDEST) < 0.0 < miss(_WIDEST):
            logs.append(float(optimize.brentq(miss, -_WIDEST, _WIDEST, xtol=1e-6)))
    return math.exp(float(np.mean(logs))) if logs else None


def first_noise(runs: Sequence[Trained]) -> float | None:
    """The noise scale that runs begin with: the geometric mean of the first that each knows."""
    found = [known[1][0] for run in runs if (known := _known(run)) is not None]
    return float(np.exp(np.mean(np.log(found)))) if found else None


def _known(run: Trained) -> tuple[Floats, Floats, Floats] | None:
    """Steps, noise scales and batch sizes where the noise scale is known."""
    rows = zip(run.at_steps, run.noise_scales, run.batch_sizes, strict=True)
    seen = [(float(t), n, float(b)) for t, n, b in rows if n is not None and b is not None and n > 0]
    if len(seen) < 3:
        return None
    table = np.array(seen)
    return table[:, 0], table[:, 1], table[:, 2]


__all__ = ["first_noise", "gain_along", "noise_factor"]
