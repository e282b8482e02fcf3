"""What Keskar et al. measure, on quadratics whose highest point in a box is known, and on small networks."""

import itertools
import sys
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.keskar import (
    EPS,
    Matrix,
    Sharpness,
    coordinates,
    interpolate,
    random_directions,
    recompute_batch_statistics,
    sharpness,
)
from bcrit.tuner.training.landscape.surface import Floats, LossSurface
from bcrit.tuner.workloads.layers import GhostBatchNorm
from tests.tuner.training.landscape.quadratic import Quadratic, assert_untouched, examples, network, quadratic

NETWORK = LossSurface(network(), nn.functional.cross_entropy, examples(), dtype=torch.float64)


def at_corner(hessian: Floats, x: Floats, gradient: Floats, eps: float) -> float:
    """The exact rise of a diagonal quadratic over the box: each coordinate goes to the side that its slope favours."""
    b = eps * (np.abs(x) + 1)
    return float((np.abs(gradient) * b + hessian * b**2 / 2).sum())


def rise(found: Sharpness) -> float:
    return found.f_max - found.f


@pytest.mark.parametrize("eps", [1e-3, 5e-4, 0.1])
@pytest.mark.parametrize("n", [1, 2, 30, 3000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_at_the_minimum_of_a_diagonal_quadratic_it_is_the_corner(n: int, eps: float, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(n)
    hessian, x = 10.0 ** generator.uniform(-4, 2, n), generator.standard_normal(n)
    exact = at_corner(hessian, x, np.zeros(n), eps)
    found = sharpness(quadratic(hessian, x, dtype=dtype), eps=eps)
    assert found.f == 0
    # In float32 the box itself is rounded: to 6e-8 of a weight of 1, against a half-width of 5e-4 or more.
    assert 0.99 * exact <= rise(found) <= (1 + (1e-12 if dtype == torch.float64 else 1e-3)) * exact
    assert found.value == pytest.approx(100 * found.f_max, rel=1e-9)


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2])
def test_off_the_minimum_it_is_the_corner_too_also_where_half_the_slopes_vanish(size: float) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        n = 40
        hessian, x = 10.0 ** generator.uniform(-3, 1, n), generator.standard_normal(n)
        gradient = size * generator.standard_normal(n) * (generator.random(n) < 0.5)
        found = sharpness(quadratic(hessian, x - gradient / hessian, x), eps=EPS)
        exact = at_corner(hessian, x, gradient, EPS)
        assert 0.99 * exact <= rise(found) <= (1 + 1e-9) * exact
        assert found.value == pytest.approx(100 * rise(found) / (1 + found.f), rel=1e-12)


def brute_force(hessian: Floats, directions: Matrix, x: Floats) -> float:
    """The best of all corners, where a convex function has its maximum over a box, at a minimum of the quadratic."""
    half_widths = EPS * (np.abs(np.linalg.pinv(directions) @ x) + 1)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=len(half_widths)))) * half_widths
    steps = corners @ directions.T
    return float((0.5 * np.einsum("ki,ij,kj->k", steps, hessian, steps)).max())


SUBSPACE = np.random.default_rng(3).standard_normal((12, 4))
SUBSPACES = {
    "full rank": SUBSPACE,
    "a column twice": np.column_stack([SUBSPACE, SUBSPACE[:, 1]]),
    "rank two of five": SUBSPACE[:, :2] @ np.array([[1.0, 0.5, 0.0, 2.0, -1.0], [0.0, 1.0, 1.0, -1.0, 3.0]]),
    "with a column of zeros": np.column_stack([SUBSPACE, np.zeros(12)]),
    "more directions than weights": np.random.default_rng(6).standard_normal((3, 8)),
}


@pytest.mark.parametrize("directions", SUBSPACES.values(), ids=SUBSPACES.keys())
def test_in_a_subspace_it_is_the_best_corner_of_the_pseudo_inverses_box(directions: Matrix) -> None:
    generator, n = np.random.default_rng(5), len(directions)
    root, x = generator.standard_normal((n, n)), 3 * generator.standard_normal(n)
    exact = brute_force(root @ root.T, directions, x)
    found = sharpness(quadratic(root @ root.T, x), directions=directions, starts=20)
    assert 0.99 * exact <= rise(found) <= (1 + 1e-9) * exact


