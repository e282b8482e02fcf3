from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.optimizers import bare_step, build_optimizer
from bcrit.tuner.training.settings import Settings

NEEDS: dict[str, dict[str, Value]] = {
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "lars": {"momentum": 0.9},
    "muon": {"momentum": 0.9},
}


def optimizer_and_model(name: str, **more: Value) -> tuple[torch.optim.Optimizer, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    settings = Settings(4, 0, name, {"lr": 0.01, **NEEDS.get(name, {}), **more})
    return build_optimizer(model, settings), model


def weights_after(updates: int, name: str, bare: bool, **more: Value) -> list[Tensor]:
    optimizer, model = optimizer_and_model(name, **more)
    step = bare_step(optimizer) if bare else optimizer.step
    inputs = torch.randn(updates, 4, 6, generator=torch.Generator().manual_seed(1))
    for batch in inputs:
        for parameter in model.parameters():
            parameter.grad = None
        model(batch).square().mean().backward()
        step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(
    "name",
    ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam"]
    + ["asgd", "rprop", "adafactor", "muon", "lars", "lamb"],
)
def test_the_weights_are_those_of_the_whole_step(name: str) -> None:
    twins = zip(weights_after(5, name, True), weights_after(5, name, False), strict=True)
    assert all(torch.equal(bare, whole) for bare, whole in twins)


def test_decoupled_decay_is_not_left_out() -> None:
    decayed = weights_after(3, "adam", True, decoupled_weight_decay=0.5)
    whole, without = weights_after(3, "adam", False, decoupled_weight_decay=0.5), weights_after(3, "adam", True)
    assert all(torch.equal(a, b) for a, b in zip(decayed, whole, strict=True))
    assert not torch.equal(decayed[0], without[0])


def test_an_optimizer_of_somebody_else_keeps_its_own_step() -> None:
    class Counting(torch.optim.SGD):
        steps = 0

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.steps += 1

    optimizer = Counting([nn.Parameter(torch.zeros(1))], lr=0.1)
    bare_step(optimizer)()
    assert optimizer.steps == 1


def test_an_update_is_no_part_of_the_next_gradient_and_leaves_gradients_on() -> None:
    optimizer, model = optimizer_and_model("adam")
    model(torch.ones(1, 6)).sum().backward()
    bare_step(optimizer)()
    assert all(p.grad_fn is None and p.requires_grad for p in model.parameters())
    assert torch.is_grad_enabled()
