"""The running statistics that batch norm would have if the weights had stood still."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CHUNK = 512  # examples normalised together; chosen, not studied: close to all of them, and bounded in memory


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether a layer of the model has running statistics of its inputs."""
    return bool(_layers(model))


@torch.no_grad()
def recompute_batch_statistics(model: nn.Module, inputs: Tensor, chunk: int = _CHUNK) -> None:
    """Replace all running means and variances by their averages over the training set, in one pass.

    Each chunk is normalised with its own statistics, as in training, and the running ones become the mean over chunks
    (Izmailov et al. 2018, section 3.2). The rest of the model, dropout among it, stays in evaluation mode. Layers of
    ghost batch norm get chunks of one ghost batch. Incomplete chunks are left out, unless there is no other.

    Args:
        model: its running statistics are replaced; its mode is not changed.
        inputs: the training set's, shape (N, ...).
        chunk: examples normalised together.
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


__all__ = ["has_batch_statistics", "recompute_batch_statistics"]
