"""Gradients by micro-batches: the whole batch's, and the noise scale between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.micro_batches import MOST_PIECES, Accumulation
from bcrit.tuner.workloads.models.ghost_batch_norm import GhostBatchNorm

N = 2000
INPUTS = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS.sum(1) + torch.randn(N, generator=torch.Generator().manual_seed(1))


def line() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, lambda rows: ((model(INPUTS[rows])[:, 0] - TARGETS[rows]) ** 2).mean()


def heard(loss: Callable[[Tensor], Tensor], sizes: list[int]) -> Callable[[Tensor], Tensor]:
    """The loss, which writes down over how many examples it was taken."""

    def listening(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return loss(rows)

    return listening


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("n", [1, 7, 8, 9, 200, 1000])
def test_the_gradient_is_that_of_the_whole_batch(n: int) -> None:
    model, loss = line()
    rows = torch.arange(n)
    loss(rows).backward()  # type: ignore[no-untyped-call]
    whole = gradient(model).clone()
    Accumulation(model, loss, 4, N)(rows)
    assert torch.allclose(gradient(model), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n", "largest", "pieces"), [(7, None, 1), (8, None, 2), (64, None, 16), (1000, None, 16)])
def test_a_batch_has_between_two_and_sixteen_pieces_or_one(n: int, largest: int | None, pieces: int) -> None:
    model, loss = line()
    sizes: list[int] = []
    Accumulation(model, heard(loss, sizes), 4, N, largest)(torch.arange(n))
    assert len(sizes) == pieces <= MOST_PIECES and sum(sizes) == n
    assert pieces == 1 or all(size % 4 == 0 for size in sizes[:-1])


def test_no_piece_is_larger_than_what_the_experiment_allows() -> None:
    model, loss = line()
    sizes: list[int] = []
    Accumulation(model, heard(loss, sizes), 4, N, 10)(torch.arange(1000))
    assert max(sizes) == 8


def test_the_noise_scale_is_that_of_the_data() -> None:
    model, loss = line()
    with torch.no_grad():
        miss = model(INPUTS) - TARGETS[:, None]
    table = (2 * miss * torch.cat([INPUTS, torch.ones(N, 1)], dim=1)).double()  # of (model - target)^2, each example's
    mean = table.mean(0)
    truth = float((table - mean).square().sum() / (N - 1) / mean.square().sum())
    accumulation = Accumulation(model, loss, 4, N)
    stream = torch.Generator().manual_seed(2)
    for _ in range(300):
        accumulation(torch.randperm(N, generator=stream)[:64])
    assert accumulation.noise.value == pytest.approx(truth, rel=0.15)


def test_a_batch_in_one_piece_is_not_measured() -> None:
    model, loss = line()
    accumulation = Accumulation(model, loss, 4, N)
    accumulation(torch.arange(7))
    assert accumulation.noise.value is None and accumulation.micro_batch == 4


@pytest.mark.parametrize(
    ("layer", "divisible", "message"),
    [
        (nn.BatchNorm1d(3), True, "batch normalisation takes statistics"),
        (GhostBatchNorm(3, ghost_size=8), True, "ghost batches of 8 must stay whole"),
        (nn.Identity(), False, "mixes examples"),
    ],
    ids=["batch norm", "ghosts cut", "a loss across examples"],
)
def test_examples_that_influence_each_other_are_refused(layer: nn.Module, divisible: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Accumulation(nn.Sequential(layer, nn.Linear(3, 1)), line()[1], 4, N, None, divisible)
