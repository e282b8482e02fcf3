"""A noise scale as a ratio of two averages: the unbiased pair, and Fieller's interval or why there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MIN_BLOCKS = 10  # chosen: the simulated coverage of the interval was not checked with fewer
MAX_BLOCKS = 20  # Schmeiser 1982: 10 to 30 batch means are enough, and the longer they are the less they correlate


@dataclass(frozen=True)
class Ratio:
    """A noise scale."""

    numerator: float  # tr(Sigma), or tr(H Sigma)
    denominator: float  # |G|^2, or G'HG
    numerator_error: float  # a standard error
    denominator_error: float
    value: float | None  # numerator / denominator; None where it is not resolved
    low: float  # at least 0; where the value is not resolved, a one-sided lower bound of the same level
    high: float | None  # None where the value is not resolved: any number above `low` is then possible
    level: float  # of confidence
    n_blocks: int  # independent blocks of steps or examples behind the errors
    n_set_aside: int  # steps left out because a gradient was not finite
    reason: str  # why it is not resolved; empty where it is
    note: str = ""  # why the interval says too little, where the sample itself shows it

    @property
    def resolved(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def __str__(self) -> str:
        share, note = f"{100 * self.level:g} %", self.note and f"; {self.note}"
        if self.value is None:
            return f"not resolved (at least {self.low:.3g} with {share}): {self.reason}{note}"
        return f"{self.value:.3g} ({share}: {self.low:.3g} ... {self.high:.3g}){note}"


@dataclass(frozen=True)
class SimpleScale:
    """b_simple of all parameters together."""

    total: Ratio
    n_steps: int  # optimizer updates that were averaged
    rows: int  # rows an update at the end of them

    @property
    def b_simple(self) -> float | None:
        """tr(Sigma) / |G|^2, None where it is not resolved."""
        return self.total.value

    def __str__(self) -> str:
        return f"b_simple = {self.total}"


Number = TypeVar("Number", float, NDArray[np.float64], Tensor)
"""Squared norms: one, or one for each parameter tensor, or for each step."""


def unbiased_pair(
    weighted: Number,  # sum_k b_k |g_k|^2
    whole: Number,  # |g|^2, of the mean over all rows
    rows: int,  # B, their number
    n_batches: int,  # K
    n_examples: int | None = None,  # N, of the data set that rows are drawn from without replacement; None: a stream
) -> tuple[Number, Number]:
    """tr(Sigma) and |G|^2 from squared norms of gradients over different numbers of examples.

    A batch of b independent examples has the mean gradient g with E|g|^2 = |G|^2 + tr(Sigma) / b (McCandlish et al.
    2018, eq. A.1). Let K disjoint batches of b_k examples have the mean gradients g_k, and let g = sum_k b_k g_k / B
    with B = sum_k b_k be the mean over all. Then

        E sum_k b_k |g_k|^2 = B |G|^2 + K tr(Sigma)    and    E B |g|^2 = B |G|^2 + tr(Sigma),

    so that the following are unbiased, whatever the sizes b_k:

        tr_sigma = (sum_k b_k |g_k|^2 - B |g|^2) / (K - 1) = sum_k b_k |g_k - g|^2 / (K - 1)
        g_sq     = |g|^2 - tr_sigma / B.

    At equal sizes these are the U-statistics b/2 |g_j - g_k|^2 and g_j'g_k averaged over all pairs j != k, which have
    the least variance of all unbiased estimators that hold for every distribution (Halmos 1946). At unequal sizes the
    weights b_k are those of least squares, best for gradients that are Gaussian. The two norms of eq. A.2 are the case
    where all that is known of the |g_k|^2 is their mean.

    **A finite data set, drawn without replacement.** Take G and Sigma (divisor N - 1) of the N examples themselves. Two
    different draws have covariance -Sigma / N, so every 1/b above becomes 1/b - 1/N: tr_sigma stays unbiased, and g_sq
    is too small by tr(Sigma) / N. With `n_examples` that is added back, and G is that of the data set, whose loss is
    being trained. Without it G is that of the population which the data are a sample of, for weights that have not seen
    them. The two scales differ by 1/b_simple(data set) = 1/b_simple(population) + 1/N. The batches of an epoch are
    negatively correlated with each other, which changes the variance of an average over steps, but not its mean. (The
    weights also remember the examples used so far in the epoch: a step's batch is then not quite a random one for its
    weights. This is of the order of what one epoch changes in a gradient, and is not corrected.)

    Either number can be negative: average them over steps, each for itself, and divide last.
    """
    if n_batches < 2:
        raise ValueError(
            f"a step must have at least 2 micro-batches or ranks, but it has {n_batches}; "
            "split its batch, or measure from single examples with measure_b_noise"
        )
    tr_sigma = (weighted - rows * whole) / (n_batches - 1)
    return tr_sigma, whole - tr_sigma * inverse_batch(rows, n_examples)


def pair_of_shares(
    weighted: Number,  # sum_k b_k |g_k|^2
    own: Number,  # sum_k w_k^2 |g_k|^2
    whole: Number,  # |g|^2
    rows: int,  # B
    n_batches: int,  # K
    concentration: float,  # sum_k w_k^2
    n_examples: int | None = None,  # N
) -> tuple[Number, Number]:
    """What `unbiased_pair` gives, where g = sum_k w_k g_k has other shares than b_k / B, which add up to 1.

    Different batches are independent, so that E g_j'g_k = |G|^2 (draws without replacement: less tr(Sigma) / N), and

        g_sq     = (|g|^2 - sum_k w_k^2 |g_k|^2) / (1 - sum_k w_k^2)
        tr_sigma = (sum_k b_k |g_k|^2 - B g_sq) / K.

    At equal sizes and shares they are the same numbers.
    """
    g_sq = (whole - own) / (1.0 - concentration)
    tr_sigma = (weighted - rows * g_sq) / n_batches
    return tr_sigma, g_sq + tr_sigma * (inverse_batch(rows, None) - inverse_batch(rows, n_examples))


def inverse_batch(rows: float, n_examples: int | None) -> float:
    """What multiplies tr(Sigma) in E|g|^2: 1/B, or 1/B - 1/N for draws without replacement from a data set of N."""
    if n_examples is None:
        return 1.0 / rows
    if rows > n_examples:
        raise ValueError(
            f"a batch must not be larger than the data set, but it has {rows} rows and n_examples={n_examples}; "
            "count rows and data set in one unit, or leave n_examples out for a stream"
        )
    return 1.0 / rows - 1.0 / n_examples


def b_simple(series: NDArray[np.float64], level: float = 0.95) -> Ratio:
    """Mean tr_sigma over mean g_sq, with an interval; the two are the columns of `series`, a row a step.

    Errors are those of the means of up to 20 consecutive blocks of steps. Steps may correlate (the weights remember
    earlier noise), so blocks should be longer than the memory: then their means are nearly independent. Where the noise
    scale itself changes along the steps the ratio is its mean weighted with |G|^2, and the drift widens the interval.
    Steps with a number that is not finite are set aside and counted. Where tr_sigma has so heavy a tail that it has no
    variance, no interval is right, and the ratio's note says so.
    """
    finite = series[np.isfinite(series).all(axis=1)]
    blocks = min(MAX_BLOCKS, len(finite))
    set_aside = len(series) - len(finite)
    if blocks < 2:
        mean = finite.mean(axis=0) if blocks else np.full(2, np.nan)
        return fieller(mean, np.full((2, 2), np.nan), blocks, level, "|G|^2", set_aside)
    means = np.array([block.mean(axis=0) for block in np.array_split(finite, blocks)])
    covariance = np.cov(means, rowvar=False) / blocks
    found = fieller(finite.mean(axis=0), covariance, blocks, level, "|G|^2", set_aside)
    return replace(found, note=_tail_note(finite[:, 0]))


def _tail_note(values: NDArray[np.float64]) -> str:
    """What is to be said of a sample without a variance, by its tail index (Hill 1975) in its largest 5 %.

    An index below 2 is none. Simulated with 16 examples a step: of gradients of Student's t with 2.2 degrees,
    where a 95 % interval covers 22 to 32 %, 67 to 100 % are noted; of t with 5, exponential and normal ones, where it
    covers 92 to 97 %, at most 4 %.
    """
    sizes = np.sort(np.abs(values))[::-1]
    top = max(10, len(sizes) // 20)
    if len(sizes) < 2 * top or sizes[top] == 0.0:
        return ""
    index = 1.0 / float(np.mean(np.log(sizes[:top] / sizes[top])) or np.inf)
    if index == 0.0 or index >= 2.0:
        return ""
    return (
        f"the noise has a very heavy tail (index {index:.2g} in its {top} largest values; below 2 has no variance): "
        "a few steps decide the mean, and the interval is too narrow"
    )


def fieller(
    point: NDArray[np.float64],  # averages of numerator and denominator, shape (2,)
    covariance: NDArray[np.float64],  # of these averages, shape (2, 2)
    n_blocks: int,  # independent blocks it was estimated from
    level: float,  # of confidence, in (0, 1)
    name: str,  # of the denominator, for the reason
    n_set_aside: int = 0,
) -> Ratio:
    """The ratio with its interval (Fieller 1954), if that is bounded and there are `MIN_BLOCKS` blocks.

    A ratio r is in the interval when numerator - r denominator is no further from 0 than t of its own standard errors,

        (s - r d)^2 <= t^2 (var s - 2 r cov(s, d) + r^2 var d),    t with n_blocks - 1 degrees of freedom.

    Unlike value +- t errors this is exact for Gaussian averages, also where the denominator is poorly known, and it
    tells by itself when the ratio is not identified: it is bounded exactly if d > t sqrt(var d).
    """
    from scipy.special import stdtrit  # it takes 0.2 s to import, which a worker that measures nothing need not spend

    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    s, d = float(point[0]), float(point[1])
    facts = (s, d, float(errors[0]), float(errors[1]))
    if n_blocks < MIN_BLOCKS:
        reason = (
            f"{n_blocks} blocks are too few for an interval, which needs {MIN_BLOCKS}; measure more steps or examples"
        )
        return Ratio(*facts, None, 0.0, None, level, n_blocks, n_set_aside, reason)
    t = float(stdtrit(n_blocks - 1, (1.0 + level) / 2.0))
    if d > t * errors[1]:
        low, high = _roots(s, d, covariance, t)
        return Ratio(*facts, s / d, max(0.0, low), high, level, n_blocks, n_set_aside, "")
    t = float(stdtrit(n_blocks - 1, level))
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


@dataclass(frozen=True)
class ExactScale:
    """Noise scales that are known exactly, which the estimators should find (McCandlish et al. 2018)."""

    g_sq: float  # |G|^2
    tr_sigma: float  # tr(Sigma)
    g_h_g: float  # G'HG
    tr_h_sigma: float  # tr(H Sigma)

    @property
    def b_simple(self) -> float:
        """tr(Sigma) / |G|^2 (eq. 2.9)."""
        return self.tr_sigma / self.g_sq

    @property
    def b_noise(self) -> float:
        """tr(H Sigma) / (G'HG) (eq. 2.8)."""
        return self.tr_h_sigma / self.g_h_g

    @property
    def lr_max(self) -> float:
        """The best learning rate of one step without noise, |G|^2 / (G'HG) (eq. 2.5)."""
        return self.g_sq / self.g_h_g


def of_quadratic(
    spectrum: Sequence[float] | NDArray[np.float64],  # h_i
    noise: Sequence[float] | NDArray[np.float64],  # c_i of one example
    second_moments: Sequence[float] | NDArray[np.float64],  # x_i^2, or E x_i^2 along runs: |G|^2, G'HG are expectations
) -> ExactScale:
    """The scales of 1/2 sum_i h_i x_i^2, where an example's gradient is h_i x_i + xi_i with variances c_i.

    G_i = h_i x_i, H = diag(h) and Sigma = diag(c), so that |G|^2 = sum h_i^2 x_i^2 and G'HG = sum h_i^3 x_i^2.

    Example:
        >>> of_quadratic([1.0, 0.5], [1.0, 0.5], [1.0, 1.0]).b_simple  # 1.5 / 1.25
        1.2
    """
    h, c, m = (np.asarray(values, dtype=np.float64) for values in (spectrum, noise, second_moments))
    return ExactScale(float(np.sum(h**2 * m)), float(np.sum(c)), float(np.sum(h**3 * m)), float(np.sum(h * c)))
