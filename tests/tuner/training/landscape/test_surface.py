from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.surface import Floats, LossSurface, eigenvalues, trace
from tests.tuner.training.landscape.quadratic import assert_untouched, examples, network, quadratic

CROSS_ENTROPY = nn.functional.cross_entropy


def surface(model: nn.Module | None = None, chunk: int = 7, dtype: torch.dtype | None = torch.float64) -> LossSurface:
    return LossSurface(model or network(), CROSS_ENTROPY, examples(), chunk=chunk, dtype=dtype)


def naive_hessian(model: nn.Module) -> Floats:
    """All second derivatives at once, over all examples at once."""
    inputs, targets = examples(dtype=torch.float64)
    model = model.double().eval()
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(x: Tensor) -> Tensor:
        pieces = torch.split(x, [shape.numel() for shape in shapes.values()])
        named = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return CROSS_ENTROPY(torch.func.functional_call(model, named, (inputs,)), targets)

    at = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    hessian: Tensor = torch.func.jacrev(torch.func.grad(loss))(at)
    return np.asarray(hessian.detach().numpy())


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_value_and_gradient_are_those_of_one_pass_over_all_examples(chunk: int) -> None:
    model: Any = network().double()
    model[0].bias.requires_grad_(False)  # no part of x
    inputs, targets = examples(dtype=torch.float64)
    loss = CROSS_ENTROPY(model(inputs), targets)
    expected = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    value, gradient = surface(model, chunk).gradient()
    assert value == pytest.approx(loss.item(), rel=1e-14) == surface(model, chunk).value()
    np.testing.assert_allclose(gradient, torch.cat([g.reshape(-1) for g in expected]).numpy(), rtol=1e-11, atol=1e-16)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm and dropout"])
def test_the_hessian_products_are_those_of_the_whole_hessian(normalised: bool, chunk: int) -> None:
    f = surface(network(normalised), chunk)
    hessian = naive_hessian(network(normalised))
    mine = np.stack([f.hessian_product(unit) for unit in np.eye(f.weights.size)])
    np.testing.assert_allclose(mine, hessian, rtol=1e-10, atol=1e-14)


def test_elsewhere_they_are_those_of_a_model_that_stands_there() -> None:
    f, other = surface(), surface(network(seed=1))
    v = np.random.default_rng(0).standard_normal(f.weights.size)
    assert f.value(other.weights) == other.value() != f.value()
    np.testing.assert_array_equal(f.gradient(other.weights)[1], other.gradient()[1])
    np.testing.assert_array_equal(f.hessian_product(v, other.weights), other.hessian_product(v))
    assert f.value() == surface().value()  # and it stands at home again


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm and dropout"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_model_is_untouched_to_the_bit(normalised: bool, training: bool) -> None:
    model = network(normalised).train(training)
    CROSS_ENTROPY(model(examples()[0]), examples()[1]).backward()  # type: ignore[no-untyped-call]

    def work() -> None:
        f = surface(model)
        f.gradient(f.weights + 1)
        f.hessian_product(f.weights)
        eigenvalues(f)
        trace(f, products=9)

    assert_untouched(model, work)


def test_the_models_own_numbers_are_used_unless_others_are_asked_for() -> None:
    single, double = surface(dtype=None), surface(dtype=torch.float64)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert single.value() == pytest.approx(double.value(), rel=1e-6) and single.value() != double.value()
    assert eigenvalues(single).values == pytest.approx(eigenvalues(double, seed=4).values, rel=1e-4)
    assert eigenvalues(double, 2, seed=4) == eigenvalues(surface(), 2, seed=4)


def test_a_loss_that_is_linear_or_leaves_weights_out_has_zeros_there() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs[:, :2] @ self.used).sum()

    f = LossSurface(Part(), lambda outputs, targets: outputs, examples())
    assert (f.gradient()[1] != 0).tolist() == [True, True, False, False, False]
    assert not f.hessian_product(np.ones(5)).any()


class Attention(nn.Module):
    """Scaled dot-product attention over 5 positions, by PyTorch's fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(1, 12), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        q, k, v = self.qkv(inputs[:, None, :, None]).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        scores: Tensor = self.out(mixed.mean(dim=(1, 2)))
        return scores


class Recurrent(nn.Module):
    """An LSTM over 5 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.out(self.lstm(inputs[:, :, None])[0][:, -1])
        return scores


