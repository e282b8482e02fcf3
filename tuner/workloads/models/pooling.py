"""Max-pooling that halves height and width, in its fastest form."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HalvingMaxPool(nn.Module):
    """The largest of each 2 x 2 pixels; an odd last row or column is left out. As `nn.MaxPool2d(2)`, number for number.

    PyTorch's own also finds where each maximum was, which only gradients need, and on a CPU that takes most of its
    time: 1.1 ms against 0.13 for 64 x 4 maps of 28 x 28. Without gradients, in evaluation, the maxima alone are taken.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (..., height, width) to (..., height // 2, width // 2)."""
        if maps.is_cuda or torch.is_grad_enabled():
            return nn.functional.max_pool2d(maps, 2)
        height, width = maps.shape[-2] // 2 * 2, maps.shape[-1] // 2 * 2
        rows = torch.maximum(maps[..., 0:height:2, :], maps[..., 1:height:2, :])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])
