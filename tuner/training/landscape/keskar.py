"""What Keskar et al. 2016 measure around trained weights: sharpness, and the loss on paths between two networks."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize
from torch import Tensor, nn

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
class Sharpness:
    """phi = 100 (max_y f(x + A y) - f(x)) / (1 + f(x)) over |y_i| <= eps (|(A^+ x)_i| + 1), as far as it was found.

    It is a lower bound of the exact maximum, and belongs to the box and the budget that it was found with. Rescaling
    the weights so that the network stays the same function changes it (Dinh et al. 2017): compare within one
    architecture only.
    """

    value: float  # phi, in per cent
    f: float  # the loss at the weights
    f_max: float  # the highest loss found in the box
    # whether the search that found it ended by itself; otherwise its budget of iterations ended it, or its line search
    converged: bool


def sharpness(
    surface: LossSurface,  # the loss; Keskar et al. take the whole training set
    *,
    directions: Matrix | None = None,  # A, shape (n, p), of any rank (`random_directions`); None = the full space, I
    eps: float = EPS,  # size of the box
    max_iterations: int = ITERATIONS,  # of L-BFGS-B in each search
    starts: int = STARTS,  # searches
    seed: int = 0,  # of their starts
) -> Sharpness:
    """Maximise the loss over the box around the weights.

    The sharpness is that of the highest loss found; 0 where no search finds more than f(x), because y = 0 is in the
    box. An argument that is impossible, a loss that is not finite in the whole box and f(x) <= -1 are a ValueError.
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

    def ascent(u: Floats) -> tuple[float, Floats]:
        """Loss and gradient as a function of u in [-1, 1]^p, where y_i is u_i times the box's half-width."""
        y = half_widths * u
        step = y if directions is None else (directions @ y.astype(directions.dtype)).astype(np.float64)
        height, gradient = surface.gradient(surface.weights + step)
        if not np.isfinite(height):
            raise ValueError(
                f"the loss must be finite in the whole box, but it is {height} at one of its points; lower 'eps'"
            )
        if directions is not None:
            gradient = (gradient.astype(directions.dtype) @ directions).astype(np.float64)
        return height, half_widths * gradient

    searches = [_search(ascent, start, max_iterations) for start in _starts(len(half_widths), starts, seed)]
    highest, converged = max(searches, key=lambda search: search[0])
    f_max = max(f, highest)
    return Sharpness(100 * (f_max - f) / (1 + f), f, f_max, converged)


def _starts(p: int, count: int, seed: int) -> list[Floats]:
    """Where the searches start, in [-1, 1]^p.

    The paper does not say where its search starts. At the centre of the box, which is a minimum of the loss if training
    did its work, the gradient vanishes and the search would end at once with phi = 0. The first one starts beside it:
    where the gradient decides it is followed, and where it vanishes chance breaks the tie. On a diagonal quadratic that
    ends in the right corner for all coordinates but those whose gradient is below 1e-3 of what their curvature adds
    within the box, and there the wrong side costs less than 0.4 % of the coordinate's rise. The others start anywhere.
    """
    generator = np.random.default_rng(seed)
    near = _CENTRE * generator.uniform(-1, 1, p)
    return [near, *(generator.uniform(-1, 1, p) for _ in range(count - 1))]


def _search(ascent: Callable[[Floats], tuple[float, Floats]], start: Floats, max_iterations: int) -> tuple[float, bool]:
    """Maximise from one start: the highest loss, and whether the search ended by itself.

    L-BFGS-B takes its first step along the projected gradient with a Hessian of 1, so the scale of the loss decides how
    far it gets in ten iterations. We multiply the loss by a factor that makes the largest slope 1e6 box widths: the
    first trial is then the corner that the gradient points to, which is the maximum of the linearised loss, and the
    line search comes back from there if it must. On a 64-128-10 network at three minima, a slope of 1 left phi 14 to
    48 % lower after ten iterations, of 1e2 by up to 0.5 %, and 1e4 to 1e8 agreed. The solver's own tolerances are 0,
    because losses in a small box differ little.
    """
    _, slope = ascent(start)
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
    return -float(found.fun) / scale, found.status == 0


def random_directions(n: int, p: int, seed: int) -> Matrix:
    """The matrix A of Keskar et al. 2016, Metric 2.1: p columns of independent standard normal numbers.

    The paper says that the columns are random and no more. We do not scale them to length 1: a box of half-width eps
    would then move each of n weights by about eps sqrt(p / n), which changes no loss, while table 4 of the paper has
    sharpnesses of up to 236 with p = 100. As they are, a corner of the box moves each weight by about eps sqrt(p).
    Shape (n, p), float32 because it is by far the largest thing in memory: 4 n p bytes.
    """
    return np.random.default_rng(seed).standard_normal((n, p), dtype=np.float32)


def coordinates(directions: Matrix, x: Floats) -> Floats:
    """A^+ x, shape (p,): of all z that bring A z closest to x, the shortest; A, (n, p), may have any rank.

    The rows go through QR decompositions a block at a time, which leaves R with R'R = A'A, p x p, and Q'x. The shortest
    least-squares solution of R z = Q'x is that of A z = x, and nothing was squared on the way, so a rank deficiency is
    told from a small singular value as well as by a decomposition of A itself (a ratio of 1e-15 p to the largest).
    """
    n, p = directions.shape
    triangle = np.zeros((0, p + 1))
    for first in range(0, n, _ROWS):
        rows = slice(first, first + _ROWS)
        block = np.column_stack([directions[rows].astype(np.float64), x[rows]])
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, block]), mode="r"))
    cutoff = float(np.finfo(np.float64).eps) * max(n, p)
    return np.asarray(np.linalg.lstsq(triangle[:, :p], triangle[:, p], rcond=cutoff)[0])


