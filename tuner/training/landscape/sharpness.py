"""Sharpness: how far the loss rises within a small box around the weights (Keskar et al. 2016, Metric 2.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bcrit.tuner.training.landscape.surface import Floats, LossSurface

Matrix = npt.NDArray[np.floating[Any]]

EPS = 1e-3
"""Size of the box, the larger of the paper's two; the other is 5e-4."""

ITERATIONS = 10
"""Of L-BFGS-B in each search: the paper's budget."""

STARTS = 5
"""Searches. Chosen: against the best of twelve, on a 64-128-10 network at three minima, one search found 69 to 100 % of
the rise in a subspace of 100 dimensions, and the best of five 88 to 100 %, 99 % on average. In the full space every
search found 98.6 % or more."""

_CENTRE = 1e-3  # of the box: how near its centre the first search starts; see `_starts`
_FAR = 1e6  # see `_search`
_ROWS = 1 << 16  # of the matrix at a time; chosen, not studied: 100 columns of that are 50 MB in float64


@dataclass(frozen=True)
class Search:
    """One run of L-BFGS-B."""

    start: str  # `centre` or `random`
    f_start: float  # the loss where it started
    f_end: float  # the loss where it ended
    iterations: int  # it made
    evaluations: int  # of loss and gradient together
    converged: bool  # whether it ended by itself; otherwise its budget of iterations ended it, or its line search
    at_faces: float  # share of the coordinates that ended on a face of the box


@dataclass(frozen=True)
class Sharpness:
    """phi = 100 (max_y f(x + A y) - f(x)) / (1 + f(x)) over |y_i| <= eps (|(A^+ x)_i| + 1), as far as it was found.

    It is a lower bound of the exact maximum, and it belongs to all that is stored beside it. Rescaling the weights so
    that the network stays the same function changes it (Dinh et al. 2017): compare within one architecture only.
    """

    value: float  # phi, in per cent
    eps: float  # size of the box
    n_weights: int  # n
    n_directions: int | None  # p; None = the full space, A = I
    n_examples: int  # that the loss is the mean of
    max_iterations: int  # budget of each search
    seed: int  # of the searches' starts
    f: float  # the loss at the weights
    f_max: float  # the highest loss found in the box
    searches: tuple[Search, ...]  # all that were made
    dtype: str  # that the model computed in

    @property
    def converged(self) -> bool:
        """Whether the search that found the highest loss ended by itself."""
        return max(self.searches, key=lambda search: search.f_end).converged


def sharpness(
    surface: LossSurface,
    *,
    directions: Matrix | None = None,
    eps: float = EPS,
    max_iterations: int = ITERATIONS,
    starts: int = STARTS,
    seed: int = 0,
) -> Sharpness:
    """Maximise the loss over the box around the weights.

    Args:
        surface: the loss; Keskar et al. take the whole training set.
        directions: A, shape (n, p), of any rank (`random_directions`); None = the full space, A = I.
        eps: size of the box, positive.
        max_iterations: of L-BFGS-B in each search, at least 1.
        starts: how many searches, at least 1.
        seed: of their starts.

    Returns:
        The sharpness of the highest loss found; 0 where no search finds more than f(x), because y = 0 is in the box.

    Raises:
        ValueError: an argument is impossible, the loss is not finite somewhere in the box, or f(x) <= -1.
    """
    if not (0 < eps < np.inf and max_iterations >= 1 and starts >= 1):
        raise ValueError(
            f"'eps' must be positive and 'max_iterations' and 'starts' at least 1, but eps={eps}, "
            f"max_iterations={max_iterations} and starts={starts}; the paper has eps=0.001 and 10 iterations"
        )
    if directions is not None and directions.shape[:1] != surface.weights.shape:
        raise ValueError(
            f"'directions' must have a row for each of {surface.weights.size} weights, but its shape is "
            f"{directions.shape}; use random_directions({surface.weights.size}, 100, seed=0)"
        )
    f = surface.value()
    if not -1 < f < np.inf:
        raise ValueError(f"the loss at the weights must be finite and above -1 to divide by 1 + f, but f={f}")
    half_widths = eps * (
        np.abs(surface.weights if directions is None else coordinates(directions, surface.weights)) + 1
    )
    ascent = _ascent(surface, directions, half_widths)
    first = _starts(len(half_widths), starts, seed)
    searches = tuple(_search(ascent, name, start, max_iterations) for name, start in first)
    f_max = max(f, *(search.f_end for search in searches))
    return Sharpness(
        value=100 * (f_max - f) / (1 + f),
        eps=eps,
        n_weights=surface.weights.size,
        n_directions=None if directions is None else directions.shape[1],
        n_examples=surface.n_examples,
        max_iterations=max_iterations,
        seed=seed,
        f=f,
        f_max=f_max,
        searches=searches,
        dtype=str(surface.dtype).removeprefix("torch."),
    )


