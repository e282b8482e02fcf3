"""The unbiased pair: tr(Sigma) and |G|^2 from squared norms of gradients over different numbers of examples.

A batch of b independent examples has the mean gradient g with E|g|^2 = |G|^2 + tr(Sigma) / b (McCandlish et al. 2018,
eq. A.1). Let K disjoint batches of b_k examples have the mean gradients g_k, and let g = sum_k b_k g_k / B with
B = sum_k b_k be the mean over all. Then

    E sum_k b_k |g_k|^2 = B |G|^2 + K tr(Sigma)    and    E B |g|^2 = B |G|^2 + tr(Sigma),

so that the following are unbiased, whatever the sizes b_k:

    tr_sigma = (sum_k b_k |g_k|^2 - B |g|^2) / (K - 1) = sum_k b_k |g_k - g|^2 / (K - 1)
    g_sq     = |g|^2 - tr_sigma / B.

At equal sizes these are the U-statistics b/2 |g_j - g_k|^2 and g_j'g_k averaged over all pairs j != k, which have the
least variance of all unbiased estimators that hold for every distribution (Halmos 1946). At unequal sizes the weights
b_k are those of least squares, best for gradients that are Gaussian. The two norms of eq. A.2 are the case where all
that is known of the |g_k|^2 is their mean.

**A finite data set, drawn without replacement.** Take G and Sigma (divisor N - 1) of the N examples themselves. Two
different draws have covariance -Sigma / N, so every 1/b above becomes 1/b - 1/N: tr_sigma stays unbiased, and g_sq is
too small by tr(Sigma) / N. With `n_examples` that is added back, and G is that of the data set, whose loss is being
trained. Without it G is that of the population which the data are a sample of, for weights that have not seen them.
The two scales differ by 1/b_simple(data set) = 1/b_simple(population) + 1/N. The batches of an epoch are negatively
correlated with each other, which changes the variance of an average over steps, but not its mean. (The weights also
remember the examples used so far in the epoch: a step's batch is then not quite a random one for its weights. This is
of the order of what one epoch changes in a gradient, and is not corrected.)
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Number = TypeVar("Number", float, NDArray[np.float64], Tensor)
"""Squared norms: one, or one for each group of parameters, or for each step."""


def unbiased_pair(
    weighted: Number, whole: Number, rows: int, n_batches: int, n_examples: int | None = None
) -> tuple[Number, Number]:
    """The pair from all the norms of a step.

    Args:
        weighted: sum_k b_k |g_k|^2.
        whole: |g|^2, of the mean over all rows.
        rows: B, their number.
        n_batches: K.
        n_examples: N, the size of the data set that rows are drawn from without replacement; None: a stream.

    Returns:
        tr_sigma and g_sq. Either can be negative: average them over steps, each for itself, and divide last.

    Raises:
        ValueError: there are no two batches to tell noise from signal.
    """
    if n_batches < 2:
        raise ValueError(
            f"a step must have at least 2 micro-batches or ranks, but it has {n_batches}; "
            "split its batch, or measure from single examples with measure_b_simple"
        )
    tr_sigma = (weighted - rows * whole) / (n_batches - 1)
    return tr_sigma, whole - tr_sigma * inverse_batch(rows, n_examples)


def two_batches(
    small: Number, big: Number, b_small: int, b_big: int, n_examples: int | None = None
) -> tuple[Number, Number]:
    """The pair from the squared norms at two batch sizes (McCandlish et al. 2018, eq. A.2).

    Example:
        >>> two_batches(small=3.0, big=2.0, b_small=8, b_big=16)  # |G|^2 = 1 and tr(Sigma) = 16
        (16.0, 1.0)

    Args:
        small: |g|^2 at the small batch, averaged over all that were measured.
        big: |g|^2 at the big one. The small may be parts of the big.
        b_small: examples in the small batch.
        b_big: examples in the big one.
        n_examples: as in `unbiased_pair`.

    Returns:
        tr_sigma and g_sq.

    Raises:
        ValueError: the sizes are not two sizes in order.
    """
    if not 1 <= b_small < b_big:
        raise ValueError(f"1 <= b_small < b_big must hold, but b_small={b_small} and b_big={b_big}; swap them, maybe")
    tr_sigma = (small - big) / (1.0 / b_small - 1.0 / b_big)
    return tr_sigma, big - tr_sigma * inverse_batch(b_big, n_examples)


def inverse_batch(rows: float, n_examples: int | None) -> float:
    """What multiplies tr(Sigma) in E|g|^2: 1/B, or 1/B - 1/N where a data set of N is drawn from without replacement.

    Raises:
        ValueError: more rows than the data set has.
    """
    if n_examples is None:
        return 1.0 / rows
    if rows > n_examples:
        raise ValueError(
            f"a batch must not be larger than the data set, but it has {rows} rows and n_examples={n_examples}; "
            "count rows and data set in one unit, or leave n_examples out for a stream"
        )
    return 1.0 / rows - 1.0 / n_examples
