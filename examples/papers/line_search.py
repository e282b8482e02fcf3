"""One-step line searches at a checkpoint, and the noise scale that they show (McCandlish et al. 2018).

    python examples/papers/line_search.py

does the searches of mccandlish_2018.md again; it needs Fashion-MNIST in data/fashion_mnist. One step of plain SGD with
a batch of B examples gains most at

    lr_opt(B)   = lr_max   / (1 + b_noise / B)        (eq. 2.6), and there
    gain_opt(B) = gain_max / (1 + b_noise / B)        (eq. 2.7).

Batches that are drawn without replacement from the N examples that the loss is evaluated on have 1/B - 1/N in the place
of 1/B, because the covariance of their mean gradient is Sigma (1/B - 1/N).
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale.ratio import MIN_BLOCKS, inverse_batch

Array = NDArray[np.float64]

# b_noise is sought from 1/1000 of the smallest batch size to 1000 times the largest; chosen: beyond, data tell nothing.
_BEYOND = 1000.0
_FLOOR = 0.02  # relative error of a law of second order, at best; chosen, not studied
_GRID = 400  # points; a parabola through the best three then is exact to about 1e-4 in log b_noise


@dataclass(frozen=True, eq=False)
class LineSearch:
    """What was measured."""

    batch_sizes: tuple[int, ...]  # ascending
    lrs: tuple[float, ...]  # ascending
    gains: Array  # loss before minus loss after the step, shape (n_samples, n_batch_sizes, n_lrs)
    n_examples: int | None  # that batches are drawn from, if the loss is evaluated on all of them


def line_search(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],  # the mean loss of a model over training examples, by their indices
    whole: Callable[[nn.Module], float],  # what is to fall: the loss on the training set or on held-out data
    n_train: int,
    batch_sizes: Sequence[int],  # from b_noise / 10 to 10 b_noise tells most
    lrs: Sequence[float],  # from below the best of the smallest batch size to above the best of the largest
    *,
    n_samples: int = 32,
    same_data: bool = True,  # whether `whole` is the training set's: a batch of all of it then has no noise
    seed: int = 0,
) -> LineSearch:
    """Take one step of plain SGD from the model's weights, for every batch size, learning rate and noise sample.

    A noise sample is an order of the training set, and a batch of B its first B examples, so that batch sizes are
    compared on nested batches and learning rates on the same one. All is done on a copy of the model, and its buffers
    are put back before each loss, which sees the checkpoint's statistics. The cost is n_samples x batch_sizes
    gradients, and as many losses times lrs.
    """
    sizes, rates = tuple(sorted(set(batch_sizes))), tuple(sorted(set(lrs)))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= n_train:
        raise ValueError(
            f"1 <= batch size <= n_train must hold, but they are {sizes} and n_train={n_train}; change them"
        )
    if len(rates) < 3 or rates[0] <= 0:
        raise ValueError(f"there must be three or more learning rates above 0, but they are {rates}; add some")
    rng, gains = np.random.default_rng(seed), np.empty((n_samples, len(sizes), len(rates)))
    twin, state = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    parameters = [p for p in twin.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in parameters]
    device = start[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        before = whole(twin)
        for sample in range(n_samples):
            order = torch.from_numpy(rng.permutation(n_train)).to(device)
            for i, size in enumerate(sizes):
                step = torch.autograd.grad(loss(twin, order[:size]), parameters, materialize_grads=True)
                twin.load_state_dict(state)
                for j, lr in enumerate(rates):
                    with torch.no_grad():
                        for p, x, g in zip(parameters, start, step, strict=True):
                            torch.add(x, g, alpha=-lr, out=p)
                    gains[sample, i, j] = before - whole(twin)
                twin.load_state_dict(state)
    return LineSearch(sizes, rates, gains, n_train if same_data else None)


@dataclass(frozen=True)
class LineFit:
    """The joint fit of both laws and the two single ones."""

    batch_sizes: tuple[int, ...]  # that were fitted
    lr_opt: tuple[float, ...]  # best learning rate at each
    gain_opt: tuple[float, ...]  # expected gain there
    set_aside: Mapping[int, str]  # batch size -> why it was left out
    reason: str  # why b_noise is not resolved; empty where it is
    b_noise: float | None = None  # of learning rates and gains together
    low: float | None = None  # its 95 % interval
    high: float | None = None
    b_noise_of_lr: float | None = None  # of the learning rates alone
    b_noise_of_gain: float | None = None
    lr_max: float | None = None  # best learning rate without noise, of the joint fit
    gain_max: float | None = None

    def __str__(self) -> str:
        if self.b_noise is None:
            return f"b_noise = not resolved: {self.reason}"
        return f"b_noise = {self.b_noise:.3g} (95 %: {self.low:.3g} ... {self.high:.3g})"


def fit_line_search(measured: LineSearch) -> LineFit:
    """Fit the two laws by weighted least squares in the logarithm, with one b_noise, and with one for each.

    Gains are averaged over noise samples before their maximum is sought, for the best learning rate of an expectation
    is not the expectation of the best. The interval is the jackknife's over noise samples, in log b_noise.
    """
    mean, n = measured.gains.mean(axis=0), len(measured.gains)
    lr, gain = best_step(mean, measured.lrs)
    # Without each noise sample in turn, (n_samples, 2, n_batch_sizes); not a number where a best step is lost.
    others = best_step((measured.gains.sum(axis=0) - measured.gains) / max(n - 1, 1), measured.lrs)
    without = np.asarray(np.log(np.stack(others, axis=1)))
    kept = ~np.isnan(lr) & ~np.isnan(without).any(axis=(0, 1))
    sizes = tuple(size for size, keep in zip(measured.batch_sizes, kept, strict=True) if keep)
    found = LineFit(
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
    y, without = np.log(np.stack([lr[kept], gain[kept]])), without[:, :, kept]  # y: (2, n_batch_sizes)
    weights = _weights(without, x)
    b_noise = _scale(y, x, weights)
    margin = stdtrit(n - 1, 0.975) * (n - 1) ** 0.5 * np.log([_scale(each, x, weights) for each in without]).std()
    tops = np.average(y + np.log1p(b_noise * x), axis=1, weights=weights)
    reason = _reason(b_noise, x)
    if not reason:
        low, high = b_noise * math.exp(-margin), b_noise * math.exp(margin)
        found = replace(found, b_noise=b_noise, low=low, high=high)
    return replace(
        found,
        reason=reason,
        b_noise_of_lr=_scale(y[:1], x, weights[:1]),
        b_noise_of_gain=_scale(y[1:], x, weights[1:]),
        lr_max=math.exp(tops[0]),
        gain_max=math.exp(tops[1]),
    )


def best_step(gains: Array, lrs: tuple[float, ...]) -> tuple[Array, Array]:
    """The vertex of the parabola through the best learning rate and its neighbours, of which 0 with gain 0 is one.

    The expected gain of a quadratic loss is such a parabola, so that the vertex is exact there. Of `gains`, shape
    (..., n_lrs), it gives the best rate and the gain there, shape (...); not a number where the best of all is the last
    rate, or no step gains anything.
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
    """The b_noise that minimises sum weight (y - top + log(1 + b_noise x))^2 with a free top for each row of y."""
    grid = _candidates(x)
    shifted = y[:, None, :] + np.log1p(np.exp(grid)[:, None] * x)  # (n_laws, n_grid, n_batch_sizes)
    shares = (weights / weights.sum(axis=1, keepdims=True))[:, None, :]
    tops = (shares * shifted).sum(axis=-1, keepdims=True)
    misfit = (weights[:, None, :] * (shifted - tops) ** 2).sum(axis=(0, 2))
    k, step = int(misfit.argmin()), 0.0
    if 0 < k < len(grid) - 1:
        below, at, above = misfit[k - 1 : k + 2]
        bend = below - 2.0 * at + above
        step = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return float(np.exp(grid[k] + (grid[1] - grid[0]) * step))