Kind = Literal["line", "curve"]

ALPHAS = tuple(-1 + i / 8 for i in range(25))
"""From -1 to 2 in 25 points, the paper's; 0 and 1, the two networks themselves, are among them."""

_CHUNK = 512  # examples normalised together; chosen, not studied: close to all of them, and bounded in memory


@dataclass(frozen=True)
class Path:
    """A path between two networks."""

    # by alpha, 0 at the first network and 1 at the second: what `evaluate` returned; a loss far out may be infinite
    points: Mapping[float, Mapping[str, float]]
    distance: float  # |x_1 - x_0| over all weights


def interpolate(
    first: nn.Module,  # x_0; in the paper the network of the small batch size
    second: nn.Module,  # x_1, the same architecture: that of the large one
    evaluate: Callable[[nn.Module], Mapping[str, float]],  # of a model in evaluation mode, which it must not change
    *,
    alphas: Sequence[float] = ALPHAS,  # where
    kind: Kind = "line",  # (1 - alpha) x_0 + alpha x_1; `curve` is cos(alpha pi/2) x_0 + sin(alpha pi/2) x_1 (app. D)
    train_inputs: Tensor | None = None,  # of the training set, (N, ...); needed where there are running statistics
) -> Path:
    """Evaluate the networks between two, and beyond them.

    At alpha = 0 and 1 the weights are those of the two networks to the bit, so `evaluate` returns what it returns for
    them. Running statistics of batch norm are the exception: they belong to the weights that they were gathered with,
    there is no line between two variances that stays positive beyond its ends, and one network's would favour its end.
    Where there are any, every point gets its own, the ends too, from one pass over `train_inputs`; Keskar et al.'s code
    interpolates the trained weights alone. Other buffers are the first network's.

    Neither network is changed. Architectures that differ, and inputs that are missing, are a ValueError.
    """
    ends = [dict(model.named_parameters()) for model in (first, second)]
    shapes: list[dict[str, Any]] = [{name: p.shape for name, p in end.items()} for end in ends]
    if shapes[0] != shapes[1]:
        differing = sorted(
            name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)
        )
        raise ValueError(
            f"the two networks must have the same architecture, but they differ in {', '.join(differing[:5])}; a path "
            "is between runs of one workload with the same settings of the model"
        )
    model = copy.deepcopy(first).eval().requires_grad_(False)
    if train_inputs is None and _layers(model):
        raise ValueError("running statistics must be computed anew along the path; give 'train_inputs'")

    def quarter(share: float) -> float:
        return math.sin(share * math.pi / 2)

    points = {}
    for alpha in alphas:
        # How much of either network is in the point: exactly 1 and 0, or 0 and 1, at the ends of both kinds. The
        # cosine is written as a sine, for that of a rounded pi/2 is not 0.
        a, b = (1.0 - alpha, alpha) if kind == "line" else (quarter(1.0 - alpha), quarter(alpha))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(a * ends[0][name].double() + b * ends[1][name].double())
            if train_inputs is not None:
                recompute_batch_statistics(model, train_inputs)
            points[float(alpha)] = dict(evaluate(model))
    gaps = [(p - ends[1][name]).detach().double().norm() for name, p in ends[0].items()]
    return Path(points, float(torch.stack(gaps).norm()))


@torch.no_grad()
def recompute_batch_statistics(model: nn.Module, inputs: Tensor, chunk: int = _CHUNK) -> None:
    """Replace running means and variances by those that batch norm would have if the weights had stood still.

    They are averages over the training set (`inputs`), in one pass; the model's mode is not changed. Each chunk is
    normalised with its own statistics, as in training, and the running ones become the mean over chunks (Izmailov et
    al. 2018, section 3.2). The rest of the model, dropout among it, stays in evaluation mode. Layers of ghost batch
    norm get chunks of one ghost batch. Incomplete chunks are left out, unless there is no other.
    """
    layers = _layers(model)
    if not layers:
        return
    chunk = min([chunk, *(layer.ghost_size for layer in layers if hasattr(layer, "ghost_size"))])
    before = [(layer.training, layer.momentum) for layer in layers]
    sums = [[torch.zeros_like(s, dtype=torch.float64) for s in _statistics(layer)] for layer in layers]
    whole = len(inputs) // chunk * chunk or len(inputs)
    parts = torch.split(inputs[:whole], chunk)
    for layer in layers:
        layer.train()
        layer.momentum = 1.0  # the running statistics are then the last chunk's
    for part in parts:
        model(part)
        for layer, totals in zip(layers, sums, strict=True):
            for total, statistic in zip(totals, _statistics(layer), strict=True):
                total += statistic
    for layer, totals, (training, momentum) in zip(layers, sums, before, strict=True):
        layer.train(training)
        layer.momentum = momentum
        for total, statistic in zip(totals, _statistics(layer), strict=True):
            statistic.copy_(total / len(parts))


def _layers(model: nn.Module) -> list[Any]:
    """Those with running statistics of their inputs."""
    return [module for module in model.modules() if isinstance(getattr(module, "running_mean", None), Tensor)]


def _statistics(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.running_mean, layer.running_var
