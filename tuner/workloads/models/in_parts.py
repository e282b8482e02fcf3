"""Evaluates many examples a part at a time, so that a large validation set needs no more memory than a small one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InParts(nn.Module):
    """The model itself in training; in evaluation the same on parts of the batch, one after the other.

    Attributes:
        inner: the model; in evaluation it must treat every example by itself.
        part: examples in a part.
    """

    def __init__(self, inner: nn.Module, part: int) -> None:
        """Wrap a model.

        Args:
            inner: the model.
            part: examples in a part.
        """
        super().__init__()
        self.inner, self.part = inner, part

    def forward(self, inputs: Tensor) -> Tensor:
        """What the model makes of the inputs, examples along the first axis of both."""
        if self.training:
            outputs: Tensor = self.inner(inputs)
            return outputs
        return torch.cat([self.inner(part) for part in torch.split(inputs, self.part)])
