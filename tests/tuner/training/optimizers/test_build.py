"""Every optimizer against its definition, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import EXTRAPOLATED, OPTIMIZERS
from bcrit.tuner.training.optimizers import build_optimizer
from bcrit.tuner.training.settings import Settings

CURVATURE = torch.tensor([1.0, 0.3], dtype=torch.float64)
START = (2.0, -1.0)
BARE = [name for name in OPTIMIZERS if name not in EXTRAPOLATED]
# All of torch.optim that is not in the presets and can train by steps.
OTHERS = ["adadelta", "adafactor", "adamax", "asgd", "radam", "rprop"]


def trained(
    optimizer: str,
    steps: int = 7,
    start: tuple[float, ...] = START,
    curvature: Tensor = CURVATURE,
    **hyperparameters: Any,
) -> list[float]:
    """The end of a run on 1/2 sum_i h_i x_i^2."""
    x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    built = build_optimizer([x], Settings(1, 0, optimizer, {"lr": 0.1, **hyperparameters}))
    for _ in range(steps):
        built.zero_grad()
        (0.5 * curvature * x**2).sum().backward()  # type: ignore[no-untyped-call]
        built.step()
    return [float(value) for value in x.detach()]


Move = Callable[[float, float, dict[str, float], int], float]
"""The new x from (x, gradient, memory, number of the update from 1), with lr 0.1."""


def by_hand(move: Move, steps: int = 7) -> list[float]:
    """The naive twin."""
    ends = []
    for h, x in zip(CURVATURE.tolist(), START, strict=True):
        memory: dict[str, float] = {"m": 0.0, "v": 0.0}
        for t in range(1, steps + 1):
            x = move(x, h * x, memory, t)
        ends.append(x)
    return ends


def heavy_ball(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] = 0.9 * memory["v"] + g
    return x - 0.1 * memory["v"]


def nesterov(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] = 0.9 * memory["v"] + g
    return x - 0.1 * (g + 0.9 * memory["v"])


def adam(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["m"] = 0.8 * memory["m"] + 0.2 * g
    memory["v"] = 0.95 * memory["v"] + 0.05 * g * g
    return x - 0.1 * memory["m"] / (1 - 0.8**t) / (math.sqrt(memory["v"] / (1 - 0.95**t)) + 1e-3)


def rmsprop(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] = 0.8 * memory["v"] + 0.2 * g * g
    return x - 0.1 * g / (math.sqrt(memory["v"]) + 1e-3)


def adagrad(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] += g * g
    return x - 0.1 * g / (math.sqrt(memory["v"]) + 1e-3)


BETAS: dict[str, Any] = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
CASES: dict[str, tuple[str, dict[str, Any], Move]] = {
    "sgd": ("sgd", {}, lambda x, g, memory, t: x - 0.1 * g),
    "momentum": ("momentum", {"momentum": 0.9}, heavy_ball),
    "momentum 0": ("momentum", {"momentum": 0.0}, lambda x, g, memory, t: x - 0.1 * g),
    "nesterov": ("nesterov", {"momentum": 0.9}, nesterov),
    "nesterov 0": ("nesterov", {"momentum": 0.0}, lambda x, g, memory, t: x - 0.1 * g),
    "adam": ("adam", BETAS, adam),
    "rmsprop": ("rmsprop", {"alpha": 0.8, "eps": 1e-3}, rmsprop),
    "adagrad": ("adagrad", {"eps": 1e-3}, adagrad),
}


def coupled(move: Move) -> Move:
    return lambda x, g, memory, t: move(x, g + 0.5 * x, memory, t)


def decoupled(move: Move) -> Move:
    def shrunk(x: float, g: float, memory: dict[str, float], t: int) -> float:
        step = move(x, g, memory, t) - x
        return (1 - 0.1 * 0.5) * x + step

    return shrunk


@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_the_definition(case: str) -> None:
    optimizer, hyperparameters, move = CASES[case]
    assert trained(optimizer, **hyperparameters) == pytest.approx(by_hand(move), rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_weight_decay_is_in_the_gradient(case: str) -> None:
    optimizer, hyperparameters, move = CASES[case]
    ends = trained(optimizer, **hyperparameters, weight_decay=0.5)
    assert ends == pytest.approx(by_hand(coupled(move)), rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_decoupled_weight_decay_shrinks_the_weights_and_leaves_the_gradient_alone(case: str) -> None:
    optimizer, hyperparameters, move = CASES[case]
    ends = trained(optimizer, **hyperparameters, decoupled_weight_decay=0.5)
    assert ends == pytest.approx(by_hand(decoupled(move)), rel=1e-12)


def test_the_weight_decay_of_adamw_is_decoupled() -> None:
    ends = trained("adamw", **BETAS, weight_decay=0.5)
    assert ends == pytest.approx(by_hand(decoupled(adam)), rel=1e-12)
    assert ends == pytest.approx(trained("adam", **BETAS, decoupled_weight_decay=0.5), rel=1e-12)


@pytest.mark.parametrize("name", [*BARE, *OTHERS])
def test_the_decay_of_every_other_optimizer_is_what_we_say(name: str) -> None:
    needed: dict[str, Any] = {"momentum": 0.9} if "momentum" in OPTIMIZERS.get(name, OPTIMIZERS["sgd"]).needed else {}
    if name in ("adamw", "adafactor", "muon"):
        # One update: x shrinks by lr weight_decay x and nothing else changes.
        kept = trained(name, 1, **needed)
        ends = trained(name, 1, **needed, weight_decay=0.5)
        assert [e - k for e, k in zip(ends, kept, strict=True)] == pytest.approx([-0.05 * x for x in START], rel=1e-6)
    elif name in ("lars", "lamb", "rprop"):
        assert trained(name, 1, **needed) == trained(name, 1, **needed, weight_decay=0.5), "biases do not decay"
    else:
        # A quadratic with curvature h + decay is the coupled decay itself.
        ends = trained(name, **needed, weight_decay=0.5)
        assert ends == pytest.approx(trained(name, curvature=CURVATURE + 0.5, **needed), rel=1e-6)


@pytest.mark.parametrize("name", [*BARE, *OTHERS])
def test_without_weight_decay_nothing_decays(name: str) -> None:
    needed: dict[str, Any] = {"momentum": 0.9} if "momentum" in OPTIMIZERS.get(name, OPTIMIZERS["sgd"]).needed else {}
    ends = (
        trained(name, 3, (0.0, 0.0), **needed),
        trained(name, 3, **needed, weight_decay=0.0),
        trained(name, 3, **needed),
    )
    assert ends[0] == [0.0, 0.0] and ends[1] == ends[2]


@pytest.mark.parametrize(
    ("optimizer", "hyperparameters", "entry"),
    [
        ("adam", {"amsgrad": True}, ("amsgrad", True)),
        ("rmsprop", {"centered": True}, ("centered", True)),
        ("radam", {"beta2": 0.9}, ("betas", (0.9, 0.9))),
        ("rprop", {"eta2": 1.5}, ("etas", (0.5, 1.5))),
        ("adafactor", {"eps2": 0.01}, ("eps", (None, 0.01))),
    ],
    ids=str,
)
def test_hyperparameters_reach_the_class_under_its_own_names(
    optimizer: str, hyperparameters: dict[str, Any], entry: tuple[str, object]
) -> None:
    built = build_optimizer([nn.Parameter(torch.zeros(2))], Settings(1, 0, optimizer, {"lr": 0.1, **hyperparameters}))
    assert built.param_groups[0][entry[0]] == entry[1]


def test_hyperparameters_of_others_are_passed_over() -> None:
    assert trained("sgd", momentum=0.9, width=3, eps=7.0) == trained("sgd")


def test_the_first_learning_rate_is_the_schedule_s() -> None:
    built = build_optimizer([nn.Parameter(torch.zeros(1))], Settings(1, 0, "adam", {"lr": 0.3, "warmup_steps": 2}))
    assert built.param_groups[0]["lr"] == pytest.approx(0.1)
