"""The loss of a model as a function of its weights: value, gradient, Hessian; its largest eigenvalues and trace."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bcrit.tuner.training.data import Examples

Floats = npt.NDArray[np.float64]

PRODUCTS = 60
"""Hessian-vector products of a trace. Chosen, not studied: its standard error is then a few per cent for networks."""

_DENSE = 32  # weights up to which the Hessian is written out; chosen, not studied: Lanczos needs 20 products or more
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
    """

    def __init__(
        self,
        model: nn.Module,  # what was trained; not what `torch.compile` made of it, which has no second derivatives
        loss: Callable[[Tensor, Tensor], Tensor],  # of (outputs, targets): the mean over their examples, a scalar
        examples: Examples,  # shape (N, ...), on the model's device: the training set or a fixed part of it
        *,
        chunk: int = _CHUNK,  # examples at a time; it bounds memory and decides nothing but rounding
        dtype: torch.dtype | None = None,  # to compute in; None = the model's own
    ) -> None:
        """Copy the model and stand at its weights; that there are no examples, or no weights, is a ValueError."""
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
        self._inputs, self._targets = (p.to(dtype) if dtype and p.is_floating_point() else p for p in examples)
        self._chunk = chunk
        self.dtype = self._weights[0].dtype  # that the model computes in
        self.n_examples = len(self._inputs)  # N
        # the model's own x, shape (n,); not writeable
        self.weights = _to_numpy(_flat(p.detach() for p in self._weights))
        self.weights.setflags(write=False)

    def value(self, x: Floats | None = None) -> float:
        """The loss f(x) at x, shape (n,); None = at the model's weights, here and in the other methods."""
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
        """The product H(x) v, shape (n,), by differentiating the gradient's product with v (Pearlmutter 1994).

        Where an activation has a kink (ReLU) the Hessian is that beside it.
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


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenvalues of the Hessian from one end of its spectrum."""

    # with their signs, in falling order (end `top`) or rising (end `bottom`); fewer than asked for where the others did
    # not converge
    values: tuple[float, ...]
    # |H v - value v| of each unit vector v found. Some eigenvalue lies within that distance of the value (H is
    # symmetric); that none was passed over is what Lanczos makes very likely from a random start
    residuals: tuple[float, ...]


@dataclass(frozen=True)
class Trace:
    """The trace of the Hessian."""

    value: float  # the estimate, unbiased
    standard_error: float  # from the scatter of the samples, and no smaller than rounding; 0 where it is exact
    samples: int  # random vectors behind the standard error; 0 where the diagonal was summed


def eigenvalues(
    surface: LossSurface,
    count: int = 1,  # at most the number of weights, or it is a ValueError
    *,
    end: Literal["top", "bottom"] = "top",  # of the spectrum; the largest, which may be negative, or the smallest
    tolerance: float = 1e-4,  # residual at which a value counts as converged, relative to the value
    max_restarts: int = 100,  # each some 2 count + 1 or 20 products; what has not converged by then is left out
    seed: int = 0,  # of the first vector
) -> Eigenvalues:
    """The largest or smallest eigenvalues of the Hessian with residuals, by ARPACK's restarted Lanczos method."""
    n, product = surface.weights.size, surface.hessian_product
    if not 1 <= count <= n:
        raise ValueError(f"1 <= count <= number of weights must hold, but count={count} and there are {n} weights")
    if n <= max(_DENSE, 2 * count):  # Lanczos' basis has 2 count + 1 vectors
        values, vectors = np.linalg.eigh(_dense(surface))
    else:
        first = np.random.default_rng(seed).standard_normal(n)
        values, vectors = _lanczos(surface, count, "LA" if end == "top" else "SA", first, tolerance, max_restarts)
    order = np.argsort(values)[:: -1 if end == "top" else 1][:count]
    residuals = [float(np.linalg.norm(product(vectors[:, i]) - values[i] * vectors[:, i])) for i in order]
    return Eigenvalues(tuple(float(values[i]) for i in order), tuple(residuals))


def _lanczos(
    surface: LossSurface, count: int, which: Literal["LA", "SA"], first: Floats, tolerance: float, max_restarts: int
) -> tuple[Floats, Floats]:
    """What converged: values, shape (k,), and unit vectors, shape (n, k)."""
    n = len(first)
    if not surface.hessian_product(first).any():  # a random vector that is mapped to 0: H is 0, which ARPACK refuses
        return np.zeros(count), np.eye(n, count)
    operator = LinearOperator((n, n), matvec=lambda v: surface.hessian_product(v.reshape(-1)), dtype=np.float64)
    try:
        return eigsh(operator, count, which=which, v0=first, tol=tolerance, maxiter=max_restarts)
    except ArpackNoConvergence as partly:
        return np.real(partly.eigenvalues), np.real(partly.eigenvectors)  # real already, which the stubs do not know


def _dense(surface: LossSurface) -> Floats:
    """The whole matrix, a product for each weight, and exactly symmetric."""
    rows = np.stack([surface.hessian_product(unit) for unit in np.eye(surface.weights.size)])
    return np.asarray((rows + rows.T) / 2)


def trace(surface: LossSurface, *, products: int = PRODUCTS, seed: int = 0) -> Trace:
    """The trace of the Hessian: Hutch++ (Meyer, Musco, Musco and Woodruff 2021, algorithm 1).

    With Q an orthonormal basis of H S, S random signs, tr H = tr(Q'HQ) + tr((I - QQ') H (I - QQ')). The first part is
    exact; the second is the mean of z'Hz over random signs z projected out of Q (Hutchinson 1989). A network's Hessian
    has few large eigenvalues, which Q takes most of, and it is their scatter that a plain mean would suffer from. A
    third of the products, 6 at least, each goes into S, Q and z; memory is of a third as many vectors of weights. Where
    the diagonal takes no more products, the trace is its sum, and exact.
    """
    if products < 6:
        raise ValueError(f"'products' must be at least 6, two for each part, but it is {products}; try {PRODUCTS}")
    n, third, times = surface.weights.size, products // 3, surface.hessian_product
    if n <= products:
        return Trace(float(np.trace(_dense(surface))), 0.0, 0)
    generator = np.random.default_rng(seed)

    def signs() -> Floats:
        return np.where(generator.random(n) < 0.5, -1.0, 1.0)

    basis = np.linalg.qr(np.column_stack([times(signs()) for _ in range(third)]))[0]
    exact = sum(float(q @ times(q)) for q in basis.T)
    samples, sizes = np.empty(third), np.empty(third)
    for i in range(third):
        z = signs()
        z -= basis @ (basis.T @ z)
        product = times(z)
        samples[i], sizes[i] = z @ product, np.linalg.norm(z) * np.linalg.norm(product)
    # Random signs leave no scatter for a diagonal Hessian, and nothing is left of one of low rank; rounding is, of each
    # product to the machine epsilon of the model's numbers.
    rounding = torch.finfo(surface.dtype).eps * (sizes + abs(exact)).mean()
    error = float(np.hypot(float(samples.std(ddof=1)) / third**0.5, rounding))
    return Trace(exact + float(samples.mean()), error, third)
