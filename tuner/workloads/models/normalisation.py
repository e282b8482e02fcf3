"""How a model gets its normalisation layers: from a factory, so that the statistics' batch is chosen in one place."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bcrit.tuner.workloads.models.ghost_batch_norm import GhostBatchNorm

Normalisation = Callable[[int], nn.Module]
"""Makes the layer that follows a convolution of this many channels, or a linear layer of this many units."""


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's batch normalisation of maps, (n, channels, height, width), that takes vectors, (n, units), too."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (PyTorch's name)
        if input.dim() != 2:
            super()._check_input_dim(input)


def batch_normalisation(ghost_batch_size: int | None) -> Normalisation:
    """Batch normalisation of two-dimensional maps or of vectors.

    Args:
        ghost_batch_size: examples that are normalised together; None = the whole batch (or micro-batch), in which case
            the model's objective changes with the batch size.

    Returns:
        The factory.
    """
    if ghost_batch_size is None:
        return BatchNorm
    return lambda channels: GhostBatchNorm(channels, ghost_batch_size)
