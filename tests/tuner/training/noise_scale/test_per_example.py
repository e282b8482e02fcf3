"""The scale from single examples: against a loop over them, closed forms, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale import Ratio, example_loss, measure_b_simple, parameters_of
from bcrit.tuner.training.noise_scale.ratio import unbiased_pair

C, W, S = torch.tensor([2.0, 0.5, 0.1, 0.1]), torch.tensor([0.5, -1.0, 0.3, 0.0]), 0.4
G_SQ = float((C * W).square().sum())
TR_SIGMA = float(C.sum() * (W @ (C * W) + S) + G_SQ)


def squared_error(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (x @ parameters["w"] - y).square()


def regression(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x ~ N(0, C) and y ~ N(0, S): at weights W G = C W and Sigma = (W'CW + S) C + G G'."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) * C.sqrt(), torch.randn(n, generator=generator) * S**0.5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(18, 3)).double()


def images(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 5, 5, generator=generator).double(), torch.randint(3, (n,), generator=generator)


def test_it_is_the_pair_of_a_loop_over_single_examples() -> None:
    model, (x, y) = network(), images(37)
    gradients = []
    for k in range(37):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1]).backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    table = torch.stack(gradients)
    expected = unbiased_pair(float(table.square().sum()), float(table.mean(0).square().sum()), 37, 37)
    loss = example_loss(model, nn.functional.cross_entropy)
    for chunk in (1, 5, 64):
        found = measure_b_simple(loss, parameters_of(model), (x, y), chunk=chunk).total
        assert (found.numerator, found.denominator) == pytest.approx(expected, rel=1e-9)


def test_errors_are_the_jackknifes_of_estimates_that_leave_a_block_out() -> None:
    x, y = regression(40, 0)
    parameters = {"w": W}
    found = measure_b_simple(squared_error, parameters, (x, y)).total
    gradients = (x * (x @ W - y)[:, None]).double().numpy()

    def pair(rows: np.ndarray) -> tuple[float, float]:
        n = len(rows)
        return unbiased_pair(float((rows**2).sum()), float((rows.mean(axis=0) ** 2).sum()), n, n)

    others = np.array([pair(np.delete(gradients, [2 * j, 2 * j + 1], axis=0)) for j in range(20)])
    errors = np.sqrt(19 * np.var(others, axis=0))
    assert (found.numerator_error, found.denominator_error) == pytest.approx(errors, rel=1e-4)


@pytest.mark.parametrize(
    ("seeds", "least", "most"), [(40, 0.85, 1.0), pytest.param(300, 0.92, 0.98, marks=pytest.mark.long)]
)
def test_linear_regression_is_unbiased_and_its_interval_covers(seeds: int, least: float, most: float) -> None:
    parameters = {"w": W}
    found: list[Ratio] = [
        measure_b_simple(squared_error, parameters, regression(400, seed), chunk=400).total for seed in range(seeds)
    ]
    for side, truth in (("numerator", TR_SIGMA), ("denominator", G_SQ)):
        values = np.array([getattr(r, side) for r in found])
        assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5
    assert least < np.mean([r.low <= TR_SIGMA / G_SQ <= (r.high or np.inf) for r in found]) <= most


def test_all_of_a_data_set_gives_its_scale_without_error() -> None:
    x, y = regression(100, 0)
    found = measure_b_simple(squared_error, {"w": W}, (x, y), n_examples=100).total
    gradients = (x * (x @ W - y)[:, None]).double().numpy()
    assert found.denominator == pytest.approx(float((gradients.mean(axis=0) ** 2).sum()), rel=1e-5)
    assert found.numerator == pytest.approx(float(np.trace(np.cov(gradients, rowvar=False))), rel=1e-5)
    assert found.low == found.high == pytest.approx(found.value)


def test_groups_add_up_to_the_total() -> None:
    model = network()
    groups = {layer: [n for n in parameters_of(model) if n.startswith(layer)] for layer in ("0", "1", "3")}
    loss = example_loss(model, nn.functional.cross_entropy)
    found = measure_b_simple(loss, parameters_of(model), images(40), groups=groups)
    assert sum(g.numerator for g in found.groups.values()) == pytest.approx(found.total.numerator)
    assert sum(g.denominator for g in found.groups.values()) == pytest.approx(found.total.denominator)


def test_dropout_is_noise_from_the_seed_and_leaves_the_global_stream_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 3), nn.Dropout(0.5)).double()
    loss = example_loss(model, nn.functional.cross_entropy)
    before = torch.get_rng_state()
    a, b, c = (measure_b_simple(loss, parameters_of(model), images(40), seed=seed) for seed in (0, 0, 1))
    assert a == b != c
    assert torch.equal(before, torch.get_rng_state())