def test_the_identity_as_directions_is_the_full_space() -> None:
    full, subspace = sharpness(NETWORK), sharpness(NETWORK, directions=np.eye(NETWORK.weights.size))
    assert subspace.value == pytest.approx(full.value, rel=1e-9) and full.value > 0


def test_no_point_outside_of_the_box_is_ever_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    directions = random_directions(NETWORK.weights.size, 10, seed=0).astype(np.float64)
    half_widths = EPS * (np.abs(coordinates(directions, NETWORK.weights)) + 1)
    tried, gradient = [], LossSurface.gradient

    def spied(surface: LossSurface, x: Floats | None = None) -> tuple[float, Floats]:
        assert x is not None
        tried.append(np.linalg.lstsq(directions, x - NETWORK.weights, rcond=None)[0])
        return gradient(surface, x)

    monkeypatch.setattr(LossSurface, "gradient", spied)
    sharpness(NETWORK, directions=directions)
    assert (np.abs(tried) <= half_widths * (1 + 1e-8)).all()
    assert (np.abs(tried) >= half_widths * (1 - 1e-8)).any()


def test_a_larger_box_is_never_less_sharp_and_the_value_never_negative() -> None:
    values = [sharpness(NETWORK, eps=eps).value for eps in (1e-4, 5e-4, 1e-3, 1e-2)]
    assert values == sorted(values) and values[0] > 0
    peak = quadratic(-np.ones(3), np.zeros(3))  # every step goes down, and staying is in the box
    assert sharpness(peak).value == 0
    assert sharpness(quadratic(np.zeros(3), np.zeros(3))).value == 0


