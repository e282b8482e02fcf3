"""A noise scale as a ratio of two averages, with Fieller's interval, or a reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MIN_BLOCKS = 10  # chosen: the simulated coverage of the interval was not checked with fewer
MAX_BLOCKS = 20  # Schmeiser 1982: 10 to 30 batch means are enough, and the longer they are the less they correlate


@dataclass(frozen=True)
class Ratio:
    """A noise scale.

    Attributes:
        numerator: tr(Sigma), or tr(H Sigma).
        denominator: |G|^2, or G'HG.
        numerator_error: standard error.
        denominator_error: standard error.
        value: numerator / denominator; None where it is not resolved.
        low: of the interval; where the value is not resolved, a one-sided lower bound of the same level; at least 0.
        high: of the interval; None where the value is not resolved: any number above `low` is then possible.
        level: of confidence.
        n_blocks: independent blocks of steps or examples behind the errors.
        n_set_aside: steps left out because a gradient was not finite.
        reason: why it is not resolved; empty where it is.
    """

    numerator: float
    denominator: float
    numerator_error: float
    denominator_error: float
    value: float | None
    low: float
    high: float | None
    level: float
    n_blocks: int
    n_set_aside: int
    reason: str

    @property
    def resolved(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def __str__(self) -> str:
        share = f"{100 * self.level:g} %"
        if self.value is None:
            return f"not resolved (at least {self.low:.3g} with {share}): {self.reason}"
        return f"{self.value:.3g} ({share}: {self.low:.3g} ... {self.high:.3g})"


@dataclass(frozen=True)
class SimpleScale:
    """b_simple of all parameters together and of each named group.

    Attributes:
        total: of all parameters.
        groups: of each group by its name; their numerators and denominators add up to the total's.
        n_steps: optimizer updates, or examples at one checkpoint, that were averaged.
        rows: rows an update at the end of them; at one checkpoint the number of examples.
    """

    total: Ratio
    groups: Mapping[str, Ratio]
    n_steps: int
    rows: int

    @property
    def b_simple(self) -> float | None:
        """tr(Sigma) / |G|^2, None where it is not resolved."""
        return self.total.value

    def __str__(self) -> str:
        return f"b_simple = {self.total}"


def fieller(
    point: NDArray[np.float64],
    covariance: NDArray[np.float64],
    n_blocks: int,
    level: float,
    name: str,
    n_set_aside: int = 0,
) -> Ratio:
    """The ratio with its interval (Fieller 1954).

    A ratio r is in the interval when numerator - r denominator is no further from 0 than t of its own standard errors,

        (s - r d)^2 <= t^2 (var s - 2 r cov(s, d) + r^2 var d),    t with n_blocks - 1 degrees of freedom.

    Unlike value +- t errors this is exact for Gaussian averages, also where the denominator is poorly known, and it
    tells by itself when the ratio is not identified: it is bounded exactly if d > t sqrt(var d).

    Args:
        point: averages of numerator and denominator, shape (2,).
        covariance: of these averages, shape (2, 2).
        n_blocks: independent blocks it was estimated from.
        level: of confidence, in (0, 1).
        name: of the denominator, for the reason.
        n_set_aside: passed on.

    Returns:
        With a value if the interval is bounded and there are `MIN_BLOCKS` blocks.
    """
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    s, d = float(point[0]), float(point[1])
    facts = (s, d, float(errors[0]), float(errors[1]))
    if n_blocks < MIN_BLOCKS:
        reason = (
            f"{n_blocks} blocks are too few for an interval, which needs {MIN_BLOCKS}; measure more steps or examples"
        )
        return Ratio(*facts, None, 0.0, None, level, n_blocks, n_set_aside, reason)
    t = student((1.0 + level) / 2.0, n_blocks - 1)
    if d > t * errors[1]:
        low, high = _roots(s, d, covariance, t)
        return Ratio(*facts, s / d, max(0.0, low), high, level, n_blocks, n_set_aside, "")
    t = student(level, n_blocks - 1)
    roots = _roots(s, d, covariance, t)
    # At r = 0 the numerator is significantly above r times the denominator; the first root is where that ends.
    low = min((r for r in roots if r > 0), default=0.0) if s > t * errors[0] else 0.0
    sign, remedy = "not significantly positive", "measure more steps or examples"
    if d < -t * errors[1]:
        sign, remedy = "significantly negative", "more data will not change that"
    reason = f"{name} = {d:.3g} +- {errors[1]:.2g} is {sign}; {remedy}"
    return Ratio(*facts, None, low, None, level, n_blocks, n_set_aside, reason)


def _roots(s: float, d: float, covariance: NDArray[np.float64], t: float) -> tuple[float, float]:
    """Both solutions r of (s - r d)^2 = t^2 var(s - r d), in order."""
    a = d**2 - t**2 * float(covariance[1, 1])
    b = s * d - t**2 * float(covariance[0, 1])
    c = s**2 - t**2 * float(covariance[0, 0])
    if a == 0.0:
        only = c / (2.0 * b) if b != 0.0 else 0.0
        return only, only
    root = math.sqrt(max(b * b - a * c, 0.0))  # not negative but for rounding where d or s is significant
    first, second = sorted(((b - root) / a, (b + root) / a))
    return first, second


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t (Abramowitz and Stegun 1964, eq. 26.7.5): to 0.001 from 5 degrees of freedom at 0.975.

    Their series in 1/freedom, so that a training loop need not have SciPy.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + math.fsum(term / float(freedom ** (k + 1)) for k, term in enumerate(terms))


# MODULE pair.py
# The unbiased pair: tr(Sigma) and |G|^2 from squared norms of gradients over different numbers of examples.
#
# A batch of b independent examples has the mean gradient g with E|g|^2 = |G|^2 + tr(Sigma) / b (McCandlish et al. 2018,
# eq. A.1). Let K disjoint batches of b_k examples have the mean gradients g_k, and let g = sum_k b_k g_k / B with
# B = sum_k b_k be the mean over all. Then
#
#     E sum_k b_k |g_k|^2 = B |G|^2 + K tr(Sigma)    and    E B |g|^2 = B |G|^2 + tr(Sigma),
#
# so that the following are unbiased, whatever the sizes b_k:
#
#     tr_sigma = (sum_k b_k |g_k|^2 - B |g|^2) / (K - 1) = sum_k b_k |g_k - g|^2 / (K - 1)
#     g_sq     = |g|^2 - tr_sigma / B.
#
# At equal sizes these are the U-statistics b/2 |g_j - g_k|^2 and g_j'g_k averaged over all pairs j != k, which have the
# least variance of all unbiased estimators that hold for every distribution (Halmos 1946). At unequal sizes the weights
# b_k are those of least squares, best for gradients that are Gaussian. The two norms of eq. A.2 are the case where all
# that is known of the |g_k|^2 is their mean.
#
# **A finite data set, drawn without replacement.** Take G and Sigma (divisor N - 1) of the N examples themselves. Two
# different draws have covariance -Sigma / N, so every 1/b above becomes 1/b - 1/N: tr_sigma stays unbiased, and g_sq is
# too small by tr(Sigma) / N. With `n_examples` that is added back, and G is that of the data set, whose loss is being
# trained. Without it G is that of the population which the data are a sample of, for weights that have not seen them.
# The two scales differ by 1/b_simple(data set) = 1/b_simple(population) + 1/N. The batches of an epoch are negatively
# correlated with each other, which changes the variance of an average over steps, but not its mean. (The weights also
# remember the examples used so far in the epoch: a step's batch is then not quite a random one for its weights. This is
# of the order of what one epoch changes in a gradient, and is not corrected.)


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


# MODULE blocks.py
# Averages of the pair along training, and the covariance of the averages from blocks of steps.


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


# MODULE exact.py
# Noise scales that are known exactly: those of a quadratic loss with noise that does not depend on the weights.


@dataclass(frozen=True)
class ExactScale:
    """What the estimators should find.

    Attributes:
        g_sq: |G|^2.
        tr_sigma: tr(Sigma).
        g_h_g: G'HG.
        tr_h_sigma: tr(H Sigma).
    """

    g_sq: float
    tr_sigma: float
    g_h_g: float
    tr_h_sigma: float

    @property
    def b_simple(self) -> float:
        """tr(Sigma) / |G|^2 (McCandlish et al. 2018, eq. 2.9)."""
        return self.tr_sigma / self.g_sq

    @property
    def b_noise(self) -> float:
        """tr(H Sigma) / (G'HG) (McCandlish et al. 2018, eq. 2.8)."""
        return self.tr_h_sigma / self.g_h_g

    @property
    def lr_max(self) -> float:
        """The best learning rate of one step without noise, |G|^2 / (G'HG) (McCandlish et al. 2018, eq. 2.5)."""
        return self.g_sq / self.g_h_g


def of_quadratic(
    spectrum: Sequence[float] | NDArray[np.float64],
    noise: Sequence[float] | NDArray[np.float64],
    second_moments: Sequence[float] | NDArray[np.float64],
) -> ExactScale:
    """The scales of 1/2 sum_i h_i x_i^2, where an example's gradient is h_i x_i + xi_i with variances c_i.

    G_i = h_i x_i, H = diag(h) and Sigma = diag(c), so that |G|^2 = sum h_i^2 x_i^2 and G'HG = sum h_i^3 x_i^2.

    Example:
        >>> of_quadratic([1.0, 0.5], [1.0, 0.5], [1.0, 1.0]).b_simple  # 1.5 / 1.25
        1.2

    Args:
        spectrum: h_i, shape (dimensions,), as `NoisyQuadratic.spectrum`.
        noise: c_i of one example, shape (dimensions,), as `NoisyQuadratic.noise`.
        second_moments: x_i^2 at one point, or E x_i^2 along runs: then |G|^2 and G'HG are expectations.
    """
    h, c, m = (np.asarray(values, dtype=np.float64) for values in (spectrum, noise, second_moments))
    return ExactScale(
        g_sq=float(np.sum(h**2 * m)),
        tr_sigma=float(np.sum(c)),
        g_h_g=float(np.sum(h**3 * m)),
        tr_h_sigma=float(np.sum(h * c)),
    )