Ascent = Callable[[Floats], tuple[float, Floats]]
"""Loss and gradient as a function of u in [-1, 1]^p, where y_i is u_i times the box's half-width."""


def _ascent(surface: LossSurface, directions: Matrix | None, half_widths: Floats) -> Ascent:
    def ascent(u: Floats) -> tuple[float, Floats]:
        y = half_widths * u
        step = y if directions is None else (directions @ y.astype(directions.dtype)).astype(np.float64)
        f, gradient = surface.gradient(surface.weights + step)
        if not np.isfinite(f):
            raise ValueError(
                f"the loss must be finite in the whole box, but it is {f} at one of its points; lower 'eps'"
            )
        if directions is not None:
            gradient = (gradient.astype(directions.dtype) @ directions).astype(np.float64)
        return f, half_widths * gradient

    return ascent


def _starts(p: int, count: int, seed: int) -> list[tuple[str, Floats]]:
    """Where the searches start, in [-1, 1]^p.

    The paper does not say where its search starts. At the centre of the box, which is a minimum of the loss if training
    did its work, the gradient vanishes and the search would end at once with phi = 0. The first one starts beside it:
    where the gradient decides it is followed, and where it vanishes chance breaks the tie. On a diagonal quadratic that
    ends in the right corner for all coordinates but those whose gradient is below 1e-3 of what their curvature adds
    within the box, and there the wrong side costs less than 0.4 % of the coordinate's rise. The others start anywhere.
    """
    generator = np.random.default_rng(seed)
    near = _CENTRE * generator.uniform(-1, 1, p)
    return [("centre", near), *(("random", generator.uniform(-1, 1, p)) for _ in range(count - 1))]


def _search(ascent: Ascent, name: str, start: Floats, max_iterations: int) -> Search:
    """Maximise from one start.

    L-BFGS-B takes its first step along the projected gradient with a Hessian of 1, so the scale of the loss decides how
    far it gets in ten iterations. We multiply the loss by a factor that makes the largest slope 1e6 box widths: the
    first trial is then the corner that the gradient points to, which is the maximum of the linearised loss, and the
    line search comes back from there if it must. On a 64-128-10 network at three minima, a slope of 1 left phi 14 to
    48 % lower after ten iterations, of 1e2 by up to 0.5 %, and 1e4 to 1e8 agreed. The solver's own tolerances are 0,
    because losses in a small box differ little.
    """
    f_start, slope = ascent(start)
    scale = _FAR / (float(np.abs(slope).max()) or 1.0)

    def descent(u: Floats) -> tuple[float, Floats]:
        f, gradient = ascent(u)
        return -scale * f, -scale * gradient

    found = optimize.minimize(
        descent,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(-np.ones_like(start), np.ones_like(start)),
        options={"maxiter": max_iterations, "ftol": 0.0, "gtol": 0.0},
    )
    return Search(
        start=name,
        f_start=f_start,
        f_end=-float(found.fun) / scale,
        iterations=int(found.nit),
        evaluations=int(found.nfev) + 1,
        converged=found.status == 0,
        at_faces=float((np.abs(found.x) == 1).mean()),
    )


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
