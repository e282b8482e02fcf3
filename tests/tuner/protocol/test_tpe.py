"""The effective learning rate, where there is one: checked on the optimizers themselves."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.search_spaces.presets import has_effective_lr
from bcrit.search_spaces.space import SearchSpace
from bcrit.tuner.protocol.tpe import couples, shift
from bcrit.tuner.training.optimizers import build_optimizer
from bcrit.tuner.training.settings import Settings

SPACE: dict[str, Any] = {"lr": "log from 0.001 to 1", "momentum": "reverse_log from 0 to 0.99"}


def speed(optimizer: str, lr: float, momentum: float) -> float:
    """How far one update moves the weights under a constant gradient, once the velocity has settled."""
    torch.manual_seed(0)
    weights = nn.Parameter(torch.randn(4, 4, dtype=torch.float64) * 100)  # far away: its norm hardly changes
    gradient = torch.randn(4, 4, dtype=torch.float64)
    built = build_optimizer([weights], Settings(1, 0, optimizer, {"lr": lr, "momentum": momentum}))
    before = weights.detach().clone()
    for _ in range(150):
        before.copy_(weights.detach())
        weights.grad = gradient.clone()
        built.step()
    return float((weights.detach() - before).norm())


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "lars", "rmsprop", "extrap_momentum"])
def test_equal_effective_learning_rates_move_equally_fast(optimizer: str) -> None:
    assert has_effective_lr(optimizer)
    assert speed(optimizer, 1e-3, 0.9) == pytest.approx(speed(optimizer, 1e-2, 0.0), rel=0.02)


def test_momentum_does_not_speed_up_muon() -> None:
    assert not has_effective_lr("muon")
    assert speed("muon", 1e-3, 0.9) == pytest.approx(speed("muon", 1e-3, 0.0), rel=0.02)


def test_lr_and_momentum_belong_together_where_both_are_searched_and_their_quotient_matters() -> None:
    both, fixed = (SearchSpace.model_validate({**SPACE, **changes}) for changes in ({}, {"momentum": 0.9}))
    assert couples(both, "momentum") and couples(both, "lars")
    assert not couples(both, "muon") and not couples(both, "an_optimizer_of_the_users_own")
    assert not couples(fixed, "momentum")


def test_the_coordinate_of_lr_is_the_effective_one() -> None:
    point = {"lr": 0.1, "momentum": 0.9}
    assert math.log(0.1) - shift("lr", point, True) == pytest.approx(math.log(0.1 / (1 - 0.9)))
    assert shift("lr", point, False) == shift("momentum", point, True) == 0.0
