from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.optimizers import build_optimizer, groups
from bcrit.tuner.training.settings import Settings


def language_model(tied: bool) -> Any:
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(7, 4),
            "convolution": nn.Conv1d(4, 4, 3),
            "hidden": nn.Linear(4, 4),
            "norm": nn.LayerNorm(4),
            "head": nn.Linear(4, 7, bias=False),
        }
    )
    if tied:
        model["head"].weight = model["embedding"].weight
    return model


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_hidden_matrices_are_muon_s_and_all_else_is_adamw_s(tied: bool) -> None:
    model = language_model(tied)
    hidden, rest = (group["params"] for group in groups(model))
    assert [id(p) for p in hidden] == [id(model["hidden"].weight)]
    assert {id(p) for p in rest} == {id(p) for p in model.parameters()} - {id(model["hidden"].weight)}


def test_of_bare_parameters_all_matrices_are_muon_s() -> None:
    hidden, rest = (group["params"] for group in groups(nn.Linear(3, 2).parameters()))
    assert [p.ndim for p in hidden] == [2] and [p.ndim for p in rest] == [1]


def test_both_parts_are_pytorch_s_own_at_the_learning_rate_that_is_set() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    twin: Any = copy.deepcopy(model)
    hyperparameters: dict[str, Value] = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.3, "beta1": 0.7, "eps": 1e-4}
    built = build_optimizer(model, Settings(1, 0, "muon", hyperparameters))
    matrix = twin[0].weight
    others = [p for p in twin.parameters() if p is not matrix]
    apart = [
        torch.optim.Muon([matrix], momentum=0.8, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.7, 0.999), eps=1e-4, weight_decay=0.3, fused=True),
    ]
    inputs = torch.randn(8, 5)
    for t in range(5):
        for network, optimizers in ((model, [built]), (twin, apart)):
            network.zero_grad()
            network(inputs).square().mean().backward()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 / (t + 1)
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_model_without_hidden_matrices_is_all_adamw_s() -> None:
    built = build_optimizer(nn.Linear(3, 2), Settings(1, 0, "muon", {"lr": 0.1}))
    assert [len(group["params"]) for group in built.param_groups] == [2]
