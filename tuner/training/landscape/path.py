"""The loss along a line or a curve between two trained networks (the parametric plots of Keskar et al. 2016)."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["line", "curve"]

ALPHAS = tuple(-1 + i / 8 for i in range(25))
"""From -1 to 2 in 25 points, the paper's; 0 and 1, the two networks themselves, are among them."""

_CHUNK = 512  # examples normalised together; chosen, not studied: close to all of them, and bounded in memory


@dataclass(frozen=True)
class PathPoint:
    """One point of a path."""

    alpha: float  # 0 at the first network, 1 at the second
    metrics: Mapping[str, float]  # what `evaluate` returned there; a loss far out may be infinite


@dataclass(frozen=True)
class Path:
    """A path between two networks."""

    kind: Kind  # `line`: (1 - alpha) x_0 + alpha x_1. `curve`: cos(alpha pi/2) x_0 + sin(alpha pi/2) x_1 (appendix D)
    points: tuple[PathPoint, ...]  # in the order of the alphas
    distance: float  # |x_1 - x_0| over all weights
    batch_statistics: bool  # whether the model has running statistics, which were then computed anew at every point


def interpolate(
    first: nn.Module,
    second: nn.Module,
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    *,
    alphas: Sequence[float] = ALPHAS,
    kind: Kind = "line",
    train_inputs: Tensor | None = None,
) -> Path:
    """Evaluate the networks between two, and beyond them.

    At alpha = 0 and 1 the weights are those of the two networks to the bit, so `evaluate` returns what it returns for
    them. Running statistics of batch norm are the exception: they belong to the weights that they were gathered with,
    there is no line between two variances that stays positive beyond its ends, and one network's would favour its end.
    Where there are any, every point gets its own, the ends too, from one pass over `train_inputs`; Keskar et al.'s code
    interpolates the trained weights alone. Other buffers are the first network's.

    Args:
        first: x_0; in the paper the network of the small batch size.
        second: x_1, the same architecture: that of the large one.
        evaluate: metrics of a model that it gets in evaluation mode; it must not change it.
        alphas: where.
        kind: `line` or `curve`.
        train_inputs: the training set's inputs, shape (N, ...); needed where there are running statistics.

    Returns:
        The path. Neither network is changed.

    Raises:
        ValueError: the architectures differ, or the inputs for running statistics are missing.
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
    statistics = has_batch_statistics(model)
    if statistics and train_inputs is None:
        raise ValueError("running statistics must be computed anew along the path; give 'train_inputs'")
    points = []
    for alpha in alphas:
        _stand_at(model, ends[0], ends[1], _shares(alpha, kind))
        if statistics and train_inputs is not None:
            recompute_batch_statistics(model, train_inputs)
        with torch.no_grad():
            points.append(PathPoint(float(alpha), dict(evaluate(model))))
    gaps = [(p - ends[1][name]).detach().double().norm() for name, p in ends[0].items()]
    return Path(kind, tuple(points), float(torch.stack(gaps).norm()), statistics)


def _shares(alpha: float, kind: Kind) -> tuple[float, float]:
    """How much of either network is in the point; exactly (1, 0) and (0, 1) at the ends of both kinds."""
    if kind == "line":
        return 1.0 - alpha, alpha
    # cos(alpha pi/2) written as a sine: the cosine of a rounded pi/2 is not 0.
    return math.sin((1.0 - alpha) * math.pi / 2), math.sin(alpha * math.pi / 2)


@torch.no_grad()
def _stand_at(
    model: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor], shares: tuple[float, float]
) -> None:
    for name, weight in model.named_parameters():
        weight.copy_(shares[0] * first[name].double() + shares[1] * second[name].double())


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether a layer of the model has running statistics of its inputs."""
    return bool(_layers(model))


@torch.no_grad()
def recompute_batch_statistics(model: nn.Module, inputs: Tensor, chunk: int = _CHUNK) -> None:
    """Replace running means and variances by those that batch norm would have if the weights had stood still.

    They are averages over the training set (`inputs`), in one pass; the model's mode is not changed. Each chunk is
    normalised with its own statistics, as in training, and the running ones become the mean over chunks (Izmailov et
    al. 2018, section 3.2). The rest of the model, dropout among it, stays in evaluation mode. Layers of ghost batch
    norm get chunks of one ghost batch. Incomplete chunks are left out, unless there is no other.
    """
    layers: list[Any] = _layers(model)
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


def _layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(getattr(module, "running_mean", None), Tensor)]


def _statistics(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.running_mean, layer.running_var
