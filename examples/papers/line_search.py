"""One-step line searches at a checkpoint: how much one SGD step gains, by batch size and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale.ratio import MIN_BLOCKS, inverse_batch, student
from bcrit.tuner.training.stepper import Gradient


@dataclass(frozen=True, eq=False)
class LineSearch:
    """What was measured.

    Attributes:
        batch_sizes: ascending.
        lrs: ascending.
        gains: loss before minus loss after the step, shape (n_samples, n_batch_sizes, n_lrs).
        n_examples: size of the set that batches are drawn from, if it is the one that the loss is evaluated on.
        loss: before the step.
    """

    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    gains: NDArray[np.float64]
    n_examples: int | None
    loss: float


def line_search(
    model: nn.Module,
    gradient: Gradient,
    loss: Callable[[], float],
    n_train: int,
    batch_sizes: Sequence[int],
    lrs: Sequence[float],
    *,
    n_samples: int = 32,
    same_data: bool = True,
    seed: int = 0,
) -> LineSearch:
    """Take one step of plain SGD from the model's weights, for every batch size, learning rate and noise sample.

    A noise sample is an order of the training set, and a batch of B its first B examples, so that batch sizes are
    compared on nested batches and learning rates on the same one. Afterwards the model is what it was, bit for bit:
    weights, buffers, gradients, training mode. Buffers are put back before each loss, which sees the checkpoint's
    statistics. The cost is n_samples x batch_sizes gradients, and as many losses times lrs.

    Args:
        model: at the checkpoint.
        gradient: of the model, for indices of training examples: the mean gradient, left in `.grad`.
        loss: the mean loss of the model as it is now, on the training set or on held-out data; the same at every call.
        n_train: size of the training set, drawn from without replacement.
        batch_sizes: to compare; from b_noise / 10 to 10 b_noise tells most.
        lrs: learning rates, from below the best of the smallest batch size to above the best of the largest.
        n_samples: noise samples.
        same_data: whether `loss` is that of the whole training set: a batch of all of it then has no noise.
        seed: of the samples, and of dropout and the like; PyTorch's own stream is left as it was.

    Raises:
        ValueError: a batch size or learning rate is impossible.
    """
    sizes, rates = tuple(sorted(set(batch_sizes))), tuple(sorted(set(lrs)))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= n_train:
        raise ValueError(
            f"1 <= batch size <= n_train must hold, but they are {sizes} and n_train={n_train}; change them"
        )
    if len(rates) < 3 or rates[0] <= 0:
        raise ValueError(f"there must be three or more learning rates above 0, but they are {rates}; add some")
    rng = np.random.default_rng(seed)
    gains = np.empty((n_samples, len(sizes), len(rates)))
    with unchanged(model, seed) as checkpoint:
        start = float(loss())
        for sample in range(n_samples):
            order = torch.from_numpy(rng.permutation(n_train)).to(checkpoint.device)
            for i, size in enumerate(sizes):
                step = checkpoint.gradient(gradient, order[:size])
                for j, lr in enumerate(rates):
                    checkpoint.move(step, lr)
                    gains[sample, i, j] = start - float(loss())
                checkpoint.restore()
    return LineSearch(sizes, rates, gains, n_train if same_data else None, start)


class Checkpoint:
    """A model's weights and buffers as they were, to leave and to come back to.

    Attributes:
        device: of the first parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy them.

        Args:
            model: whose they are.
        """
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._state = [*model.parameters(), *model.buffers()]
        self._kept = [tensor.detach().clone() for tensor in self._state]
        self._start = [p.detach().clone() for p in self._parameters]
        self.device = self._parameters[0].device

    @torch.no_grad()
    def restore(self) -> None:
        """Come back."""
        for tensor, kept in zip(self._state, self._kept, strict=True):
            tensor.copy_(kept)

    def gradient(self, gradient: Gradient, batch: Tensor) -> list[Tensor]:
        """The gradient of a batch at the checkpoint, 0 where a parameter has none."""
        for p in self._parameters:
            p.grad = None
        gradient(batch)
        self.restore()
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]

    @torch.no_grad()
    def move(self, step: Sequence[Tensor], lr: float) -> None:
        """Stand one step of plain SGD away from the checkpoint."""
        for p, start, g in zip(self._parameters, self._start, step, strict=True):
            torch.add(start, g, alpha=-lr, out=p)


@contextmanager
def unchanged(model: nn.Module, seed: int) -> Iterator[Checkpoint]:
    """Undo what is done to the model inside: weights, buffers, gradients, modes, and PyTorch's random numbers."""
    checkpoint = Checkpoint(model)
    gradients = [p.grad for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        devices = [checkpoint.device] if checkpoint.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield checkpoint
    finally:
        checkpoint.restore()
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            p.grad = gradient
        for module, training in modes:
            module.training = training


# MODULE line_fit.py
# b_noise from one-step line searches: how the best learning rate and the best gain grow with the batch size.
#
#     lr_opt(B)   = lr_max   / (1 + b_noise / B)        (McCandlish et al. 2018, eq. 2.6)
#     gain_opt(B) = gain_max / (1 + b_noise / B)        (eq. 2.7)
#
# Batches that are drawn without replacement from the N examples that the loss is evaluated on have 1/B - 1/N in the
# place of 1/B, because the covariance of their mean gradient is Sigma (1/B - 1/N).


Array = NDArray[np.float64]

# b_noise is sought from 1/1000 of the smallest batch size to 1000 times the largest; chosen: beyond, data tell nothing.
_BEYOND = 1000.0
_FLOOR = 0.02  # relative error of a law of second order, at best; chosen, not studied
_GRID = 400  # points; a parabola through the best three then is exact to about 1e-4 in log b_noise


@dataclass(frozen=True)
class LineFit:
    """The joint fit and both single ones.

    Attributes:
        level: of confidence.
        batch_sizes: that were fitted.
        lr_opt: best learning rate at each.
        gain_opt: expected gain there.
        set_aside: batch size -> why it was left out.
        reason: why b_noise is not resolved; empty where it is.
        b_noise: of learning rates and gains together; None where it is not resolved.
        low: of the interval.
        high: of the interval.
        b_noise_of_lr: of the learning rates alone.
        b_noise_of_gain: of the gains alone.
        lr_max: best learning rate without noise, of the joint fit.
        gain_max: best gain without noise, of the joint fit.
        lr_residuals: log(measured / fitted), of the joint fit.
        gain_residuals: log(measured / fitted), of the joint fit.
    """

    level: float
    batch_sizes: tuple[int, ...]
    lr_opt: tuple[float, ...]
    gain_opt: tuple[float, ...]
    set_aside: Mapping[int, str]
    reason: str
    b_noise: float | None = None
    low: float | None = None
    high: float | None = None
    b_noise_of_lr: float | None = None
    b_noise_of_gain: float | None = None
    lr_max: float | None = None
    gain_max: float | None = None
    lr_residuals: tuple[float, ...] = ()
    gain_residuals: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.b_noise is None:
            return f"b_noise = not resolved: {self.reason}"
        return f"b_noise = {self.b_noise:.3g} ({100 * self.level:g} %: {self.low:.3g} ... {self.high:.3g})"


def fit_line_search(measured: LineSearch, level: float = 0.95) -> LineFit:
    """Fit the two laws by weighted least squares in the logarithm, with one b_noise, and with one for each.

    Gains are averaged over noise samples before their maximum is sought, for the best learning rate of an expectation
    is not the expectation of the best. The interval is the jackknife's over noise samples, in log b_noise.

    Args:
        measured: of `line_search`.
        level: of confidence.
    """
    mean = measured.gains.mean(axis=0)
    lr, gain = best_step(mean, measured.lrs)
    without = _without_each(measured.gains, measured.lrs)  # (n_samples, 2, n_batch_sizes)
    kept = ~np.isnan(lr) & ~np.isnan(without).any(axis=(0, 1))
    sizes = tuple(size for size, keep in zip(measured.batch_sizes, kept, strict=True) if keep)
    n = len(measured.gains)
    found = LineFit(
        level=level,
        batch_sizes=sizes,
        lr_opt=tuple(lr[kept].tolist()),
        gain_opt=tuple(gain[kept].tolist()),
        set_aside={b: _why_not(mean[i], measured.lrs) for i, b in enumerate(measured.batch_sizes) if not kept[i]},
        reason=f"{len(sizes)} batch sizes with a best learning rate and {n} noise samples are too few; "
        f"at least 3 and {MIN_BLOCKS} are needed",
    )
    if len(sizes) < 3 or n < MIN_BLOCKS:
        return found
    x = np.array([inverse_batch(size, measured.n_examples) for size in sizes])
    y = np.log(np.stack([lr[kept], gain[kept]]))  # (2, n_batch_sizes)
    without = without[:, :, kept]
    weights = _weights(without, x)
    b_noise = _scale(y, x, weights)
    others = np.log([_scale(each, x, weights) for each in without])
    reason = _reason(b_noise, x)
    margin = student((1.0 + level) / 2.0, n - 1) * (n - 1) ** 0.5 * others.std()
    tops = np.average(y + np.log1p(b_noise * x), axis=1, weights=weights)
    residuals = y - (tops[:, None] - np.log1p(b_noise * x))
    return replace(
        found,
        reason=reason,
        b_noise=None if reason else b_noise,
        low=None if reason else b_noise * math.exp(-margin),
        high=None if reason else b_noise * math.exp(margin),
        b_noise_of_lr=_scale(y[:1], x, weights[:1]),
        b_noise_of_gain=_scale(y[1:], x, weights[1:]),
        lr_max=math.exp(tops[0]),
        gain_max=math.exp(tops[1]),
        lr_residuals=tuple(residuals[0].tolist()),
        gain_residuals=tuple(residuals[1].tolist()),
    )


def best_step(gains: Array, lrs: tuple[float, ...]) -> tuple[Array, Array]:
    """The vertex of the parabola through the best learning rate and its neighbours, of which 0 with gain 0 is one.

    The expected gain of a quadratic loss is such a parabola, so that the vertex is exact there.

    Args:
        gains: expected gains, shape (..., n_lrs).
        lrs: ascending.

    Returns:
        The best learning rate and the gain there, shape (...); not a number where the best of all is the last one, or
        no step gains anything.
    """
    rates = np.concatenate([[0.0], lrs])
    values = np.concatenate([np.zeros((*gains.shape[:-1], 1)), np.where(np.isfinite(gains), gains, -np.inf)], axis=-1)
    best = values.argmax(axis=-1)
    inside = (best > 0) & (best < len(rates) - 1)
    middle = np.clip(best, 1, len(rates) - 2)
    a, b, c = (rates[middle + k] for k in (-1, 0, 1))
    fa, fb, fc = (np.take_along_axis(values, (middle + k)[..., None], -1)[..., 0] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (fb - fa) / (b - a), (fc - fb) / (c - b)
        bend = (right - left) / (c - a)  # half the second derivative
        vertex = (a + b) / 2.0 - left / (2.0 * bend)
        top = fb + (vertex - b) * (left + (vertex - a) * bend)
    # A neighbour at which the loss is infinite gives no parabola: the best point itself is then all that is known.
    known = np.isfinite(vertex) & np.isfinite(top)
    vertex, top = np.where(known, vertex, b), np.where(known, top, fb)
    return np.where(inside, vertex, np.nan), np.where(inside, top, np.nan)


def _why_not(gains: Array, lrs: tuple[float, ...]) -> str:
    if np.nanmax(gains) <= 0:
        return f"no step gains anything, not even at lr={lrs[0]:g}: smaller learning rates or more noise samples"
    if np.nanargmax(gains) == len(lrs) - 1:
        return f"the best learning rate is the largest, {lrs[-1]:g}: larger ones are needed"
    return "without one of the noise samples there is no best learning rate: more samples, or another grid"


def _weights(without: Array, x: Array) -> Array:
    """One over the variance of each logarithm: the noise's, which goes with x = 1/B, and a floor for the laws' own.

    The jackknife gives a variance at each batch size, but where a gain is small by chance its logarithm seems noisier
    than it is, and weights that know this pull b_noise down by a tenth. So each law has one constant for all of them.
    """
    own = (len(without) - 1) * without.var(axis=0)  # (2, n_batch_sizes)
    slopes = np.median(own[:, x > 0] / x[x > 0], axis=1)
    return np.asarray(1.0 / (slopes[:, None] * x + _FLOOR**2))


def _scale(y: Array, x: Array, weights: Array) -> float:
    """The b_noise that minimises sum weight (y - top + log(1 + b_noise x))^2 with a free top for each row of y.

    Args:
        y: logarithms, shape (n_laws, n_batch_sizes).
        x: 1/B, shape (n_batch_sizes,).
        weights: shape (n_laws, n_batch_sizes).
    """
    grid = _candidates(x)
    shifted = y[:, None, :] + np.log1p(np.exp(grid)[:, None] * x)  # (n_laws, n_grid, n_batch_sizes)
    shares = (weights / weights.sum(axis=1, keepdims=True))[:, None, :]
    tops = (shares * shifted).sum(axis=-1, keepdims=True)
    misfit = (weights[:, None, :] * (shifted - tops) ** 2).sum(axis=(0, 2))
    k = int(misfit.argmin())
    step = 0.0
    if 0 < k < len(grid) - 1:
        below, at, above = misfit[k - 1 : k + 2]
        bend = below - 2.0 * at + above
        step = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return float(np.exp(grid[k] + (grid[1] - grid[0]) * step))


def _candidates(x: Array) -> Array:
    positive = x[x > 0]
    return np.linspace(-np.log(positive.max() * _BEYOND), -np.log(positive.min() / _BEYOND), _GRID)


def _without_each(gains: Array, lrs: tuple[float, ...]) -> Array:
    """Logarithms of the best steps and gains without each noise sample in turn, shape (n_samples, 2, n_batch_sizes).

    Not a number where a best step is lost.
    """
    n = len(gains)
    lr, gain = best_step((gains.sum(axis=0) - gains) / max(n - 1, 1), lrs)
    return np.asarray(np.log(np.stack([lr, gain], axis=1)))


def _reason(b_noise: float, x: Array) -> str:
    low, high = np.exp(_candidates(x)[[0, -1]])
    if not low * 1.01 < b_noise < high / 1.01:
        side = "smaller" if b_noise < 1.0 / x.max() else "larger"
        return f"the laws do not bend over these batch sizes; add {side} ones"
    return ""
