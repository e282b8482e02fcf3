from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.surface import Floats, LossSurface
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


def test_value_and_gradient_are_those_of_one_pass_over_all_examples() -> None:
    model = network().double()
    inputs, targets = examples(dtype=torch.float64)
    loss = CROSS_ENTROPY(model(inputs), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]).numpy()
    value, gradient = surface().gradient()
    assert value == pytest.approx(loss.item(), rel=1e-14)
    assert surface().value() == pytest.approx(loss.item(), rel=1e-14)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm and dropout"])
def test_the_hessian_products_are_those_of_the_whole_hessian(normalised: bool) -> None:
    f = surface(network(normalised))
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

    assert_untouched(model, work)


def test_chunks_decide_nothing_but_rounding() -> None:
    v = np.random.default_rng(0).standard_normal(surface().weights.size)
    for chunk in (1, 3, 40, 1000):
        assert surface(chunk=chunk).value() == pytest.approx(surface().value(), rel=1e-14)
        np.testing.assert_allclose(surface(chunk=chunk).gradient()[1], surface().gradient()[1], rtol=1e-11, atol=1e-16)
        np.testing.assert_allclose(surface(chunk=chunk).hessian_product(v), surface().hessian_product(v), rtol=1e-10)


def test_frozen_weights_are_no_part_of_x_and_tied_ones_are_there_once() -> None:
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 5, bias=False), nn.Linear(5, 2))
    assert isinstance(model[2], nn.Linear) and isinstance(model[0], nn.Linear) and isinstance(model[3], nn.Linear)
    model[2].weight = model[0].weight
    model[3].weight.requires_grad_(False)
    assert surface(model).weights.size == 25 + 2


def test_the_models_own_numbers_are_used_unless_others_are_asked_for() -> None:
    single, double = surface(dtype=None), surface(dtype=torch.float64)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert single.value() == pytest.approx(double.value(), rel=1e-6) and single.value() != double.value()


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


def test_a_quadratic_has_its_own_hessian() -> None:
    hessian = np.array([[2.0, 1.0], [1.0, -3.0]])
    f = quadratic(hessian, np.zeros(2), np.array([1.0, 2.0]))
    assert f.value() == pytest.approx(0.5 * (2 + 4 - 12))
    np.testing.assert_allclose(f.gradient()[1], [4.0, -5.0])
    np.testing.assert_allclose(np.stack([f.hessian_product(unit) for unit in np.eye(2)]), hessian)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="there are 40 inputs, 39 targets"):
        LossSurface(network(), CROSS_ENTROPY, (examples()[0], examples()[1][1:]))
    with pytest.raises(ValueError, match="none has requires_grad"):
        LossSurface(network().requires_grad_(False), CROSS_ENTROPY, examples())
    with pytest.raises(ValueError, match=r"each of 50 weights, but shape \(3,\)"):
        surface().value(np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        surface().weights[0] = 1.0
