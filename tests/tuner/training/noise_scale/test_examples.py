from __future__ import annotations

import pytest
import torch
from torch import nn

from bcrit.tuner.training.noise_scale.per_example import blocks_of, example_loss, parameters_of
from bcrit.tuner.workloads.models.ghost_batch_norm import GhostBatchNorm


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(4), GhostBatchNorm(4, ghost_size=2), nn.BatchNorm1d(4, track_running_stats=False).eval()],
    ids=["batch norm", "ghost batch norm", "batch norm without running statistics"],
)
def test_a_layer_that_mixes_examples_is_refused_with_the_remedy(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 4), layer)
    with pytest.raises(ValueError, match=r"layer '1' .* one example has no gradient of its own .* model.eval\(\)"):
        example_loss(model, nn.functional.mse_loss)


def test_batch_norm_with_running_statistics_is_measured() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    loss = example_loss(model, nn.functional.mse_loss)
    x, y = torch.randn(3), torch.randn(4)
    assert torch.allclose(loss(parameters_of(model), x, y), nn.functional.mse_loss(model(x[None]), y[None]))


def test_frozen_parameters_are_not_measured() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    assert list(parameters_of(model)) == ["1.weight", "1.bias"]


@pytest.mark.parametrize(("n", "sizes"), [(20, {2}), (23, {2, 3}), (41, {2, 3}), (400, {20})])
def test_blocks_are_nearly_equal_and_have_two_examples_at_least(n: int, sizes: set[int]) -> None:
    blocks = blocks_of((torch.arange(n), torch.arange(n)))
    assert {len(block[0]) for block in blocks} == sizes
    assert torch.equal(torch.cat([block[1] for block in blocks]), torch.arange(n))
    assert 10 <= len(blocks) <= 20


@pytest.mark.parametrize("sizes", [(19, 19), (30, 31)], ids=["too few", "unequal"])
def test_too_few_examples_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be equally many, and 20 at least"):
        blocks_of([torch.zeros(n) for n in sizes])
