"""One Gaussian process over the trials of all batch sizes: how far from the target a trial ends that trains T updates.

A trial is tied to its horizon T, where its schedule ends, and answers with its last metric, so that one that misses
the target tells as much as one that reaches it, and with an earlier one, as a trial whose schedule ends later would.

Two inputs carry most of it from one batch size to another: *progress*, the log of the effective learning rates summed
over the updates, and *temperature*, the log of the effective learning rate per example of a batch. With them, and with
diverged trials left out, the error of held-out near-optimal points on the noisy quadratic model fell from .29 to .08
(log metric, 110 trials); a diverged trial teaches a cliff, to which the length scale of the learning rate collapses.
A third is by how much the end of the schedule lowers the temperature: that of a stiff direction, which has forgotten
what was before. It is the same for a short tail at a low rate as for a longer one at a higher, so the model can tell
where a decay had better end; with the last rate in its place a search that may choose that is no better than one that
may not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from bcrit.search_spaces.dimensions import Box, Choice, Log, ReverseLog
from bcrit.search_spaces.presets import has_effective_lr
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.training.settings import learning_rate

Floats = npt.NDArray[np.float64]

# Standard deviations of the log length scales (about 1 in the units of `Inputs`), amplitude and noise with those of
# their logs, and slope of the linear part. A noise prior with .5 was too narrow for small networks, whose seeds differ
# by 20 to 40 %; else as measured on four spectra.
_LENGTH_SD, _AMPLITUDE, _AMPLITUDE_SD, _NOISE, _NOISE_SD, _SLOPE = 0.35, 0.5, 0.7, 0.04, 0.8, 0.3
# Beyond a factor e^.5 from the target only the order of magnitude counts, and it is known to twice the noise.
_FAR = 0.5
_FAR_VARIANCE = 4.0
_BEYOND = 0.1  # times its threshold a metric is as good as reached by far
ONCE = np.ones(1)
# The points of a schedule at which its means are taken, by what is left of it; closer together towards the end. Chosen,
# not studied.
_LEFT = np.linspace(1, 0, 17)
_PLACES = 1 - _LEFT**2
# Twice the curvature, in units of 1 / (summed rates), of the direction whose noise tells how a schedule ends. With 25
# |log S / S_true| is .061 on the noisy quadratic model, with 40 .038 (8 studies each).
_STIFF = 40.0


def distance(target: Target, first: float, value: float) -> float:
    """How far a metric is from the target, below 0 beyond it: log(value / threshold) where that exists.

    For a metric to be maximised towards 1 it is that of 1 - value. Elsewhere it is the way that is left as a share of
    the way from the `first` value, times 3, so that untrained is as far as a loss at e^3 times its threshold.
    """
    threshold = target.threshold
    if target.direction is Direction.MINIMIZE and threshold > 0 and value >= 0:
        return math.log(max(value / threshold, _BEYOND))
    if target.direction is Direction.MAXIMIZE and 0 < threshold < 1 and 0 <= value <= 1:
        return math.log(max((1 - value) / (1 - threshold), _BEYOND))
    left = threshold - value if target.direction is Direction.MAXIMIZE else value - threshold
    return 3 * left / max(abs(threshold - first), 1e-12)


@dataclass(frozen=True)
class Inputs:
    """What the process knows of a trial, in units of its prior length scales."""

    space: SearchSpace  # as declared; a box that was widened keeps the units
    optimizer: str

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """The numeric hyperparameters by name; the options of a choice share theirs by name."""
        found: dict[str, Box] = {}
        for address, dimension in self.space.axes.items():
            if isinstance(dimension, Box):
                found.setdefault(hyperparameter(address), dimension)
        return found

    @cached_property
    def _placed(self) -> dict[str, tuple[Box, float, float]]:
        """Those whose value is an input of its own, with the middle of their box and one length scale."""
        left_out = ("decay_fraction", "end_factor")
        return {n: (box, sum(box.ends) / 2, self.unit(n)) for n, box in self.boxes.items() if n not in left_out}

    def unit(self, name: str) -> float:
        """One length scale in a hyperparameter's scaled coordinate: a factor e^2, or half of a linear box."""
        box = self.boxes[name]
        return 2.0 if isinstance(box, Log | ReverseLog) else abs(box.ends[1] - box.ends[0]) / 2

    def of(
        self, batch_size: int, point: Point, hyperparameters: Mapping[str, Any], steps: float, over: Floats = ONCE
    ) -> Floats:
        """The inputs of a trial of so many updates times each of `over`, with which its schedule scales; (n_over, d).

        `hyperparameters` has its point's decay and warm-up in updates. After t updates a velocity that began at 0 has
        1 - momentum^t of its size, which counts where T is not many times 1 / (1 - momentum).
        """
        row = [math.log(batch_size) / 4]
        searched = {hyperparameter(a) for a, d in self.space.active(point).items() if isinstance(d, Box)}
        for name, (box, middle, unit) in self._placed.items():
            # In the middle also where an option has no such dimension, or a fixed value.
            row.append((box.scaled(float(point[name])) - middle) / unit if name in searched else 0.0)
        for name, dimension in self.space.root.items():
            if isinstance(dimension, Choice):
                row += [0.5 * (point[name] == option) for option in dimension.options]
        horizons = steps * over
        if "lr" not in hyperparameters:
            return _columns(row, np.log(horizons) / 2)
        lr = math.log(float(hyperparameters["lr"]))
        rates = np.array([learning_rate(hyperparameters, int(share * steps)) for share in _PLACES.tolist()])
        rates /= float(hyperparameters["lr"])
        summed, rising = has_effective_lr(self.optimizer), np.ones((len(over), 1))
        if summed:
            momentum = float(hyperparameters.get("momentum", 0.0))
            lr -= math.log1p(-momentum)
            rising = 1 - momentum ** (horizons[:, None] * _PLACES + 1)
        moved = rates * rising  # (n_over, len(_PLACES))
        # Sums of gradients have noise as lr / B, means of normalised ones as lr / sqrt(B) (Malladi et al. 2022).
        noise = math.log(batch_size) * (1.0 if summed or self.optimizer == "sgd" else 0.5)
        row.append((lr - noise) / 3)
        parts = moved * _LEFT / _LEFT.sum()
        mean = np.maximum(parts.sum(axis=1), 1e-6)
        # A direction of curvature h ends with noise 2 h sum of rate^2 exp(-2 h (the rates to come)); h = _STIFF / 2.
        to_come = (parts[:, ::-1].cumsum(axis=1)[:, ::-1] - parts / 2) / mean[:, None]
        end = _STIFF * (parts * moved * np.exp(-_STIFF * to_come)).sum(axis=1) / mean
        progress = (lr + np.log(mean * horizons)) / 2
        return _columns(row, np.log(np.maximum(end, 1e-6)) / 3, progress)


