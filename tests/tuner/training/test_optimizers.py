from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.presets import OPTIMIZERS
from tuner.training.optimizers import BUILDERS, build_optimizer
from tuner.training.settings import Settings

CURVATURE = torch.tensor([1.0, 0.3], dtype=torch.float64)
START = (2.0, -1.0)


def settings(optimizer: str, momentum: float) -> Settings:
    return Settings(1, 0, optimizer, {"lr": 0.1, "momentum": momentum})


def by_hand(optimizer: str, momentum: float, steps: int) -> list[float]:
    """Shallue et al. 2018: the naive twin, one number at a time."""
    ends = []
    for h, x in zip(CURVATURE.tolist(), START, strict=True):
        v = 0.0
        for _ in range(steps):
            g = h * x
            v = momentum * v + g
            x -= 0.1 * {"sgd": g, "momentum": v, "nesterov": g + momentum * v}[optimizer]
        ends.append(x)
    return ends


def test_every_optimizer_of_the_presets_can_be_built_and_no_other() -> None:
    assert set(BUILDERS) == set(OPTIMIZERS)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", BUILDERS)
def test_updates_are_those_of_the_definition(optimizer: str, momentum: float) -> None:
    x = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    built = build_optimizer([x], settings(optimizer, momentum))
    for _ in range(7):
        built.zero_grad()
        (0.5 * CURVATURE * x**2).sum().backward()  # type: ignore[no-untyped-call]
        built.step()
    assert x.tolist() == pytest.approx(by_hand(optimizer, momentum, 7), rel=1e-12)


def test_an_unknown_optimizer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no optimizer 'adam'; choose one of sgd, momentum, nesterov"):
        build_optimizer([nn.Parameter(torch.zeros(1))], settings("adam", 0.9))
