"""b_noise: against dense Hessians, closed forms, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale import example_loss, measure_b_noise, measure_b_simple, parameters_of

C, W, S = torch.tensor([2.0, 0.5, 0.1, 0.1]), torch.tensor([0.5, -1.0, 0.3, 0.0]), 0.4
G = C * W
G_H_G = float(G @ (C * G))
TR_H_SIGMA = float(C.square().sum() * (W @ (C * W) + S)) + G_H_G


def squared_error(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (x @ parameters["w"] - y).square()


def regression(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x ~ N(0, C) and y ~ N(0, S): H = C, G = C W and Sigma = (W'CW + S) C + G G'."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) * C.sqrt(), torch.randn(n, generator=generator) * S**0.5


@pytest.mark.parametrize(
    ("seeds", "least", "most"), [(40, 0.85, 1.0), pytest.param(120, 0.92, 0.98, marks=pytest.mark.long)]
)
def test_linear_regression_is_unbiased_and_its_interval_covers(seeds: int, least: float, most: float) -> None:
    found = [measure_b_noise(squared_error, {"w": W}, regression(400, seed), chunk=400) for seed in range(seeds)]
    for side, truth in (("numerator", TR_H_SIGMA), ("denominator", G_H_G)):
        values = np.array([getattr(r.noise, side) for r in found])
        assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5
    covered = [r.noise.low <= TR_H_SIGMA / G_H_G <= (r.noise.high or np.inf) for r in found]
    assert least < np.mean(covered) <= most
    lr_max = [r.lr_max for r in found if r.lr_max is not None]
    assert np.median(lr_max) == pytest.approx(float(G @ G) / G_H_G, rel=0.05)


def test_it_is_the_estimator_of_dense_hessians_that_never_meet_their_own_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    loss, parameters = example_loss(model, nn.functional.cross_entropy), parameters_of(model)
    x, y = torch.randn(44, 3, dtype=torch.float64), torch.randint(2, (44,))
    flat = torch.cat([p.flatten() for p in parameters.values()])

    def of(vector: Tensor, k: int) -> Tensor:
        parts = torch.split(vector, [p.numel() for p in parameters.values()])
        named = {n: v.view_as(p) for (n, p), v in zip(parameters.items(), parts, strict=True)}
        return loss(named, x[k], y[k])

    g = torch.stack([torch.func.grad(of)(flat, k) for k in range(44)])
    h = torch.stack([torch.func.jacrev(torch.func.grad(of))(flat, k) for k in range(44)])
    blocks = np.array_split(np.arange(44), 20)
    q = np.mean([np.mean([g[i] @ h[k] @ g[i] for i, k in zip(b, np.roll(b, 1), strict=True)]) * len(b) for b in blocks])
    q *= 20 / 44
    p, c = [], np.mean([1 / (44 - len(b)) for b in blocks])
    for b in blocks:
        mean = g[np.setdiff1d(np.arange(44), b)].mean(0)
        p.append(float(mean @ h[b].mean(0) @ mean))
    for chunk in (1, 2, 50):
        found = measure_b_noise(loss, parameters, (x, y), chunk=chunk)
        assert found.noise.numerator == pytest.approx((q - np.mean(p)) / (1 - c), rel=1e-9)
        assert found.noise.denominator == pytest.approx((np.mean(p) - c * q) / (1 - c), rel=1e-9)
    assert found.simple == measure_b_simple(loss, parameters, (x, y)).total


def test_a_multiple_of_the_identity_as_hessian_makes_both_scales_one() -> None:
    def bowl(parameters: dict[str, Tensor], a: Tensor) -> Tensor:
        return 1.5 * parameters["w"].square().sum() + a @ parameters["w"]

    a = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure_b_noise(bowl, {"w": torch.ones(5, dtype=torch.float64)}, (a,))
    assert found.noise.denominator == pytest.approx(3 * found.simple.denominator, rel=1e-4)
    assert found.b_noise == pytest.approx(found.b_simple, rel=1e-3)
    assert found.lr_max == pytest.approx(1 / 3, rel=1e-4)


def test_negative_curvature_along_the_gradient_is_not_resolved() -> None:
    def saddle(parameters: dict[str, Tensor], a: Tensor) -> Tensor:
        w = parameters["w"]
        return 0.5 * (w[0] ** 2 - w[1] ** 2) + 0.1 * a @ w

    a = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    found = measure_b_noise(saddle, {"w": torch.tensor([0.1, 2.0])}, (a,))
    assert found.b_noise is None and found.lr_max is None and found.temperature(0.1, 8) is None
    assert "G'HG = -3.97" in found.noise.reason and "significantly negative" in found.noise.reason
    assert found.simple.resolved


def test_it_knows_the_temperature_of_a_run() -> None:
    found = measure_b_noise(squared_error, {"w": W}, regression(2000, 0))
    assert found.lr_max is not None and found.b_noise is not None
    assert found.temperature(found.lr_max / 2, found.b_noise) == pytest.approx(1.0)


def test_attention_can_be_measured() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.Linear(8, 5))
    loss = example_loss(model, lambda out, y: nn.functional.cross_entropy(out.flatten(0, 1), y.flatten()))
    x, y = torch.randn(20, 6, 8), torch.randint(5, (20, 6))
    found = measure_b_noise(loss, parameters_of(model), (x, y))
    assert np.isfinite([found.noise.numerator, found.noise.denominator]).all()
