from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.workloads.models.ghost_batch_norm import GhostBatchNorm

SHAPES = {"maps": (12, 3, 4, 5), "vectors": (12, 3)}


def one_by_one(norm: nn.Module, inputs: Tensor, ghost_size: int) -> Tensor:
    """The naive twin: PyTorch's own layer on one ghost batch after the other."""
    return torch.cat([norm(ghost) for ghost in torch.split(inputs, ghost_size)])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ghost_size", [2, 4, 12])
def test_it_is_batch_normalisation_of_one_ghost_batch_after_the_other(shape: tuple[int, ...], ghost_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ghost = GhostBatchNorm(3, ghost_size, momentum=0.3)
    plain: nn.Module = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(3, momentum=0.3)
    for norm in (ghost, plain):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))  # type: ignore[operator]
            norm.bias.copy_(torch.tensor([0.1, 0.0, 3.0]))  # type: ignore[operator]
    for _ in range(3):  # the running statistics carry over
        inputs = 3 * torch.randn(shape, generator=generator) + 1
        upstream = torch.randn(shape, generator=generator)
        ours, theirs = (inputs.clone().requires_grad_() for _ in range(2))
        made, expected = ghost(ours), one_by_one(plain, theirs, ghost_size)
        torch.testing.assert_close(made, expected)
        torch.autograd.backward(made, upstream)
        torch.autograd.backward(expected, upstream)
        torch.testing.assert_close(ours.grad, theirs.grad)
    for name, value in ghost.named_parameters():
        torch.testing.assert_close(value.grad, dict(plain.named_parameters())[name].grad)
    torch.testing.assert_close(ghost.running_mean, plain.running_mean)
    torch.testing.assert_close(ghost.running_var, plain.running_var)
    torch.testing.assert_close(ghost.eval()(inputs), plain.eval()(inputs))


def test_running_statistics_by_hand() -> None:
    ghost = GhostBatchNorm(1, ghost_size=2, momentum=0.1)
    ghost(torch.tensor([[0.0], [2.0], [4.0], [8.0]]))
    # Means 1 and 6, unbiased variances 2 and 8.
    assert ghost.running_mean.item() == pytest.approx(0.9 * (0.1 * 1) + 0.1 * 6)
    assert ghost.running_var.item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 8)


def test_a_larger_batch_is_normalised_as_its_ghost_batches_are() -> None:
    inputs = torch.randn(16, 3, 2, 2)
    whole = GhostBatchNorm(3, 4)(inputs)
    halves = torch.cat([GhostBatchNorm(3, 4)(half) for half in torch.split(inputs, 8)])
    torch.testing.assert_close(whole, halves)
    assert not torch.allclose(whole, GhostBatchNorm(3, 8)(inputs), atol=1e-3)


def test_a_batch_that_the_ghost_size_does_not_divide_is_refused_in_training_only() -> None:
    ghost = GhostBatchNorm(3, 4)
    with pytest.raises(ValueError, match="ghost_batch_size=4 and there are 6 examples; choose batch sizes that are"):
        ghost(torch.randn(6, 3))
    assert ghost.running_mean.tolist() == [0, 0, 0]
    assert ghost.eval()(torch.randn(6, 3)).shape == (6, 3)