@pytest.mark.parametrize("kind", [Attention, Recurrent])
def test_attention_and_recurrent_layers_have_second_derivatives(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    f = surface(kind())
    v = np.random.default_rng(0).standard_normal(f.weights.size)
    h = 1e-5
    naive = (f.gradient(f.weights + h * v)[1] - f.gradient(f.weights - h * v)[1]) / (2 * h)
    np.testing.assert_allclose(f.hessian_product(v), naive, rtol=1e-5, atol=1e-8)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="there are 40 inputs, 39 targets"):
        LossSurface(network(), CROSS_ENTROPY, (examples()[0], examples()[1][1:]))
    with pytest.raises(ValueError, match="none has requires_grad"):
        LossSurface(network().requires_grad_(False), CROSS_ENTROPY, examples())
    with pytest.raises(ValueError, match=r"each of 50 weights, but shape \(3,\)"):
        surface().value(np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        surface().weights[0] = 1.0
    for count in (0, 51):
        with pytest.raises(ValueError, match=f"count={count} and there are 50 weights"):
            eigenvalues(surface(), count)
    with pytest.raises(ValueError, match="'products' must be at least 6"):
        trace(surface(), products=5)


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_eigenvalues_of_a_network_are_those_of_a_dense_solver(normalised: bool, count: int) -> None:
    f = surface(network(normalised))
    exact = np.linalg.eigvalsh(naive_hessian(network(normalised)))
    top, bottom = eigenvalues(f, count), eigenvalues(f, count, end="bottom")
    np.testing.assert_allclose(top.values, exact[::-1][:count], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(bottom.values, exact[:count], rtol=1e-6, atol=1e-8)
    assert max(top.residuals + bottom.residuals) < 1e-4 * abs(exact).max()


def test_a_residual_bounds_the_distance_to_an_eigenvalue() -> None:
    f = surface()
    exact = np.linalg.eigvalsh(naive_hessian(network()))
    rough = eigenvalues(f, 3, tolerance=0.3)
    for value, residual in zip(rough.values, rough.residuals, strict=True):
        assert np.abs(exact - value).min() <= residual + 1e-8


@pytest.mark.parametrize("n", [1, 2, 20, 300])
def test_the_top_is_the_algebraically_largest_also_where_all_are_negative(n: int) -> None:
    spectrum = -np.arange(1.0, n + 1)
    found = eigenvalues(quadratic(spectrum, np.zeros(n)))
    assert found.values == pytest.approx((-1.0,), rel=1e-6)
    assert eigenvalues(quadratic(spectrum, np.zeros(n)), end="bottom").values == pytest.approx((-n,), rel=1e-6)


def test_repeated_eigenvalues_and_a_hessian_of_zero_are_found() -> None:
    assert eigenvalues(quadratic(np.full(100, 3.0), np.zeros(100)), 2).values == pytest.approx((3.0, 3.0))
    flat = eigenvalues(quadratic(np.zeros(100), np.zeros(100)), 2)
    assert flat.values == (0.0, 0.0) and flat.residuals == (0.0, 0.0)


def test_what_has_not_converged_is_left_out_and_the_rest_is_kept() -> None:
    spectrum = 1 + 1e-9 * np.arange(2000.0)  # too close to be told apart within one restart
    found = eigenvalues(quadratic(spectrum, np.zeros(2000)), 5, tolerance=1e-14, max_restarts=1)
    assert len(found.values) == len(found.residuals) < 5


@pytest.mark.parametrize("kind", ["random", "diagonal", "low rank", "few large", "both signs"])
def test_a_trace_is_within_four_standard_errors(kind: str) -> None:
    generator, n = np.random.default_rng(0), 150
    root = generator.standard_normal((n, n))
    basis = np.linalg.qr(root)[0]
    hessian = {
        "random": root @ root.T,
        "diagonal": np.diag(10.0 ** generator.uniform(-3, 3, n)),
        "low rank": root[:, :3] @ root[:, :3].T,
        "few large": (basis * 100.0 / np.arange(1, n + 1) ** 2) @ basis.T,
        "both signs": root + root.T,
    }[kind]
    exact = float(np.trace(hessian))
    scores = []
    for seed in range(12):
        found = trace(quadratic(hessian, np.zeros(n)), seed=seed)
        assert found.samples == 20 and found.standard_error > 0
        scores.append((found.value - exact) / found.standard_error)
    # Student's t with 19 degrees of freedom passes 4 once in 1300; rounding is bounded and not estimated.
    assert np.abs(scores).max() < 4
    assert abs(np.mean(scores)) < 4 / 12**0.5 * 1.1  # unbiased


def test_the_sketch_takes_the_large_eigenvalues_out_of_the_error() -> None:
    generator, n = np.random.default_rng(0), 150
    basis = np.linalg.qr(generator.standard_normal((n, n)))[0]
    spectrum = 100.0 / np.arange(1, n + 1) ** 2
    hessian = (basis * spectrum) @ basis.T
    signs = np.where(generator.random((60, n)) < 0.5, -1.0, 1.0)
    plain = np.einsum("ki,ij,kj->k", signs, hessian, signs).std(ddof=1) / 60**0.5
    assert trace(quadratic(hessian, np.zeros(n))).standard_error < plain / 5


def test_a_trace_of_a_network_is_that_of_its_dense_hessian() -> None:
    exact = float(np.trace(naive_hessian(network())))
    assert trace(surface()).value == pytest.approx(exact, rel=1e-7)  # 50 weights take fewer products than 60
    assert (trace(surface()).samples, trace(surface()).standard_error) == (0, 0.0)
    estimate = trace(surface(), products=30)
    assert estimate.samples == 10 and abs(estimate.value - exact) < 4 * estimate.standard_error
    assert estimate == trace(surface(), products=30)
