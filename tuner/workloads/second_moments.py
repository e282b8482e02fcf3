"""How one update moves the second moments of a quadratic's coordinate and velocity, for each optimizer.

In each dimension the gradient is g = h x + xi with E xi = 0, E xi^2 = n, independent of (x, v). Every optimizer here is
a linear map of (x, v) and xi, so its second moments follow a linear map of their own, exactly. The velocity is
PyTorch's, v' = momentum v + g, and holds no learning rate, so the maps hold under any schedule. Notation as in Zhang et
al. 2019, whose own recursion for the heavy ball has the learning rate in the velocity and holds it constant.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""One number for each dimension, shape (dimensions,)."""

Update = tuple[Vector, Vector]
"""m' = matrix m + noise, for k moments: matrix (k, k, dimensions) and noise (k, dimensions)."""


def _sgd(lr: float, momentum: float, h: Vector, n: Vector) -> Update:
    """Plain: x' = (1 - lr h) x - lr xi, so that E x'^2 = (1 - lr h)^2 E x^2 + lr^2 n needs no other moment."""
    return ((1.0 - lr * h) ** 2)[None, None], (lr**2 * n)[None]


def _momentum(lr: float, momentum: float, h: Vector, n: Vector) -> Update:
    """Heavy ball: v' = momentum v + g and x' = x - lr v' = (1 - lr h) x - lr momentum v - lr xi."""
    return _pair(x=(1.0 - lr * h, -lr * momentum, -lr), v=(h, momentum, 1.0), n=n)


def _nesterov(lr: float, momentum: float, h: Vector, n: Vector) -> Update:
    """Nesterov: v' = momentum v + g and x' = x - lr (g + momentum v') = x - lr (1 + momentum) g - lr momentum^2 v."""
    ahead = lr * (1.0 + momentum)
    return _pair(x=(1.0 - ahead * h, -lr * momentum**2, -ahead), v=(h, momentum, 1.0), n=n)


def _pair(x: tuple[Vector, float, float], v: tuple[Vector, float, float], n: Vector) -> Update:
    """The moments (E x^2, E x v, E v^2) of the map x' = p x + q v + e xi, v' = r x + s v + f xi, with E xi^2 = n.

    They are the products of the two lines, term by term; those with a single xi have mean 0.
    """
    (p, q, e), (r, s, f) = x, v
    matrix, noise = np.empty((3, 3, len(n))), np.empty((3, len(n)))
    matrix[0, 0], matrix[0, 1], matrix[0, 2], noise[0] = p * p, 2.0 * p * q, q * q, e * e * n
    matrix[1, 0], matrix[1, 1], matrix[1, 2], noise[1] = p * r, p * s + q * r, q * s, e * f * n
    matrix[2, 0], matrix[2, 1], matrix[2, 2], noise[2] = r * r, 2.0 * r * s, s * s, f * f * n
    return matrix, noise


MOMENTS: Final[dict[str, Callable[[float, float, Vector, Vector], Update]]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
}
"""By optimizer, the update of (learning rate, momentum, h, n), of `E x^2` first; as
`bcrit.tuner.training.optimizers`."""
