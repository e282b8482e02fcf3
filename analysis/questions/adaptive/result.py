"""What `bcrit adaptive` measured, as it is stored in the run folder, and what a growing batch size gains at most.

Along training let s be progress: the updates that would be needed without noise. With the noise scale N(s), the batch
size B(s) and the best learning rate of every moment, an update makes the progress ds = 1 / (1 + N/B), so that

    S = int (1 + N/B) ds    and    E = int (N + B) ds,    s_min = int ds,    e_min = int N ds.

The best schedule at the exchange rate r (examples that are paid for an update less) is B(s) = sqrt(r N(s)). Then

    S = s_min + q / sqrt(r),    E = e_min + q sqrt(r),    q = int sqrt(N) ds,
    (S / s_min - 1) (E / e_min - 1) = gamma = q^2 / (s_min e_min) <= 1,

where fixed batch sizes have 1 in gamma's place. Equality holds where N does not change (McCandlish et al. 2018,
appendix D).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from bcrit.analysis.numbers import Floats

Kind = Literal["fixed", "noise", "ramp"]


@dataclass(frozen=True)
class Trained:
    """One training run and what it was made with along the way."""

    schedule: str  # name of its schedule of batch sizes
    number: int  # which of the seeds, from 0; the same number has the same seed in every schedule
    seed: int  # of initialisation and data order
    outcome: str  # how it ended
    message: str | None  # why, where the outcome alone does not say it
    steps: int | None  # updates to the target; None where it was not reached
    examples: int | None  # used by then; None likewise
    at_steps: tuple[int, ...]  # updates made, at some of the evaluations; (n,)
    at_examples: tuple[int, ...]  # used by then; (n,)
    batch_sizes: tuple[int | None, ...]  # of the update before; None before the first
    noise_scales: tuple[float | None, ...]  # the running noise scale as it was measured; None where it was not known


@dataclass(frozen=True)
class ScheduleResult:
    """What one schedule of batch sizes needed, beside what fixed batch sizes need."""

    schedule: str  # its name
    kind: Kind  # what the batch size follows
    batch_size: int | None  # of a fixed one
    exchange_rate: float | None  # r of one that follows the noise
    n_runs: int  # seeds
    n_reached: int  # that reached the target
    steps: float | None  # geometric mean over seeds; None where a seed did not reach
    examples: float | None  # likewise
    # updates over those of the fixed batch size that is its mean one, examples / steps; so both its updates and its
    # examples are this many times that one's. None for fixed ones.
    ratio: float | None = None
    ratio_low: float | None = None  # of the interval; None with fewer than three seeds
    ratio_high: float | None = None
    gamma: float | None = None  # (S / s_min - 1) (E / e_min - 1)
    gamma_low: float | None = None
    gamma_high: float | None = None
    gamma_fixed: float | None = None  # the same product of that fixed batch size: 1 on a hyperbola
    gamma_predicted: float | None = None  # from the noise scale along these runs
    ratio_predicted: float | None = None  # what it makes of the ratio (`ratio_of_gamma`)
    # share of the stored evaluations before which an update had the smallest or largest batch size allowed; None for
    # those that do not follow the noise
    clipped: float | None = None
    outside: bool = False  # whether that fixed batch size is below or above all that were trained


@dataclass(frozen=True)
class Adaptive:
    """All that was measured."""

    target: str  # that the runs were trained to
    unit: str  # what a batch counts
    optimizer: str  # of all runs
    tuned_at: tuple[int, ...]  # batch sizes whose learning rate was tuned by a study
    rates: tuple[float, ...]  # the learning rates there
    kept: Mapping[str, Any]  # the other hyperparameters, the same in all runs
    kept_from: int  # batch size of the study that they are of
    low: int  # smallest batch size that a schedule may choose
    high: int  # largest
    micro_batch: int | None  # examples in a micro-batch; None where the noise is known exactly
    noise: Literal["b_simple", "b_noise"]  # measured between micro-batches, or known exactly
    factor: float  # what it was multiplied by, so that its mean over progress is the b_crit of the fixed batch sizes
    n_seeds: int  # of each schedule
    deterministic: bool  # whether every seed would give the same curve
    s_min: float  # of the hyperbola through the fixed batch sizes
    e_min: float
    scatter: float  # standard deviation of the logarithm of their steps about the frontier
    misfit: float  # the part of it that the spread over seeds does not explain: tuning, and the curve's shape
    resolution: float  # evaluations stand one step apart, or this share of the step
    frontier_steps: tuple[float, ...]  # of the curve through the fixed batch sizes, by rising batch size; (n,)
    frontier_examples: tuple[float, ...]  # there; (n,)
    pooled: float | None  # ratio, the geometric mean over the schedules that follow the noise
    pooled_low: float | None  # of its interval
    pooled_high: float | None
    pooled_predicted: float | None  # the same mean of what the noise scale predicts
    answers: tuple[ScheduleResult, ...]  # fixed batch sizes by size, then those that follow the noise by r, then ramps
    runs: tuple[Trained, ...]  # behind them
    seed: int  # that all seeds come from
    device: str  # that trained
    torch: str  # version of PyTorch
    notes: tuple[str, ...]  # what to know, a sentence each

    def of(self, *kinds: Kind) -> list[ScheduleResult]:
        """The answers of some kinds."""
        return [answer for answer in self.answers if answer.kind in kinds]

    def runs_of(self, schedule: str) -> list[Trained]:
        """The runs of a schedule, by seed."""
        return [run for run in self.runs if run.schedule == schedule]


_STEEPEST = -0.75  # below s^-1 the integral of N from 0 would be infinite; chosen, not studied

_WIDEST = math.log(1e4)
"""The factor on the noise scale is sought between 1e-4 and 1e4; b_simple and b_crit differ by up to 10 (McCandlish et
al. 2018, section 5), for language models by more (Merrill et al. 2025)."""


@dataclass(frozen=True)
class Gain:
    """The frontier of the best schedules, r running from 0 to infinity along it."""

    s_min: float  # int ds, in updates
    e_min: float  # int N ds, in examples
    root: float  # int sqrt(N) ds

    @property
    def gamma(self) -> float:
        """(int sqrt(N) ds)^2 / (s_min e_min): 1 where nothing can be gained."""
        return self.root**2 / (self.s_min * self.e_min)

    @property
    def b_crit(self) -> float:
        """e_min / s_min: the mean of N over progress."""
        return self.e_min / self.s_min


def gain(s: ArrayLike, noise_scale: ArrayLike) -> Gain:
    """The frontier of the best schedules for a noise scale that is known at some points of progress.

    Progress `s` is positive and rises over at least two points, and N there is positive, in examples; (n,). Between two
    points N is the power of s that passes through both, and its integrals are exact; N ~ s^a is thus integrated without
    error however few the points: gamma is then (1 + a) / (1 + a/2)^2 (eq. D.7). Before the first point the power of the
    first two goes on (no steeper than s^-0.75).

    Example:
        >>> s = np.geomspace(1.0, 1e4, 9)
        >>> round(gain(s, 10.0 * np.sqrt(s)).gamma, 12)  # a = 1/2
        0.96
    """
    x, n = np.asarray(s, dtype=float), np.asarray(noise_scale, dtype=float)
    length, rise = np.diff(np.log(x)), np.diff(np.log(n))
    first = max(float(np.log(n[1] / n[0]) / np.log(x[1] / x[0])), _STEEPEST)

    def integral(k: float) -> float:
        # int N^k ds = N_0^k s_0 (e^z - 1) / z log(s_1/s_0), with z = k log(N_1/N_0) + log(s_1/s_0).
        between = n[:-1] ** k * x[:-1] * length * _mean_of_exp(k * rise + length)
        return float(between.sum() + n[0] ** k * x[0] / (k * first + 1.0))

    return Gain(float(x[-1]), integral(1.0), integral(0.5))


def _mean_of_exp(z: Floats) -> Floats:
    """(e^z - 1) / z, which is 1 at 0: to the bit what named the trials of runs that are stored."""
    small = np.abs(z) < 1e-12
    return np.asarray(np.where(small, 1.0, np.expm1(z) / np.where(small, 1.0, z)))


def ratio_of_gamma(gamma: float, over: float) -> float:
    """Steps, and examples, over those of the fixed batch size that is the mean one, E / S = `over` b_crit.

    A fixed batch size b b_crit has S = s_min (1 + 1/b) and E = e_min (1 + b). With rho times both, eq. D.4 reads
    (rho (1 + 1/b) - 1) (rho (1 + b) - 1) = gamma, that is rho^2 - rho + (1 - gamma) b / (1 + b)^2 = 0. The gain is
    largest at b = 1, where rho = (1 + sqrt(gamma)) / 2.

    Example:
        >>> ratio_of_gamma(0.64, 1.0)
        0.9
    """
    return (1.0 + math.sqrt(max(1.0 - 4.0 * (1.0 - gamma) * over / (1.0 + over) ** 2, 0.0))) / 2.0


def progress(steps: ArrayLike, noise_scale: ArrayLike, batch_size: ArrayLike) -> Floats:
    """Progress s after each of some rising numbers of updates: the integral of ds = dt / (1 + N/B), by trapezoids.

    N is taken there, B of the update that follows; updates before the first point are counted as made like it. (n,)
    """
    t, n, b = (np.asarray(values, dtype=float) for values in (steps, noise_scale, batch_size))
    rate = 1.0 / (1.0 + n / b)
    between = np.diff(t) * (rate[1:] + rate[:-1]) / 2.0
    return np.asarray(np.concatenate([[0.0], np.cumsum(between)]) + t[0] * rate[0])


def thinned(length: int, most: int) -> Sequence[int]:
    """Places of at most so many points, the first and the last among them, evenly between."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(length, most))})


def gain_along(run: Trained, factor: float = 1.0) -> Gain | None:
    """The frontier of the best schedules for the noise scale that one run had, times a factor.

    None where the noise scale is known at fewer than three points.
    """
    known = _known(run)
    if known is None:
        return None
    steps, noise, batch_sizes = known
    return gain(progress(steps, factor * noise, batch_sizes), factor * noise)


def noise_factor(runs: Sequence[Trained], b_crit: float) -> float | None:
    """The factor on the noise scale that makes its mean over progress b_crit, as e_min / s_min is in the theory.

    Which r belongs to which batch size depends on it. The gamma that is predicted does so less, through progress alone,
    which counts N / B: for N ~ sqrt(t) from 0.94 to 0.91 where the factor goes from 1/4 to 4. Of the runs, all at one
    fixed batch size, the geometric mean is taken; None where none knows its noise scale.
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
