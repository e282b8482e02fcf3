"""The subspace of a sharpness: random directions, and a point's coordinates in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bcrit.tuner.training.landscape.surface import Floats

Matrix = npt.NDArray[np.floating[Any]]

_ROWS = 1 << 16  # of the matrix at a time; chosen, not studied: 100 columns of that are 50 MB in float64


def random_directions(n: int, p: int, seed: int) -> Matrix:
    """The matrix A of Keskar et al. 2016, Metric 2.1: p columns of independent standard normal numbers.

    The paper says that the columns are random and no more. We do not scale them to length 1: a box of half-width eps
    would then move each of n weights by about eps sqrt(p / n), which changes no loss, while table 4 of the paper has
    sharpnesses of up to 236 with p = 100. As they are, a corner of the box moves each weight by about eps sqrt(p).

    Args:
        n: weights.
        p: directions, 100 in the paper.
        seed: of the numbers.

    Returns:
        Shape (n, p), float32 because it is by far the largest thing in memory: 4 n p bytes.
    """
    return np.random.default_rng(seed).standard_normal((n, p), dtype=np.float32)


def coordinates(directions: Matrix, x: Floats) -> Floats:
    """A^+ x: of all z that bring A z closest to x, the shortest; A may have any shape and any rank.

    The rows go through QR decompositions a block at a time, which leaves R with R'R = A'A, p x p, and Q'x. The shortest
    least-squares solution of R z = Q'x is that of A z = x, and nothing was squared on the way, so a rank deficiency is
    told from a small singular value as well as by a decomposition of A itself (a ratio of 1e-15 p to the largest).

    Args:
        directions: A, shape (n, p).
        x: shape (n,).

    Returns:
        Shape (p,).
    """
    n, p = directions.shape
    triangle = np.zeros((0, p + 1))
    for first in range(0, n, _ROWS):
        rows = slice(first, first + _ROWS)
        block = np.column_stack([directions[rows].astype(np.float64), x[rows]])
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, block]), mode="r"))
    cutoff = float(np.finfo(np.float64).eps) * max(n, p)
    return np.asarray(np.linalg.lstsq(triangle[:, :p], triangle[:, p], rcond=cutoff)[0])


__all__ = ["Matrix", "coordinates", "random_directions"]
