"""The scale from single examples: against a loop over them, closed forms, and its coverage."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale.per_example import _Sample, example_loss, measure_b_noise, parameters_of
from bcrit.tuner.training.noise_scale.ratio import Ratio, unbiased_pair
from bcrit.tuner.workloads.layers import GhostBatchNorm

C, W, S = torch.tensor([2.0, 0.5, 0.1, 0.1]), torch.tensor([0.5, -1.0, 0.3, 0.0]), 0.4
G_SQ = float((C * W).square().sum())
TR_SIGMA = float(C.sum() * (W @ (C * W) + S) + G_SQ)


def squared_error(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (x @ parameters["w"] - y).square()


def regression(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x ~ N(0, C) and y ~ N(0, S): H = C, G = C W and Sigma = (W'CW + S) C + G G'."""
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
    for chunk in (5, 64):
        found = measure_b_noise(loss, parameters_of(model), (x, y), chunk=chunk).simple
        assert (found.numerator, found.denominator) == pytest.approx(expected, rel=1e-9)


def test_errors_are_the_jackknifes_of_estimates_that_leave_a_block_out() -> None:
    x, y = regression(40, 0)
    parameters = {"w": W}
    found = measure_b_noise(squared_error, parameters, (x, y)).simple
    gradients = (x * (x @ W - y)[:, None]).double().numpy()

    def pair(rows: np.ndarray) -> tuple[float, float]:
        n = len(rows)
        return unbiased_pair(float((rows**2).sum()), float((rows.mean(axis=0) ** 2).sum()), n, n)

    others = np.array([pair(np.delete(gradients, [2 * j, 2 * j + 1], axis=0)) for j in range(20)])
    errors = np.sqrt(19 * np.var(others, axis=0))
    assert (found.numerator_error, found.denominator_error) == pytest.approx(errors, rel=1e-4)


def test_all_of_a_data_set_gives_its_scale_without_error() -> None:
    x, y = regression(100, 0)
    found = measure_b_noise(squared_error, {"w": W}, (x, y), n_examples=100).simple
    gradients = (x * (x @ W - y)[:, None]).double().numpy()
    assert found.denominator == pytest.approx(float((gradients.mean(axis=0) ** 2).sum()), rel=1e-5)
    assert found.numerator == pytest.approx(float(np.trace(np.cov(gradients, rowvar=False))), rel=1e-5)
    assert (found.low, found.high) == pytest.approx((found.value, found.value))


def test_dropout_is_noise_from_the_seed_and_leaves_the_global_stream_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 3), nn.Dropout(0.5)).double()
    loss = example_loss(model, nn.functional.cross_entropy)
    before = torch.get_rng_state()
    a, b, c = (measure_b_noise(loss, parameters_of(model), images(40), seed=seed) for seed in (0, 0, 1))
    assert a == b != c
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(4), GhostBatchNorm(4, ghost_size=2), nn.BatchNorm1d(4, track_running_stats=False).eval()],
    ids=["batch norm", "ghost batch norm", "batch norm without running statistics"],
)
def test_a_layer_that_mixes_examples_is_refused_with_the_remedy(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 4), layer)
    with pytest.raises(ValueError, match=r"layer '1' .* one example has no gradient of its own .* model.eval\(\)"):
        example_loss(model, nn.functional.mse_loss)
    if getattr(model.eval()[1], "running_mean", None) is not None:  # what can be measured with running statistics
        model[0].requires_grad_(False)
        loss, parameters = example_loss(model, nn.functional.mse_loss), parameters_of(model)
        assert list(parameters) == ["1.weight", "1.bias"], "frozen ones are not measured"
        x, y = torch.randn(3), torch.randn(4)
        assert torch.allclose(loss(parameters, x, y), nn.functional.mse_loss(model(x[None]), y[None]))


@pytest.mark.parametrize(("n", "sizes"), [(20, {2}), (23, {2, 3}), (41, {2, 3}), (400, {20})])
def test_blocks_are_nearly_equal_and_have_two_examples_at_least(n: int, sizes: set[int]) -> None:
    sample = _Sample(squared_error, {}, (torch.arange(n), torch.arange(n)), 32, 0)
    assert set(sample.sizes) == sizes and 10 <= len(sample.blocks) <= 20
    assert torch.equal(torch.cat([block[1] for block in sample.blocks]), torch.arange(n))


@pytest.mark.parametrize("sizes", [(19, 19), (30, 31)], ids=["too few", "unequal"])
def test_too_few_examples_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be equally many, and 20 at least"):
        measure_b_noise(squared_error, {"w": W}, [torch.zeros(n) for n in sizes])


G = C * W
G_H_G = float(G @ (C * G))
TR_H_SIGMA = float(C.square().sum() * (W @ (C * W) + S)) + G_H_G


@pytest.mark.parametrize(
    ("seeds", "least", "most"), [(40, 0.85, 1.0), pytest.param(300, 0.92, 0.98, marks=pytest.mark.long)]
)
def test_scales_of_a_regression_are_unbiased_and_their_intervals_cover(seeds: int, least: float, most: float) -> None:
    found = [measure_b_noise(squared_error, {"w": W}, regression(400, seed), chunk=400) for seed in range(seeds)]
    for kind, above, below in (("simple", TR_SIGMA, G_SQ), ("noise", TR_H_SIGMA, G_H_G)):
        ratios: list[Ratio] = [getattr(r, kind) for r in found]
        for side, truth in (("numerator", above), ("denominator", below)):
            values = np.array([getattr(r, side) for r in ratios])
            assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5
        assert least < np.mean([r.low <= above / below <= (r.high or np.inf) for r in ratios]) <= most
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
    # Far below the noise scale it goes with lr / B.
    assert found.temperature(4e-3, 4e-3) == pytest.approx(found.temperature(1e-3, 1e-3), rel=1e-2)


def test_attention_can_be_measured() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.Linear(8, 5))
    loss = example_loss(model, lambda out, y: nn.functional.cross_entropy(out.flatten(0, 1), y.flatten()))
    x, y = torch.randn(20, 6, 8), torch.randint(5, (20, 6))
    found = measure_b_noise(loss, parameters_of(model), (x, y))
    assert np.isfinite([found.noise.numerator, found.noise.denominator]).all()
