"""The first layer of every image model: bytes become numbers of mean 0 and variance 1, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / deviation for each channel, so that images stay bytes in memory and on their way to the device."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        """Remember the training set's moments.

        Args:
            mean: of each channel.
            deviation: standard deviation of each channel, greater than 0.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", 1.0 / torch.tensor(deviation)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Bytes, shape (n, channels, height, width), to numbers of the same shape."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale
