from __future__ import annotations

import pytest
import torch
from torch import nn

from bcrit.tuner.workloads.models.pooling import HalvingMaxPool


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 2, 9, 7), (1, 1, 2, 3), (5, 4, 28, 28)], ids=str)
@pytest.mark.parametrize("gradients", [True, False])
def test_pooling_is_pytorchs_with_and_without_gradients(shape: tuple[int, ...], gradients: bool) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(gradients):
        assert torch.equal(HalvingMaxPool()(maps), nn.MaxPool2d(2)(maps))


def test_a_broken_number_is_not_hidden() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = torch.nan
    with torch.no_grad():
        assert HalvingMaxPool()(maps).isnan().flatten().tolist() == [False, True, False, False]


def test_ties_send_the_gradient_where_pytorch_does() -> None:
    maps, twin = torch.zeros(2, 1, 4, 4, requires_grad=True), torch.zeros(2, 1, 4, 4, requires_grad=True)
    HalvingMaxPool()(maps).sum().backward()
    nn.MaxPool2d(2)(twin).sum().backward()
    assert maps.grad is not None and twin.grad is not None
    assert torch.equal(maps.grad, twin.grad)