def _candidates(x: Array) -> Array:
    positive = x[x > 0]
    return np.linspace(-np.log(positive.max() * _BEYOND), -np.log(positive.min() / _BEYOND), _GRID)


def _reason(b_noise: float, x: Array) -> str:
    low, high = np.exp(_candidates(x)[[0, -1]])
    if not low * 1.01 < b_noise < high / 1.01:
        side = "smaller" if b_noise < 1.0 / x.max() else "larger"
        return f"the laws do not bend over these batch sizes; add {side} ones"
    return ""


def main() -> None:
    """The searches of mccandlish_2018.md: a run after 400 steps at batch size 64, the loss on 1,000 images."""
    from bcrit.tuner.training.settings import Settings
    from bcrit.tuner.workloads.image_classifier import ImageClassifier

    workload = ImageClassifier(
        data={"source": "data/fashion_mnist", "validation": 1000},
        model={"name": "simple_cnn", "filters": [4], "hidden": 32},
    )
    images, labels = workload.train_data()
    labels = labels.long()
    held = torch.arange(0, len(images), 59)
    run = workload.begin(Settings(batch_size=64, seed=1, optimizer="sgd", hyperparameters={"lr": 0.15}))
    run.train(400)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return workload.loss(model(images[rows]), labels[rows])

    @torch.no_grad()
    def whole(model: nn.Module) -> float:
        return loss(model, held).item()

    lrs, sizes = [0.01 * 2**k for k in range(8)], [8, 32, 128, 512, 2048]
    found = fit_line_search(line_search(run.model, loss, whole, len(images), sizes, lrs, n_samples=12, same_data=False))
    print(found)
    for batch_size, lr, gain in zip(found.batch_sizes, found.lr_opt, found.gain_opt, strict=True):
        print(f"B = {batch_size}: best lr {lr:.3f}, gain {gain:.4f}")


if __name__ == "__main__":
    main()
