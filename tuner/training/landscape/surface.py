"""The loss of a model on fixed examples as a function of all its weights: value, gradient, Hessian-vector product."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Floats = npt.NDArray[np.float64]
Examples = tuple[Tensor, Tensor]

_CHUNK = 512  # examples; chosen, not studied: bounds the memory of the activations of a double backward pass


class LossSurface:
    """f(x) = (1/N) sum_i loss_i(x) over N fixed examples, x in R^n being the weights that train, end to end.

    It works on a copy of the model, so the model itself keeps its weights, gradients, buffers and mode to the bit. The
    copy is in evaluation mode: batch norm uses the running statistics that the model came with, which are constants
    here and no part of x, and dropout is off. What is random even in evaluation makes f random and is not for this.

    Points are float64 vectors in the order of `model.parameters()`; the model sees them rounded to its own dtype, and
    sums over chunks are in float64. A change of f far below 1e-6 of it needs `dtype=torch.float64`.

    Example:
        >>> model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        >>> half_square = lambda outputs, targets: ((outputs - targets) ** 2).mean() / 2
        >>> f = LossSurface(model, half_square, (torch.ones(4, 1).double(), torch.zeros(4, 1).double()))
        >>> f.gradient(np.array([3.0]))
        (4.5, array([3.]))
        >>> f.hessian_product(np.array([2.0]))
        array([2.])

    Attributes:
        weights: the model's own x, shape (n,); not writeable.
        n_examples: N.
        dtype: that the model computes in.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        examples: Examples,
        *,
        chunk: int = _CHUNK,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Copy the model and stand at its weights.

        Args:
            model: what was trained; not what `torch.compile` made of it, which has no second derivatives.
            loss: of (outputs, targets): the mean over their examples, a scalar.
            examples: inputs and targets, shape (N, ...), on the model's device: the training set or a fixed part of it.
            chunk: examples at a time; it bounds memory and decides nothing but rounding.
            dtype: compute in this one; None = the model's own.

        Raises:
            ValueError: there are no examples, the chunk is empty, or no weight trains.
        """
        if not (len(examples[0]) == len(examples[1]) > 0 and chunk > 0):
            raise ValueError(
                f"'examples' must be as many inputs as targets, and some, in chunks of at least 1, but there are "
                f"{len(examples[0])} inputs, {len(examples[1])} targets and chunk={chunk}"
            )
        self._model = copy.deepcopy(model).eval()
        if dtype is not None:
            self._model.to(dtype)
        self._weights = [p for p in self._model.parameters() if p.requires_grad]
        if not self._weights:
            raise ValueError("the model must have weights that train, but none has requires_grad; set it to True")
        self._loss = loss
        self._inputs, self._targets = (_converted(part, dtype) for part in examples)
        self._chunk = chunk
        self.dtype = self._weights[0].dtype
        self.n_examples = len(self._inputs)
        self.weights = _to_numpy(_flat(p.detach() for p in self._weights))
        self.weights.setflags(write=False)

    def value(self, x: Floats | None = None) -> float:
        """The loss f(x).

        Args:
            x: where, shape (n,); None = at the model's weights. So in the other methods.
        """
        self._stand_at(x)
        with torch.no_grad():
            return float(torch.stack([share * loss.double() for share, loss in self._losses()]).sum())

    def gradient(self, x: Floats | None = None) -> tuple[float, Floats]:
        """The loss f(x) and its gradient, shape (n,)."""
        self._stand_at(x)
        total = self._zeros(1 + self.weights.size)  # value and gradient: the device is waited for once
        with _derivatives_of_all_layers(self._model):
            for share, loss in self._losses():
                pieces = torch.autograd.grad(loss, self._weights, materialize_grads=True)
                total.add_(_flat([loss.detach(), *pieces]), alpha=share)
        both = _to_numpy(total)
        return float(both[0]), both[1:]

    def hessian_product(self, v: Floats, x: Floats | None = None) -> Floats:
        """The product H(x) v, by differentiating the gradient's product with v (Pearlmutter 1994).

        Args:
            v: shape (n,).
            x: where.

        Returns:
            Shape (n,). Where an activation has a kink (ReLU) the Hessian is that beside it.
        """
        self._stand_at(x)
        along, total = self._pieces(v), self._zeros(self.weights.size)
        with _derivatives_of_all_layers(self._model):
            for share, loss in self._losses():
                gradient = torch.autograd.grad(loss, self._weights, create_graph=True, materialize_grads=True)
                slope = torch.stack([(g * piece).sum() for g, piece in zip(gradient, along, strict=True)]).sum()
                if slope.requires_grad:  # otherwise the loss is linear in the weights
                    pieces = torch.autograd.grad(slope, self._weights, materialize_grads=True)
                    total.add_(_flat(pieces), alpha=share)
        return _to_numpy(total)

    def _losses(self) -> Iterator[tuple[float, Tensor]]:
        """Each chunk's share of the examples and mean loss."""
        pairs = zip(torch.split(self._inputs, self._chunk), torch.split(self._targets, self._chunk), strict=True)
        for inputs, targets in pairs:
            yield len(inputs) / self.n_examples, self._loss(self._model(inputs), targets)

    @torch.no_grad()
    def _stand_at(self, x: Floats | None) -> None:
        for weight, piece in zip(self._weights, self._pieces(self.weights if x is None else x), strict=True):
            weight.copy_(piece)

    def _pieces(self, x: Floats) -> list[Tensor]:
        if x.shape != self.weights.shape:
            raise ValueError(f"a point has one number for each of {self.weights.size} weights, but shape {x.shape}")
        # One copy, to the device and never of the caller's own array, which may be read-only.
        flat = torch.tensor(x, dtype=self.dtype, device=self._weights[0].device)
        parts = torch.split(flat, [p.numel() for p in self._weights])
        return [part.view_as(p) for part, p in zip(parts, self._weights, strict=True)]

    def _zeros(self, n: int) -> Tensor:
        return torch.zeros(n, dtype=torch.float64, device=self._weights[0].device)


def _flat(pieces: Iterable[Tensor]) -> Tensor:
    return torch.cat([piece.reshape(-1) for piece in pieces]).double()


def _to_numpy(flat: Tensor) -> Floats:
    return np.asarray(flat.cpu().numpy())


def _converted(part: Tensor, dtype: torch.dtype | None) -> Tensor:
    return part.to(dtype) if dtype is not None and part.is_floating_point() else part


@contextmanager
def _derivatives_of_all_layers(model: nn.Module) -> Iterator[None]:
    """Choose kernels that can be differentiated (twice) in evaluation mode.

    PyTorch's fused attention has no second derivative, cuDNN's recurrent layers have no gradient in evaluation mode.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


__all__ = ["Examples", "Floats", "LossSurface"]
