"""Averages of the pair along training, and the covariance of the averages from blocks of steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.training.noise_scale.ratio import MAX_BLOCKS, Ratio, fieller

Series = NDArray[np.float64]
"""One row a step: tr_sigma and g_sq, shape (n_steps, 2)."""


def b_simple(series: Series, level: float = 0.95) -> Ratio:
    """Mean tr_sigma over mean g_sq, with an interval.

    Errors are those of the means of up to 20 consecutive blocks of steps. Steps may correlate (the weights remember
    earlier noise), so blocks should be longer than the memory: then their means are nearly independent. Where the noise
    scale itself changes along the steps the ratio is its mean weighted with |G|^2, and the drift widens the interval.

    Args:
        series: the pair of every step. Steps with a number that is not finite are set aside and counted.
        level: of confidence.
    """
    finite = series[np.isfinite(series).all(axis=1)]
    blocks = min(MAX_BLOCKS, len(finite))
    set_aside = len(series) - len(finite)
    if blocks < 2:
        mean = finite.mean(axis=0) if blocks else np.full(2, np.nan)
        return fieller(mean, np.full((2, 2), np.nan), blocks, level, "|G|^2", set_aside)
    means = np.array([block.mean(axis=0) for block in np.array_split(finite, blocks)])
    covariance = np.cov(means, rowvar=False) / blocks
    return fieller(finite.mean(axis=0), covariance, blocks, level, "|G|^2", set_aside)


def moving_average(series: Series, decay: float) -> Series:
    """The exponential moving averages of both, after every step and without a trace of where they began.

        average_t = sum_i decay^(t - i) x_i / sum_i decay^(t - i),    i = 1 ... t

    The denominator, (1 - decay^t) / (1 - decay), is the bias correction. Both columns have the same weights, so their
    ratio is one of averages; never average the ratios of single steps, of which the denominator can be near 0.

    Args:
        series: the pair of every step; a step with a number that is not finite has no weight.
        decay: of one step, in [0, 1).

    Returns:
        Shape (n_steps, 2); not a number before the first finite step.

    Raises:
        ValueError: the decay is not one.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"0 <= decay < 1 must hold, but decay={decay}; 0.99 averages about 100 steps")
    averages, total, weight = np.full_like(series, np.nan), np.zeros(2), 0.0
    for t, row in enumerate(series):
        seen = bool(np.isfinite(row).all())
        total = decay * total + (row if seen else 0.0)
        weight = decay * weight + seen
        if weight > 0.0:
            averages[t] = total / weight
    return averages
