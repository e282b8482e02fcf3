"""Both noise scales at one checkpoint, from the gradients and Hessian-vector products of single examples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from bcrit.tuner.training.noise_scale.ratio import MAX_BLOCKS, MIN_BLOCKS, Ratio, fieller, unbiased_pair

Parameters = dict[str, Tensor]
"""Tensors by the names of `named_parameters`."""

ExampleLoss = Callable[..., Tensor]
"""The loss, a scalar, of (parameters, one example's input, its target, ...), none of which has a batch axis."""

CHUNK = 32  # examples; chosen, not studied: so many gradients are in memory at once


def example_loss(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> ExampleLoss:
    """The loss of one example of an ordinary model, as a function of its parameters.

    The model is measured in the mode (`train` or `eval`) that it is in. `loss` is of a batch's (outputs, targets), the
    mean over examples. A layer that mixes examples is a ValueError.
    """
    if layer := mixing_layer(model):
        raise ValueError(
            f"{layer} normalises with the statistics of the batch, so one example has no gradient of its own and "
            "estimators for independent examples do not hold; call model.eval() to measure with running statistics, or "
            "replace it by ghost batch norm and measure from micro-batches (NoiseScale) of whole ghost batches"
        )
    buffers = {name: buffer.detach() for name, buffer in model.named_buffers()}

    def of(parameters: Parameters, inputs: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(model, {**parameters, **buffers}, (inputs[None],))
        return loss(outputs, target[None])

    return of


def mixing_layer(model: nn.Module) -> str | None:
    """The first layer that mixes examples in the model's present mode, in words; None where there is none."""
    for name, module in model.named_modules():
        # Ghost batch norm, or another that says how many consecutive examples it mixes (see `MicroBatches`).
        mixes = isinstance(getattr(module, "ghost_size", None), int) and module.training
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # Without running statistics a layer uses the batch's in evaluation too.
            mixes = module.training or module.running_mean is None
        if mixes:
            return f"layer {name!r} ({type(module).__name__})"
    return None


def parameters_of(model: nn.Module) -> Parameters:
    """The parameters that are trained, by name, as tensors without history."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class CurvedScale:
    """Both noise scales of one checkpoint, and the step that they belong to."""

    # tr(H Sigma) and G'HG, with b_noise their ratio; not resolved where the loss does not curve up along G
    noise: Ratio
    simple: Ratio  # tr(Sigma) and |G|^2 from the same examples
    n_examples: int  # of the sample

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

    def temperature(self, lr: float, batch_size: float) -> float | None:
        """How hot a run is: its learning rate over the best one, T = lr (1 + b_noise / batch_size) / lr_max (eq. 2.6).

        A run that stays at one temperature settles where the noise scale is about proportional to 1/T: halving the
        learning rate about doubles what is measured (McCandlish et al. 2018, app. C). So a noise scale says something
        about a task only at a tuned learning rate, and two are compared only at one temperature. With a heavy ball's
        or Nesterov's momentum the long steps are those of lr / (1 - momentum). None without `lr_max`.
        """
        if self.lr_max is None or self.b_noise is None:
            return None
        return lr / (self.lr_max / (1.0 + max(self.b_noise, 0.0) / batch_size))

    def __str__(self) -> str:
        return f"b_noise = {self.noise}; b_simple = {self.simple}"


def measure_b_noise(
    loss: ExampleLoss,  # as from `example_loss`
    parameters: Parameters,  # where, as from `parameters_of`
    examples: Sequence[Tensor],  # inputs, targets, ..., examples along the first axis: a random sample of at least 20
    *,
    # size of the data set that the sample is from, without replacement, for the scale of the data set itself;
    # b_simple's errors shrink to 0 as the sample becomes all of it. None: the population
    n_examples: int | None = None,
    chunk: int = CHUNK,  # examples whose gradients are in memory at once, beside up to 20 sums over blocks
    level: float = 0.95,  # of confidence
    seed: int = 0,  # of dropout and the like; PyTorch's own stream is left as it was
) -> CurvedScale:
    """b_noise = tr(H Sigma) / (G'HG) and b_simple at these parameters; the model is not touched.

    For b_simple n examples are n batches of one in `unbiased_pair`. Its errors are the jackknife's over up to 20 blocks
    of examples: all pairs of examples are in the estimate, and not only those within a block. For b_noise, with
    gradients g_i and Hessians H_i of n independent examples, in J blocks:

        q = mean of g_i' H_k g_i over examples i, each with another one k,          E q = tr(H Sigma) + G'HG
        p = mean over blocks b of a_b' H_b a_b,                                     E p = c tr(H Sigma) + G'HG

    with H_b the mean Hessian of block b, a_b the mean gradient of all the other examples, and c the mean of one over
    their number. A gradient never meets the Hessian of its own example, because the two are dependent: that is what
    makes both expectations exact. They are solved for

        tr(H Sigma) = (q - p) / (1 - c),    G'HG = (p - c q) / (1 - c),

    which are unbiased, as in `unbiased_pair` where H = I. The error of a block's data is that of their linear part: of
    b it is p's own term and 2 g_b'v_b, with g_b the block's mean gradient and v_b the mean of H_d a_d over the other
    blocks d. Where noise dominates the quadratic part this is too large rather than too small. With `n_examples`, G'HG
    is that of the data set, larger by tr(H Sigma) / N, up to terms 1/N times the covariance of gradients and Hessians.

    The cost is two gradients and two Hessian-vector products an example. A product is a gradient of a gradient (which
    every operation has that has a double backward; forward mode has fewer), costs 2 to 3 gradients and takes about
    three times a gradient's memory: 6 to 8 gradients in all.
    """
    sample = _Sample(loss, parameters, examples, chunk, seed)
    with sample.measuring():
        sums = sample.sums()
        q = np.array([sample.own_products(block) for block in sample.blocks])
        p, linear = sample.mean_products([gradient for gradient, _ in sums])
    n, sizes = sample.n, sample.sizes
    c = float(np.mean(1.0 / (n - sizes)))
    # Both numbers are linear in (q, p), and so is what each block's data add to them.
    solve = np.array([[1.0, -1.0], [-c, 1.0]]) / (1.0 - c)
    if n_examples is not None:
        solve[1] += solve[0] / n_examples
    point = solve @ np.array([sizes @ q / n, p.mean()])
    values = np.stack([q, p + linear - linear.mean()], axis=1) @ solve.T
    # Which gradient meets which Hessian is chance even where the sample is all of a data set: errors are not shrunk.
    noise = fieller(point, _mean_covariance(values), len(sizes), level, "G'HG")
    return CurvedScale(noise, sample.simple(sums, n_examples, level), n)


class _Sample:
    """Examples in up to 20 blocks of nearly equal size, of two at least, and what is summed over them."""

    def __init__(
        self, loss: ExampleLoss, parameters: Parameters, examples: Sequence[Tensor], chunk: int, seed: int
    ) -> None:
        lengths = {len(part) for part in examples}
        self.n = min(lengths, default=0)
        if len(lengths) != 1 or self.n < 2 * MIN_BLOCKS:
            raise ValueError(
                f"inputs and targets must be equally many, and {2 * MIN_BLOCKS} at least, but there are "
                f"{sorted(lengths)}; draw more examples"
            )
        self._loss, self._parameters, self._chunk, self._seed = loss, parameters, chunk, seed
        columns = [torch.tensor_split(part, min(MAX_BLOCKS, self.n // 2)) for part in examples]
        self.blocks = list(zip(*columns, strict=True))
        self.sizes = np.array([len(block[0]) for block in self.blocks])

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """A stream of random numbers of its own, and attention in a form that can be differentiated twice."""
        device = next(iter(self._parameters.values())).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), sdpa_kernel(SDPBackend.MATH):
            torch.manual_seed(self._seed)
            yield

    def _pieces(self, examples: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(torch.split(part, self._chunk) for part in examples), strict=True)

    def _zeros(self) -> Parameters:
        return {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    def sums(self) -> list[tuple[Parameters, Parameters]]:
        """By block and parameter, the sums of its examples' gradients and of the gradients' squared norms."""
        found = []
        for block in self.blocks:
            total, squares = self._zeros(), {name: p.new_zeros(()) for name, p in self._parameters.items()}
            gradients = _each(grad(self._loss), len(block))
            for part in self._pieces(block):
                for name, each in gradients(self._parameters, *part).items():  # (chunk, *shape)
                    total[name] += each.sum(0)
                    squares[name] += each.square().sum()
            found.append((total, squares))
        return found

    def simple(self, sums: list[tuple[Parameters, Parameters]], n_examples: int | None, level: float) -> Ratio:
        """The ratio tr(Sigma) / |G|^2 and the jackknife over blocks.

        With s_j the sum of block j's gradients and s that of all, it takes the sum of |g_i|^2 in block j, s_j's and
        |s_j|^2, which add up over parameters: without block j the sum of gradients has |s - s_j|^2 = |s|^2 - 2 s_j's +
        |s_j|^2.
        """
        products = np.zeros((3, len(sums)))
        for name in self._parameters:
            own = [total[name].flatten() for total, _ in sums]
            whole_sum = torch.stack(own).sum(0)
            rows = [[squares[name] for _, squares in sums], [s @ whole_sum for s in own], [s @ s for s in own]]
            products += np.array([[float(value) for value in row] for row in rows])
        squares, with_all, with_itself = products
        n, whole = self.n, with_all.sum()

        def pair(squares: float, whole: float, n: int) -> NDArray[np.float64]:
            return np.array(unbiased_pair(float(squares), float(whole) / n**2, n, n, n_examples))

        point = pair(squares.sum(), whole, n)
        without = zip(squares.sum() - squares, whole - 2.0 * with_all + with_itself, n - self.sizes, strict=True)
        others = np.array([pair(a, b, int(size)) for a, b, size in without])
        # A sample of all N examples has no error.
        left = 1.0 if n_examples is None else 1.0 - n / n_examples
        covariance = _mean_covariance(point + (len(sums) - 1) * (point - others)) * left
        return fieller(point, covariance, len(sums), level, "|G|^2")

    def own_products(self, block: Sequence[Tensor]) -> float:
        """The mean of g_i' H_k g_i over a block, with k the example before i, and the last before the first."""

        def product(at: Parameters, *both: Tensor) -> Tensor:
            own, other = both[: len(block)], both[len(block) :]
            g = grad(self._loss)(at, *own)
            h_g = vjp(lambda x: grad(self._loss)(x, *other), at)[1](g)[0]
            return _inner(g, h_g)

        pairs = [*block, *(part.roll(1, 0) for part in block)]
        products = _each(product, len(pairs))
        total = sum(float(products(self._parameters, *part).sum()) for part in self._pieces(pairs))
        return total / len(block[0])

    def mean_products(self, gradients: list[Parameters]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """a_b' H_b a_b and 2 g_b' v_b, each of shape (n_blocks,), from the sums of gradients of each block."""
        names, sizes = list(self._parameters), self.sizes.tolist()
        whole = {name: torch.stack([s[name] for s in gradients]).sum(0) for name in names}
        means = [{name: s[name] / n for name in names} for s, n in zip(gradients, sizes, strict=True)]
        total, p, own = self._zeros(), [], []
        for block, part, mean, size in zip(self.blocks, gradients, means, sizes, strict=True):
            others = {name: (whole[name] - part[name]) / (self.n - size) for name in names}
            curved = self._hessian_times(block, others)
            p.append(float(_inner(others, curved)))
            own.append(float(_inner(mean, curved)))
            for name in names:
                total[name] += curved[name]
        everything = np.array([float(_inner(mean, total)) for mean in means])
        return np.array(p), 2.0 * (everything - np.array(own)) / (len(sizes) - 1)

    def _hessian_times(self, block: Sequence[Tensor], direction: Parameters) -> Parameters:
        """The mean Hessian of a block times a direction."""
        result, losses = self._zeros(), _each(self._loss, len(block))
        for part in self._pieces(block):

            def total(at: Parameters, part: tuple[Tensor, ...] = part) -> Tensor:
                summed: Tensor = losses(at, *part).sum()
                return summed

            curved = vjp(grad(total), self._parameters)[1](direction)[0]
            for name in result:
                result[name] += curved[name] / len(block[0])
        return result


def _each(function: Callable[..., Any], n: int) -> Callable[..., Any]:
    """A function of parameters and one example's n tensors, for every example at once."""
    return vmap(function, in_dims=(None, *(0 for _ in range(n))), randomness="different")


def _inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def _mean_covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of the mean of block values."""
    covariance: NDArray[np.float64] = np.cov(values, rowvar=False) / len(values)
    return covariance
