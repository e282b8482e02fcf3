"""The simple noise scale at one checkpoint, from the gradients of single examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad, vmap

from bcrit.tuner.training.noise_scale.examples import CHUNK, ExampleLoss, Parameters, blocks_of, chunks_of, measuring
from bcrit.tuner.training.noise_scale.pair import unbiased_pair
from bcrit.tuner.training.noise_scale.ratio import Ratio, SimpleScale, fieller


def measure_b_simple(
    loss: ExampleLoss,
    parameters: Parameters,
    examples: Sequence[Tensor],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    n_examples: int | None = None,
    chunk: int = CHUNK,
    level: float = 0.95,
    seed: int = 0,
) -> SimpleScale:
    """b_simple at these parameters; the model is not touched. Costs one gradient an example.

    n examples are n batches of one in `unbiased_pair`. Errors are the jackknife's over up to 20 blocks of examples: all
    pairs of examples are in the estimate, and not only those within a block.

    Args:
        loss: of one example, as from `example_loss`.
        parameters: where, as from `parameters_of`.
        examples: inputs, targets, ..., each with the examples along the first axis: a random sample of at least 20.
        groups: names of parameters by the name of a group, for estimates of its own.
        n_examples: size of the data set that the sample is from, without replacement, for the scale of the data set
            itself; its errors shrink to 0 as the sample becomes all of it. None: the population (see `pair`).
        chunk: examples whose gradients are in memory at once, beside up to 20 sums over blocks.
        level: of confidence.
        seed: of dropout and the like; PyTorch's own stream is left as it was.
    """
    blocks = blocks_of(examples)
    with measuring(seed, parameters):
        sums = [BlockSums(loss, parameters, block, chunk) for block in blocks]
    sizes = np.array([len(block[0]) for block in blocks])
    facts = block_products(sums)
    total = simple_ratio(sum(facts.values(), np.zeros((3, len(sizes)))), sizes, n_examples, level)
    estimates = {
        name: simple_ratio(np.sum([facts[member] for member in members], axis=0), sizes, n_examples, level)
        for name, members in (groups or {}).items()
    }
    return SimpleScale(total, estimates, int(sizes.sum()), int(sizes.sum()))


class BlockSums:
    """What is kept of a block of examples.

    Attributes:
        gradient: sum of the examples' gradients, by parameter.
        squares: sum of their squared norms, by parameter.
    """

    def __init__(self, loss: ExampleLoss, parameters: Parameters, block: Sequence[Tensor], chunk: int) -> None:
        """Compute the gradients, `chunk` at a time.

        Args:
            loss: of one example.
            parameters: where.
            block: its examples.
            chunk: as in `measure_b_simple`.
        """
        self.gradient = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.squares = {name: p.new_zeros(()) for name, p in parameters.items()}
        gradients = vmap(grad(loss), in_dims=(None, *(0 for _ in block)), randomness="different")
        for part in chunks_of(block, chunk):
            for name, each in gradients(parameters, *part).items():  # (chunk, *shape)
                self.gradient[name] += each.sum(0)
                self.squares[name] += each.square().sum()


def block_products(sums: Sequence[BlockSums]) -> dict[str, NDArray[np.float64]]:
    """All that the jackknife needs, by parameter; it adds up over parameters.

    Returns:
        Of shape (3, n_blocks): sum of |g_i|^2 in block j, s_j's with s = sum_k s_k, and |s_j|^2, with s_j the sum of
        the block's gradients.
    """
    products = {}
    for name in sums[0].gradient:
        own = [block.gradient[name].flatten() for block in sums]
        whole = torch.stack(own).sum(0)
        rows = [[block.squares[name] for block in sums], [s @ whole for s in own], [s @ s for s in own]]
        products[name] = np.array([[float(value) for value in row] for row in rows])
    return products


def simple_ratio(products: NDArray[np.float64], sizes: NDArray[np.int_], n_examples: int | None, level: float) -> Ratio:
    """The estimate and the jackknife over blocks.

    Without block j the sum of gradients has |s - s_j|^2 = |s|^2 - 2 s_j's + |s_j|^2.

    Args:
        products: of `block_products`, shape (3, n_blocks).
        sizes: examples in each block.
        n_examples: as in `measure_b_simple`.
        level: of confidence.
    """
    squares, with_all, with_itself = products
    n, whole = int(sizes.sum()), with_all.sum()
    point = _pair(squares.sum(), whole, n, n_examples)
    others = np.array(
        [
            _pair(squares.sum() - squares[j], whole - 2.0 * with_all[j] + with_itself[j], n - int(size), n_examples)
            for j, size in enumerate(sizes)
        ]
    )
    pseudo = point + (len(sizes) - 1) * (point - others)
    return fieller(point, mean_covariance(pseudo, n, n_examples), len(sizes), level, "|G|^2")


def _pair(squares: float, whole: float, n: int, n_examples: int | None) -> NDArray[np.float64]:
    return np.array(unbiased_pair(float(squares), float(whole) / n**2, n, n, n_examples))


def mean_covariance(values: NDArray[np.float64], n: int, n_examples: int | None) -> NDArray[np.float64]:
    """Covariance of the mean of block values, of which a sample of all N examples has none.

    Args:
        values: shape (n_blocks, 2).
        n: examples in the sample.
        n_examples: N; None: without end.
    """
    left = 1.0 if n_examples is None else 1.0 - n / n_examples
    covariance: NDArray[np.float64] = np.cov(values, rowvar=False) / len(values) * left
    return covariance