def test_it_is_the_same_each_time_and_tells_a_search_that_its_budget_ended() -> None:
    first, again = (sharpness(NETWORK, seed=7, starts=2, max_iterations=3) for _ in range(2))
    assert first == again
    assert not sharpness(NETWORK, eps=0.5, starts=1, max_iterations=1).converged
    assert sharpness(quadratic(np.ones(3), np.zeros(3)), starts=1).converged
    drawn, redrawn, other = (random_directions(2000, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(drawn, redrawn)
    assert drawn.shape == (2000, 10) and drawn.dtype == np.float32 and (drawn != other).all()
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03  # 4 standard errors


def test_impossible_input_is_refused() -> None:
    f = quadratic(np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="'eps' must be positive .* but eps=-1"):
        sharpness(f, eps=-1)
    with pytest.raises(ValueError, match="max_iterations=0"):
        sharpness(f, max_iterations=0)
    with pytest.raises(ValueError, match=r"a row for each of 3 weights, but its shape is \(4, 2\)"):
        sharpness(f, directions=np.zeros((4, 2)))
    with pytest.raises(ValueError, match="finite and above -1 to divide by 1 \\+ f, but f=-"):
        sharpness(quadratic(-np.ones(1), np.zeros(1), np.full(1, 10.0)))


def test_a_loss_that_overflows_in_the_box_is_an_error_and_no_number() -> None:
    class Cliff(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(2))

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.exp(1e6 * self.x).sum().expand(len(inputs))

    f = LossSurface(Cliff(), lambda outputs, targets: outputs.mean(), examples())
    with pytest.raises(ValueError, match="finite in the whole box, but it is inf"):
        sharpness(f)


RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal(30)
A = RANDOM.standard_normal((30, 6))
CASES = {
    "full rank": A,
    "orthonormal": np.linalg.qr(A)[0],
    "a column twice": np.column_stack([A, A[:, 2]]),
    "a column that is a sum": np.column_stack([A, A @ np.arange(6)]),
    "a column of zeros": np.column_stack([A, np.zeros(30)]),
    "nearly dependent, but not": np.column_stack([A, A[:, 0] + 1e-8 * X]),
    "more columns than rows": RANDOM.standard_normal((30, 45)),
    "more columns, deficient": A @ RANDOM.standard_normal((6, 45)),
    "columns of very different lengths": A * 10.0 ** np.arange(-3, 3),
    "nothing": np.zeros((30, 4)),
}


@pytest.mark.parametrize("block", [4, 7, 1000])
@pytest.mark.parametrize("matrix", CASES.values(), ids=CASES.keys())
def test_coordinates_are_those_of_the_pseudo_inverse(
    matrix: Floats, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[coordinates.__module__], "_ROWS", block)
    expected = np.linalg.pinv(matrix) @ X
    np.testing.assert_allclose(coordinates(matrix, X), expected, rtol=1e-6, atol=1e-9 * (1 + np.abs(expected).max()))


INPUTS, TARGETS = examples()


def evaluate(model: nn.Module) -> Mapping[str, float]:
    assert not any(module.training for module in model.modules())
    outputs = model(INPUTS)
    accuracy = (outputs.argmax(dim=1) == TARGETS).double().mean().item()
    return {"train_loss": nn.functional.cross_entropy(outputs, TARGETS).item(), "train_accuracy": accuracy}


@pytest.mark.parametrize("kind", ["line", "curve"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_ends_are_the_two_networks_to_the_bit(kind: str, dtype: torch.dtype) -> None:
    first, second = network(seed=0).to(dtype), network(seed=1).to(dtype)

    def weights(model: nn.Module) -> Mapping[str, float]:
        flat = torch.cat([p.reshape(-1) for p in model.parameters()])
        return {str(i): value for i, value in enumerate(flat.double().tolist())}

    path = interpolate(first, second, weights, alphas=(0, 1), kind="line" if kind == "line" else "curve")
    assert path.points == {0.0: weights(first), 1.0: weights(second)}


def test_a_quadratic_along_both_kinds_of_path_is_as_computed_by_hand() -> None:
    hessian = np.array([1.0, 4.0])
    first, second = (Quadratic(hessian, np.zeros(2), np.array(x)) for x in ([2.0, 0.0], [0.0, 1.0]))

    def loss(model: nn.Module) -> Mapping[str, float]:
        return {"loss": model(torch.zeros(1, 1)).item()}

    line = interpolate(first, second, loss, alphas=(-1, 0.5, 2))
    # x = ((1 - a) 2, a): 1/2 (1 - a)^2 4 + 1/2 4 a^2
    assert [at["loss"] for at in line.points.values()] == pytest.approx([10, 1, 10])
    curve = interpolate(first, second, loss, alphas=(0.25, 0.5, 2), kind="curve")
    # 1/2 4 cos^2 + 1/2 4 sin^2 = 2: the curve keeps what the line loses between two networks of one size
    assert [at["loss"] for at in curve.points.values()] == pytest.approx([2, 2, 2])
    assert line.distance == pytest.approx(5**0.5)


def test_running_statistics_are_those_of_each_point_and_never_a_mixture() -> None:
    first, second = network(normalised=True, seed=0).train(), network(normalised=True, seed=1).eval()
    paths = []

    def work() -> None:
        paths.append(interpolate(first, second, evaluate, alphas=(0, 0.5), train_inputs=INPUTS))

    assert_untouched(first, lambda: assert_untouched(second, work))
    for weight, metrics in paths[0].points.items():
        naive = network(normalised=True)
        with torch.no_grad():
            for p, a, b in zip(naive.parameters(), first.parameters(), second.parameters(), strict=True):
                p.copy_((1 - weight) * a + weight * b)
        recompute_batch_statistics(naive.eval(), INPUTS)
        assert metrics == pytest.approx(evaluate(naive), rel=1e-6)
    with pytest.raises(ValueError, match="give 'train_inputs'"):
        interpolate(first, second, evaluate)


def test_networks_of_different_shapes_have_no_path() -> None:
    with pytest.raises(ValueError, match=r"same architecture, but they differ in 0\.bias, 0\.weight"):
        interpolate(network(), nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)), evaluate)


ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 2


def statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
    return mean, variance


@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("ghost", [False, True], ids=["plain", "ghost"])
def test_statistics_are_the_means_over_chunks_and_nothing_else_moves(ghost: bool, chunk: int) -> None:
    layer = GhostBatchNorm(3, ghost_size=16, momentum=0.3) if ghost else nn.BatchNorm1d(3, momentum=0.3)
    model = nn.Sequential(layer, nn.Dropout(0.5)).eval()
    random = torch.get_rng_state()
    recompute_batch_statistics(model, ROWS[:60] if chunk == 16 else ROWS, chunk)  # 12 examples at the end are left out
    size = 16 if ghost else chunk  # a ghost batch decides whatever is asked for
    chunks = torch.split(ROWS[: 48 if chunk == 16 else 64], size)
    expected = torch.stack([c.mean(dim=0) for c in chunks]), torch.stack([c.var(dim=0) for c in chunks])
    torch.testing.assert_close(statistics(layer), tuple(e.mean(dim=0) for e in expected))
    assert not any(module.training for module in model.modules()) and layer.momentum == 0.3
    assert torch.equal(random, torch.get_rng_state())
