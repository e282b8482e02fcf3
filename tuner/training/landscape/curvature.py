"""Curvature at a minimum: the largest eigenvalues of the Hessian and its trace, each with its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from bcrit.tuner.training.landscape.surface import Floats, LossSurface

PRODUCTS = 60
"""Hessian-vector products of a trace. Chosen, not studied: its standard error is then a few per cent for networks."""

_DENSE = 32  # weights up to which the Hessian is written out; chosen, not studied: Lanczos needs 20 products or more


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenvalues of the Hessian from one end of its spectrum.

    Attributes:
        values: in falling order (end `top`) or rising (end `bottom`), with their signs; fewer than asked for where the
            others did not converge.
        residuals: |H v - value v| of each unit vector v found. Some eigenvalue lies within that distance of the value
            (H is symmetric); that none was passed over is what Lanczos makes very likely from a random start.
        end: `top`, the algebraically largest, or `bottom`, the smallest: below 0 at what is no minimum.
        n_weights: order of the Hessian.
        n_examples: that the loss is the mean of.
        products: Hessian-vector products used.
        seed: of the first vector.
        dtype: that the model computed in.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    end: Literal["top", "bottom"]
    n_weights: int
    n_examples: int
    products: int
    seed: int
    dtype: str


@dataclass(frozen=True)
class Trace:
    """The trace of the Hessian.

    Attributes:
        value: the estimate, unbiased.
        standard_error: from the scatter of the samples, and no smaller than rounding; 0 where it is exact.
        samples: random vectors behind the standard error; 0 where the diagonal was summed.
        products: Hessian-vector products used.
        n_weights: order of the Hessian.
        n_examples: that the loss is the mean of.
        seed: of the random vectors.
        dtype: that the model computed in.
    """

    value: float
    standard_error: float
    samples: int
    products: int
    n_weights: int
    n_examples: int
    seed: int
    dtype: str


def eigenvalues(
    surface: LossSurface,
    count: int = 1,
    *,
    end: Literal["top", "bottom"] = "top",
    tolerance: float = 1e-4,
    max_restarts: int = 100,
    seed: int = 0,
) -> Eigenvalues:
    """The largest or smallest eigenvalues of the Hessian, by ARPACK's restarted Lanczos method.

    Args:
        surface: the loss.
        count: how many, at least 1 and at most the number of weights.
        end: of the spectrum. The top eigenvalue may be negative; it is then the largest all the same.
        tolerance: residual at which a value counts as converged, relative to the value.
        max_restarts: of Lanczos, each some 2 count + 1 or 20 products; what has not converged by then is left out.
        seed: of the first vector.

    Returns:
        The values with their residuals.

    Raises:
        ValueError: `count` is impossible.
    """
    n = surface.weights.size
    if not 1 <= count <= n:
        raise ValueError(f"1 <= count <= number of weights must hold, but count={count} and there are {n} weights")
    hessian = _Hessian(surface)
    if n <= max(_DENSE, 2 * count):  # Lanczos' basis has 2 count + 1 vectors
        values, vectors = np.linalg.eigh(_dense(hessian))
    else:
        first = np.random.default_rng(seed).standard_normal(n)
        values, vectors = _lanczos(hessian, count, end, first, tolerance, max_restarts)
    order = np.argsort(values)[:: -1 if end == "top" else 1][:count]
    residuals = [float(np.linalg.norm(hessian(vectors[:, i]) - values[i] * vectors[:, i])) for i in order]
    return Eigenvalues(
        values=tuple(float(values[i]) for i in order),
        residuals=tuple(residuals),
        end=end,
        n_weights=n,
        n_examples=surface.n_examples,
        products=hessian.products,
        seed=seed,
        dtype=_name(surface),
    )


def trace(surface: LossSurface, *, products: int = PRODUCTS, seed: int = 0) -> Trace:
    """The trace of the Hessian: Hutch++ (Meyer, Musco, Musco and Woodruff 2021, algorithm 1).

    With Q an orthonormal basis of H S, S random signs, tr H = tr(Q'HQ) + tr((I - QQ') H (I - QQ')). The first part is
    exact; the second is the mean of z'Hz over random signs z projected out of Q (Hutchinson 1989). A network's Hessian
    has few large eigenvalues, which Q takes most of, and it is their scatter that a plain mean would suffer from. A
    third of the products each goes into S, Q and z.

    Args:
        surface: the loss.
        products: Hessian-vector products to use, at least 6. Memory is of products / 3 vectors of weights.
        seed: of S and z.

    Returns:
        The trace; exact, from the diagonal, where that takes no more products.

    Raises:
        ValueError: too few products.
    """
    if products < 6:
        raise ValueError(f"'products' must be at least 6, two for each part, but it is {products}; try {PRODUCTS}")
    n, hessian, third = surface.weights.size, _Hessian(surface), products // 3
    if n <= products:
        value, error, third = float(np.trace(_dense(hessian))), 0.0, 0
    else:
        generator = np.random.default_rng(seed)
        basis = np.linalg.qr(np.column_stack([hessian(_signs(generator, n)) for _ in range(third)]))[0]
        exact = sum(float(q @ hessian(q)) for q in basis.T)
        samples, sizes = np.empty(third), np.empty(third)
        for i in range(third):
            z = _signs(generator, n)
            z -= basis @ (basis.T @ z)
            product = hessian(z)
            samples[i], sizes[i] = z @ product, np.linalg.norm(z) * np.linalg.norm(product)
        # Random signs leave no scatter for a diagonal Hessian, and nothing is left of one of low rank; rounding is.
        sizes += abs(exact)
        value, error = exact + float(samples.mean()), float(samples.std(ddof=1)) / third**0.5
        error = float(np.hypot(error, _rounding(surface) * sizes.mean()))
    return Trace(value, error, third, hessian.products, n, surface.n_examples, seed, _name(surface))


class _Hessian:
    """The Hessian at the model's weights; counts its products."""

    def __init__(self, surface: LossSurface) -> None:
        self.surface, self.products = surface, 0
        n = surface.weights.size
        self.operator = LinearOperator((n, n), matvec=self, dtype=np.float64)

    def __call__(self, v: Floats) -> Floats:
        self.products += 1
        return self.surface.hessian_product(v.reshape(-1))


def _lanczos(
    hessian: _Hessian, count: int, end: Literal["top", "bottom"], first: Floats, tolerance: float, max_restarts: int
) -> tuple[Floats, Floats]:
    """What converged: values, shape (k,), and unit vectors, shape (n, k)."""
    if not hessian(first).any():  # a random vector that is mapped to 0: the Hessian is 0, which ARPACK refuses
        return np.zeros(count), np.eye(len(first), count)
    which: Literal["LA", "SA"] = "LA" if end == "top" else "SA"
    try:
        return eigsh(hessian.operator, count, which=which, v0=first, tol=tolerance, maxiter=max_restarts)
    except ArpackNoConvergence as partly:
        return np.real(partly.eigenvalues), np.real(partly.eigenvectors)  # real already, which the stubs do not know


def _dense(hessian: _Hessian) -> Floats:
    """The whole matrix, a product for each weight, and exactly symmetric."""
    rows = np.stack([hessian(unit) for unit in np.eye(hessian.surface.weights.size)])
    return np.asarray((rows + rows.T) / 2)


def _signs(generator: np.random.Generator, n: int) -> Floats:
    return np.where(generator.random(n) < 0.5, -1.0, 1.0)


def _rounding(surface: LossSurface) -> float:
    """Relative error of one product: the machine epsilon of the model's numbers."""
    return torch.finfo(surface.dtype).eps


def _name(surface: LossSurface) -> str:
    return str(surface.dtype).removeprefix("torch.")


__all__ = ["PRODUCTS", "Eigenvalues", "Trace", "eigenvalues", "trace"]