def _columns(row: Sequence[float], *columns: Floats) -> Floats:
    """The row once for each entry of the columns, which follow it."""
    found = np.empty((len(columns[0]), len(row) + len(columns)))
    found[:, : len(row)] = row
    for place, column in enumerate(columns, start=len(row)):
        found[:, place] = column
    return found


@dataclass(frozen=True)
class Surrogate:
    """The posterior, given trials; `x` is (n, d), `y` and `variance` (n,), as are the predictions."""

    x: Floats
    y: Floats  # what `seen` makes of distances
    variance: Floats  # of each trial's noise, as a multiple of the process's
    theta: Floats  # logs of the d length scales, the amplitude, the noise

    @staticmethod
    def seen(distances: Sequence[float]) -> tuple[Floats, Floats]:
        """Distances as the process sees them, far ones drawn together, with the multiples of their variance."""
        y = np.asarray(distances, dtype=float)
        far = y > _FAR
        drawn = _FAR + 0.7 * np.log1p(np.maximum(y - _FAR, 0) / 0.7)
        return np.where(far, drawn, y), np.where(far, _FAR_VARIANCE, 1.0)

    @staticmethod
    def fitted(x: Floats, y: Floats, variance: Floats) -> Floats:
        """The most probable `theta`."""
        centred, squares = y - y.mean(), (x[:, None, :] - x[None]) ** 2
        prior = np.r_[np.zeros(x.shape[1]), math.log(_AMPLITUDE), math.log(_NOISE)]
        sd = np.r_[np.full(x.shape[1], _LENGTH_SD), _AMPLITUDE_SD, _NOISE_SD]

        def loss(theta: Floats) -> tuple[float, Floats]:
            curved, slope, straight = _kernel(x, x, theta)
            noise = np.exp(2 * theta[-1]) * variance
            lower = _cholesky(curved + straight + np.diag(noise + 1e-8))
            half = solve_triangular(lower, np.eye(len(y)), lower=True)
            inverse = half.T @ half
            alpha = inverse @ centred
            z = (theta - prior) / sd
            weight = inverse - np.outer(alpha, alpha)
            gradient = np.empty_like(theta)
            gradient[:-2] = np.einsum("ij,ijk->k", weight * slope, squares) * np.exp(-2 * theta[:-2]) * 5 / 6
            gradient[-2], gradient[-1] = (weight * curved).sum(), np.diag(weight) @ noise
            return 0.5 * centred @ alpha + np.log(np.diag(lower)).sum() + 0.5 * z @ z, gradient + z / sd

        found: Floats = minimize(loss, prior, jac=True, method="L-BFGS-B", options={"maxiter": 40}).x
        return found

    def __post_init__(self) -> None:
        """Solve for the weights once."""
        curved, _, straight = _kernel(self.x, self.x, self.theta)
        noise = np.exp(2 * self.theta[-1]) * self.variance
        lower = _cholesky(curved + straight + np.diag(noise + 1e-8))
        object.__setattr__(self, "_lower", lower)
        object.__setattr__(self, "_alpha", cho_solve((lower, True), self.y - self.y.mean()))

    def mean(self, x: Floats) -> Floats:
        """Mean of what trials without noise would end with; x is (m, d)."""
        curved, _, straight = _kernel(x, self.x, self.theta)
        found: Floats = (curved + straight) @ self._alpha + self.y.mean()  # type: ignore[attr-defined]
        return found

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """The same with its standard deviation, which takes most of the time."""
        curved, _, straight = _kernel(x, self.x, self.theta)
        half = solve_triangular(self._lower, (curved + straight).T, lower=True)  # type: ignore[attr-defined]
        own = np.exp(2 * self.theta[-2]) + 1 + _SLOPE**2 * (x * x).sum(axis=1)
        mean = (curved + straight) @ self._alpha + self.y.mean()  # type: ignore[attr-defined]
        return mean, np.sqrt(np.maximum(own - (half * half).sum(axis=0), 1e-10))


def _cholesky(matrix: Floats, more: float = 1e-9) -> Floats:
    """The lower factor; where rounding has left none, that of the matrix with as much more on its diagonal as it takes.

    The optimizer may try an amplitude of some thousand, where trials that are alike leave nothing but rounding.
    """
    try:
        return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        if more > 1e-5:
            raise
        return _cholesky(matrix + np.diag(more * np.diag(matrix)), 100 * more)


def _kernel(a: Floats, b: Floats, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Matern 5/2, its slope in squared distance but for a factor, and the constant with the linear part."""
    lengths = np.exp(theta[:-2])
    u, v = a / lengths, b / lengths
    r = math.sqrt(5.0) * np.sqrt(np.maximum((u * u).sum(1)[:, None] + (v * v).sum(1)[None] - 2 * u @ v.T, 0.0))
    size = np.exp(2 * theta[-2] - r)
    return size * (1 + r + r * r / 3), size * (1 + r), 1.0 + _SLOPE**2 * a @ b.T
