"""B_noise = tr(H Sigma) / (G'HG) at one checkpoint, from Hessian-vector products of single examples.

With gradients g_i and Hessians H_i of n independent examples, in J blocks:

    q = mean of g_i' H_k g_i over examples i, each with another one k,          E q = tr(H Sigma) + G'HG
    p = mean over blocks b of a_b' H_b a_b,                                     E p = c tr(H Sigma) + G'HG

with H_b the mean Hessian of block b, a_b the mean gradient of all the other examples, and c the mean of one over their
number. A gradient never meets the Hessian of its own example, because the two are dependent: that is what makes both
expectations exact. They are solved for

    tr(H Sigma) = (q - p) / (1 - c),    G'HG = (p - c q) / (1 - c),

which are unbiased, as in `pair` where H = I. The error of a block's data is that of their linear part: of b it is p's
own term and 2 g_b'v_b, with g_b the block's mean gradient and v_b the mean of H_d a_d over the other blocks d. Where
noise dominates the quadratic part this is too large rather than too small.

The cost is two gradients and two Hessian-vector products an example. A product is a gradient of a gradient (which every
operation has that has a double backward; forward mode has fewer) and costs 2 to 3 gradients: 6 to 8 gradients in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad, vjp, vmap

from bcrit.tuner.training.noise_scale.examples import CHUNK, ExampleLoss, Parameters, blocks_of, chunks_of, measuring
from bcrit.tuner.training.noise_scale.per_example import BlockSums, block_products, mean_covariance, simple_ratio
from bcrit.tuner.training.noise_scale.ratio import Ratio, fieller
from bcrit.tuner.training.noise_scale.temperature import temperature


@dataclass(frozen=True)
class CurvedScale:
    """Both noise scales of one checkpoint, and the step that they belong to.

    Attributes:
        noise: tr(H Sigma) and G'HG, with b_noise their ratio; not resolved where the loss does not curve up along G.
        simple: tr(Sigma) and |G|^2 from the same examples.
        n_examples: of the sample.
    """

    noise: Ratio
    simple: Ratio
    n_examples: int

    @property
    def b_noise(self) -> float | None:
        """tr(H Sigma) / (G'HG), None where it is not resolved."""
        return self.noise.value

    @property
    def b_simple(self) -> float | None:
        """tr(Sigma) / |G|^2, None where it is not resolved."""
        return self.simple.value

    @property
    def lr_max(self) -> float | None:
        """|G|^2 / (G'HG), the best learning rate of one SGD step without noise; None where either is not resolved."""
        known = self.noise.resolved and self.simple.resolved
        return self.simple.denominator / self.noise.denominator if known else None

    def temperature(self, lr: float, batch_size: float, momentum: float = 0.0) -> float | None:
        """The run's learning rate over the best one at its batch size: see `temperature`. None without `lr_max`."""
        if self.lr_max is None or self.b_noise is None:
            return None
        return temperature(lr, batch_size, self.lr_max, max(self.b_noise, 0.0), momentum)

    def __str__(self) -> str:
        return f"b_noise = {self.noise}; b_simple = {self.simple}"


def measure_b_noise(
    loss: ExampleLoss,
    parameters: Parameters,
    examples: Sequence[Tensor],
    *,
    n_examples: int | None = None,
    chunk: int = CHUNK,
    level: float = 0.95,
    seed: int = 0,
) -> CurvedScale:
    """b_noise and b_simple at these parameters; the model is not touched.

    Args:
        loss: of one example, as from `example_loss`.
        parameters: where, as from `parameters_of`.
        examples: inputs, targets, ..., each with the examples along the first axis: a random sample of at least 20.
        n_examples: as in `measure_b_simple`; G'HG then is that of the data set, larger by tr(H Sigma) / N, up to terms
            1/N times the covariance of gradients and Hessians.
        chunk: as in `measure_b_simple`; a Hessian-vector product takes about three times a gradient's memory.
        level: of confidence.
        seed: of dropout and the like; PyTorch's own stream is left as it was.
    """
    blocks = blocks_of(examples)
    sizes = np.array([len(block[0]) for block in blocks])
    with measuring(seed, parameters):
        sums = [BlockSums(loss, parameters, block, chunk) for block in blocks]
        q = np.array([_own_products(loss, parameters, block, chunk) for block in blocks])
        p, linear = _mean_products(loss, parameters, blocks, sums, chunk)
    n = int(sizes.sum())
    c = float(np.mean(1.0 / (n - sizes)))
    # Both numbers are linear in (q, p), and so is what each block's data add to them.
    solve = np.array([[1.0, -1.0], [-c, 1.0]]) / (1.0 - c)
    if n_examples is not None:
        solve[1] += solve[0] / n_examples
    point = solve @ np.array([sizes @ q / n, p.mean()])
    values = np.stack([q, p + linear - linear.mean()], axis=1) @ solve.T
    # Which gradient meets which Hessian is chance even where the sample is all of a data set: errors are not shrunk.
    noise = fieller(point, mean_covariance(values, n, None), len(blocks), level, "G'HG")
    simple = simple_ratio(sum(block_products(sums).values(), np.zeros((3, len(blocks)))), sizes, n_examples, level)
    return CurvedScale(noise, simple, n)


def _own_products(loss: ExampleLoss, parameters: Parameters, block: Sequence[Tensor], chunk: int) -> float:
    """The mean of g_i' H_k g_i over a block, with k the example before i, and the last before the first."""

    def product(at: Parameters, *both: Tensor) -> Tensor:
        own, other = both[: len(block)], both[len(block) :]
        g = grad(loss)(at, *own)
        h_g = vjp(lambda x: grad(loss)(x, *other), at)[1](g)[0]
        return _inner(g, h_g)

    pairs = [*block, *(part.roll(1, 0) for part in block)]
    products = vmap(product, in_dims=(None, *(0 for _ in pairs)), randomness="different")
    total = sum(float(products(parameters, *part).sum()) for part in chunks_of(pairs, chunk))
    return total / len(block[0])


def _mean_products(
    loss: ExampleLoss,
    parameters: Parameters,
    blocks: Sequence[Sequence[Tensor]],
    sums: Sequence[BlockSums],
    chunk: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """a_b' H_b a_b and 2 g_b' v_b, each of shape (n_blocks,)."""
    sizes = [len(block[0]) for block in blocks]
    whole = {name: torch.stack([s.gradient[name] for s in sums]).sum(0) for name in parameters}
    means = [{name: s.gradient[name] / n for name in parameters} for s, n in zip(sums, sizes, strict=True)]
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    p, own = [], []
    for block, part, mean, size in zip(blocks, sums, means, sizes, strict=True):
        others = {name: (whole[name] - part.gradient[name]) / (sum(sizes) - size) for name in parameters}
        curved = _hessian_times(loss, parameters, block, others, chunk)
        p.append(float(_inner(others, curved)))
        own.append(float(_inner(mean, curved)))
        for name in total:
            total[name] += curved[name]
    everything = np.array([float(_inner(mean, total)) for mean in means])
    return np.array(p), 2.0 * (everything - np.array(own)) / (len(blocks) - 1)


def _hessian_times(
    loss: ExampleLoss, parameters: Parameters, block: Sequence[Tensor], direction: Parameters, chunk: int
) -> Parameters:
    """The mean Hessian of a block times a direction."""
    result = {name: torch.zeros_like(p) for name, p in parameters.items()}
    losses = vmap(loss, in_dims=(None, *(0 for _ in block)), randomness="different")
    for part in chunks_of(block, chunk):

        def total(at: Parameters, part: tuple[Tensor, ...] = part) -> Tensor:
            return losses(at, *part).sum()

        curved = vjp(grad(total), parameters)[1](direction)[0]
        for name in result:
            result[name] += curved[name] / len(block[0])
    return result


def _inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()
