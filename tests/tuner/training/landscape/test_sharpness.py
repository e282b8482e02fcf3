import itertools
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.sharpness import Matrix, Sharpness, coordinates, random_directions, sharpness
from bcrit.tuner.training.landscape.surface import Floats, LossSurface
from tests.tuner.training.landscape.quadratic import assert_untouched, examples, network, quadratic

EPS = 1e-3


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
}


@pytest.mark.parametrize("directions", SUBSPACES.values(), ids=SUBSPACES.keys())
def test_in_a_subspace_it_is_the_best_corner_of_the_pseudo_inverses_box(directions: Matrix) -> None:
    generator = np.random.default_rng(5)
    root, x = generator.standard_normal((12, 12)), 3 * generator.standard_normal(12)
    exact = brute_force(root @ root.T, directions, x)
    found = sharpness(quadratic(root @ root.T, x), directions=directions, starts=20)
    assert 0.99 * exact <= rise(found) <= (1 + 1e-9) * exact


def test_more_directions_than_weights_are_a_subspace_like_any_other() -> None:
    generator = np.random.default_rng(6)
    directions, x = generator.standard_normal((3, 8)), generator.standard_normal(3)
    exact = brute_force(np.diag([1.0, 2.0, 3.0]), directions, x)
    found = sharpness(quadratic(np.array([1.0, 2.0, 3.0]), x), directions=directions, starts=20)
    assert found.n_directions == 8 and 0.99 * exact <= rise(found) <= (1 + 1e-9) * exact


def test_the_identity_as_directions_is_the_full_space() -> None:
    f = LossSurface(network(), nn.functional.cross_entropy, examples(), dtype=torch.float64)
    full, subspace = sharpness(f), sharpness(f, directions=np.eye(f.weights.size))
    assert subspace.value == pytest.approx(full.value, rel=1e-9) and full.value > 0
    assert (full.n_directions, subspace.n_directions) == (None, f.weights.size)


def test_a_rotated_basis_gives_the_same_at_the_origin_of_a_round_bowl() -> None:
    # There both boxes are cubes of the same size, and every corner is as high as any other.
    n = 20
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    f = quadratic(np.full(n, 2.0), np.zeros(n))
    assert rise(sharpness(f)) == pytest.approx(n * EPS**2, rel=1e-9)
    assert rise(sharpness(f, directions=rotation)) == pytest.approx(n * EPS**2, rel=1e-9)


def test_no_point_outside_of_the_box_is_ever_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    f = LossSurface(network(), nn.functional.cross_entropy, examples(), dtype=torch.float64)
    directions = random_directions(f.weights.size, 10, seed=0).astype(np.float64)
    half_widths = EPS * (np.abs(coordinates(directions, f.weights)) + 1)
    tried, gradient = [], LossSurface.gradient

    def spied(surface: LossSurface, x: Floats | None = None) -> tuple[float, Floats]:
        assert x is not None
        tried.append(np.linalg.lstsq(directions, x - f.weights, rcond=None)[0])
        return gradient(surface, x)

    monkeypatch.setattr(LossSurface, "gradient", spied)
    found = sharpness(f, directions=directions)
    assert len(tried) == sum(search.evaluations for search in found.searches)
    assert (np.abs(tried) <= half_widths * (1 + 1e-8)).all()
    assert (np.abs(tried) >= half_widths * (1 - 1e-8)).any()


def test_a_larger_box_is_never_less_sharp_and_the_value_never_negative() -> None:
    f = LossSurface(network(), nn.functional.cross_entropy, examples(), dtype=torch.float64)
    values = [sharpness(f, eps=eps).value for eps in (1e-4, 5e-4, 1e-3, 1e-2)]
    assert values == sorted(values) and values[0] > 0
    peak = quadratic(-np.ones(3), np.zeros(3))  # every step goes down, and staying is in the box
    assert sharpness(peak).value == 0
    assert sharpness(quadratic(np.zeros(3), np.zeros(3))).value == 0


def test_it_is_the_same_each_time_and_says_what_it_depends_on() -> None:
    f = LossSurface(network(), nn.functional.cross_entropy, examples(), dtype=torch.float64)
    found = sharpness(f, seed=7, eps=5e-4, starts=2, max_iterations=3)
    assert found == sharpness(f, seed=7, eps=5e-4, starts=2, max_iterations=3)
    assert found.searches != sharpness(f, seed=8, eps=5e-4, starts=2, max_iterations=3).searches
    assert (found.eps, found.seed, found.max_iterations) == (5e-4, 7, 3)
    assert (found.n_weights, found.n_examples, found.dtype) == (50, 40, "float64")
    assert [search.start for search in found.searches] == ["centre", "random"]
    assert all(search.iterations <= 3 for search in found.searches)
    assert found.f_max == max(search.f_end for search in found.searches)


def test_a_budget_that_ended_a_search_is_told_from_a_search_that_ended_itself() -> None:
    f = LossSurface(network(), nn.functional.cross_entropy, examples(), dtype=torch.float64)
    assert not sharpness(f, eps=0.5, starts=1, max_iterations=1).converged
    assert sharpness(quadratic(np.ones(3), np.zeros(3)), starts=1).converged


def test_the_model_is_untouched_to_the_bit() -> None:
    model = network(normalised=True).train()
    nn.functional.cross_entropy(model(examples()[0]), examples()[1]).backward()  # type: ignore[no-untyped-call]
    assert_untouched(model, lambda: sharpness(LossSurface(model, nn.functional.cross_entropy, examples()), starts=1))


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


def test_random_directions_depend_on_their_seed_alone() -> None:
    first, again, other = (random_directions(2000, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2000, 10) and first.dtype == np.float32 and (first != other).all()
    assert abs(first.mean()) < 0.03 and abs(first.std() - 1) < 0.03  # 4 standard errors
