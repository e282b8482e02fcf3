from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.path import has_batch_statistics, recompute_batch_statistics
from bcrit.tuner.workloads.models.ghost_batch_norm import GhostBatchNorm

INPUTS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 2


def statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
    return mean, variance


def test_in_one_chunk_they_are_those_of_the_whole_training_set() -> None:
    layer = nn.BatchNorm1d(3)
    recompute_batch_statistics(layer.eval(), INPUTS)
    torch.testing.assert_close(statistics(layer), (INPUTS.mean(dim=0), INPUTS.var(dim=0)))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), GhostBatchNorm(3, ghost_size=16)], ids=["plain", "ghost"])
def test_in_chunks_they_are_the_means_over_chunks(layer: nn.Module) -> None:
    recompute_batch_statistics(layer.eval(), INPUTS[:60], chunk=16)  # 12 examples at the end are left out
    chunks = torch.split(INPUTS[:48], 16)
    expected = torch.stack([c.mean(dim=0) for c in chunks]), torch.stack([c.var(dim=0) for c in chunks])
    torch.testing.assert_close(statistics(layer), tuple(e.mean(dim=0) for e in expected))


def test_ghost_batches_decide_the_chunk_whatever_is_asked_for() -> None:
    layers = [GhostBatchNorm(3, ghost_size=8).eval() for _ in range(2)]
    recompute_batch_statistics(layers[0], INPUTS)
    recompute_batch_statistics(layers[1], INPUTS, chunk=8)
    torch.testing.assert_close(statistics(layers[0]), statistics(layers[1]), rtol=0, atol=0)


def test_modes_momentum_weights_and_random_numbers_stay_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    random, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    recompute_batch_statistics(model, INPUTS)
    assert not any(module.training for module in model.modules())
    assert isinstance(model[1], nn.BatchNorm1d) and model[1].momentum == 0.3
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_layers_without_running_statistics_have_none() -> None:
    assert has_batch_statistics(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    assert has_batch_statistics(GhostBatchNorm(3, ghost_size=4))
    assert not has_batch_statistics(nn.Sequential(nn.LayerNorm(3), nn.BatchNorm1d(3, track_running_stats=False)))
