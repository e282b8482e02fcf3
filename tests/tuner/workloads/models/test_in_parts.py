from __future__ import annotations

import torch
from torch import Tensor, nn

from bcrit.tuner.workloads.models.in_parts import InParts


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        return 2 * inputs


def test_evaluation_goes_in_parts_and_training_does_not() -> None:
    inner = Watched()
    model, inputs = InParts(inner, 4), torch.rand(10, 3)
    assert torch.equal(model.train()(inputs), 2 * inputs)
    assert torch.equal(model.eval()(inputs), 2 * inputs)
    assert inner.seen == [10, 4, 4, 2]
