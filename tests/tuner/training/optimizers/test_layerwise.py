from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.optimizers import Lamb, Lars

Vector = list[float]


def norm(values: Vector) -> float:
    return math.sqrt(sum(v * v for v in values))


def ratio(above: float, below: float) -> float:
    return above / below if above > 0 and below > 0 else 1.0


def lars_by_hand(x: Vector, gradients: list[Vector], adapted: bool) -> Vector:
    """You et al. 2017, algorithm 1, one number at a time: lr 0.5, momentum 0.9, eta 0.02, decay 0.3."""
    v = [0.0] * len(x)
    for g in gradients:
        decay = 0.3 if adapted else 0.0
        trust = ratio(0.02 * norm(x), norm(g) + decay * norm(x)) if adapted else 1.0
        v = [0.9 * a + 0.5 * trust * (b + decay * c) for a, b, c in zip(v, g, x, strict=True)]
        x = [a - b for a, b in zip(x, v, strict=True)]
    return x


def lamb_by_hand(x: Vector, gradients: list[Vector], adapted: bool) -> Vector:
    """You et al. 2019, algorithm 2, one number at a time: lr 0.5, betas 0.8 and 0.95, eps 1e-3, decay 0.3."""
    m, v = [0.0] * len(x), [0.0] * len(x)
    for t, g in enumerate(gradients, start=1):
        m = [0.8 * a + 0.2 * b for a, b in zip(m, g, strict=True)]
        v = [0.95 * a + 0.05 * b * b for a, b in zip(v, g, strict=True)]
        r = [
            a / (1 - 0.8**t) / (math.sqrt(b / (1 - 0.95**t)) + 1e-3) + (0.3 if adapted else 0.0) * c
            for a, b, c in zip(m, v, x, strict=True)
        ]
        trust = ratio(norm(x), norm(r)) if adapted else 1.0
        x = [a - 0.5 * trust * b for a, b in zip(x, r, strict=True)]
    return x


def optimizers(parameters: list[nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
    return {
        "lars": Lars(parameters, lr=0.5, momentum=0.9, trust_coefficient=0.02, weight_decay=0.3),
        "lamb": Lamb(parameters, lr=0.5, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
    }


@pytest.mark.parametrize("name", ["lars", "lamb"])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_matrices_follow_the_paper_and_vectors_take_no_part(name: str, start: str) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    starts = [draw(3, 4), draw(2, 3, 2), draw(5)]
    if start == "zero":
        starts = [torch.zeros_like(s) for s in starts]
    parameters = [nn.Parameter(s.clone()) for s in starts]
    gradients = [[draw(*s.shape) for _ in range(6)] for s in starts]
    optimizer = optimizers(parameters)[name]
    for t in range(6):
        for parameter, series in zip(parameters, gradients, strict=True):
            parameter.grad = series[t].clone()
        optimizer.step()
    twin = {"lars": lars_by_hand, "lamb": lamb_by_hand}[name]
    for parameter, begun, series in zip(parameters, starts, gradients, strict=True):
        expected = twin(begun.flatten().tolist(), [g.flatten().tolist() for g in series], begun.ndim > 1)
        assert parameter.detach().flatten().tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_a_gradient_that_is_0_is_no_nan(name: str) -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = optimizers([parameter])[name]
    parameter.grad = torch.zeros(2, 2)
    optimizer.step()
    assert parameter.detach().tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_parameters_without_a_gradient_stay(name: str) -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = optimizers([used, unused])[name]
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2)) and not torch.equal(used, torch.ones(2, 2))
