import math
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.averaging import Averaged, build_average
from bcrit.tuner.training.settings import Settings


def copy_of(average: Averaged) -> Any:
    """The averaged model; untyped, because the layers of a module are not typed."""
    return average.model


def settings(batch_size: int = 8, **hyperparameters: Value) -> Settings:
    return Settings(batch_size, 0, "sgd", {"lr": 0.1, **hyperparameters})


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_the_average_is_the_weighted_mean_of_all_iterates_so_far(decay: float) -> None:
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    average, iterates = Averaged(model, decay), []
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 30):
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, 2, generator=generator))
        iterates.append(model.weight.detach().clone())
        average.update()
        shares = [decay ** (t - i) for i in range(1, t + 1)]
        expected = sum(s * x for s, x in zip(shares, iterates, strict=True)) / sum(shares)
        assert torch.allclose(copy_of(average).weight, torch.as_tensor(expected), rtol=1e-9, atol=1e-12)


def test_before_any_update_it_is_the_model_and_training_never_sees_it() -> None:
    model = nn.Linear(2, 1)
    average = Averaged(model, 0.9)
    assert torch.equal(copy_of(average).weight, model.weight)
    with torch.no_grad():
        copy_of(average).weight.zero_()
    assert not torch.equal(copy_of(average).weight, model.weight)
    assert not copy_of(average).training and model.training
    assert model.weight.requires_grad and not copy_of(average).weight.requires_grad


def test_statistics_of_batch_norm_are_averaged_and_counters_are_the_last() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average, means = Averaged(model, 0.5), []
    for _ in range(4):
        model(torch.randn(16, 3))
        average.update()
        means.append(model[1].running_mean.clone())
    expected = sum(0.5 ** (3 - i) * m for i, m in enumerate(means)) / sum(0.5**i for i in range(4))
    assert torch.allclose(copy_of(average)[1].running_mean, torch.as_tensor(expected), rtol=1e-5)
    assert copy_of(average)[1].num_batches_tracked == 4
    assert not torch.equal(copy_of(average)[1].running_var, torch.ones(4))


def test_tied_weights_stay_tied_and_are_averaged_once() -> None:
    model: Any = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["embedding"].weight
    average = Averaged(model, 0.5)
    assert copy_of(average)["head"].weight is copy_of(average)["embedding"].weight
    before = model["head"].weight.detach().clone()
    average.update()
    with torch.no_grad():
        model["head"].weight.add_(3.0)
    average.update()
    assert torch.allclose(copy_of(average)["head"].weight, before + 2.0)


def test_a_half_life_in_examples_is_the_same_data_at_every_batch_size() -> None:
    for batch_size in (1, 8, 512):
        average = build_average(nn.Linear(1, 1), settings(batch_size, ema_examples=1000))
        assert average is not None
        assert average._decay ** (1000 / batch_size) == pytest.approx(0.5, rel=1e-9)


def test_a_decay_is_that_of_one_update_at_every_batch_size() -> None:
    found = [build_average(nn.Linear(1, 1), settings(b, ema_decay=0.75)) for b in (1, 512)]
    assert all(a is not None and math.isclose(a._decay, 0.75) for a in found)


def test_without_either_nothing_is_averaged() -> None:
    assert build_average(nn.Linear(1, 1), settings()) is None
