"""One-step line searches at a checkpoint: how much one SGD step gains, by batch size and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bcrit.tuner.training.gradient import Gradient


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
