from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bcrit.tuner.training.landscape.surface import Eigenvalues, Floats, LossSurface, eigenvalues, trace
from tests.tuner.training.landscape.quadratic import assert_untouched, examples, network, quadratic


def surface(normalised: bool = False, dtype: torch.dtype | None = torch.float64) -> LossSurface:
    """All 50 parameters of a small network, or 62 with batch norm."""
    return LossSurface(network(normalised), nn.functional.cross_entropy, examples(), dtype=dtype)


def dense(f: LossSurface) -> Floats:
    """The Hessian by central differences of gradients: independent of products."""
    h = 1e-5
    steps = h * np.eye(f.weights.size)
    hessian = np.stack([(f.gradient(f.weights + s)[1] - f.gradient(f.weights - s)[1]) / (2 * h) for s in steps])
    return np.asarray((hessian + hessian.T) / 2)


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_eigenvalues_of_a_network_are_those_of_a_dense_solver(normalised: bool, count: int) -> None:
    f = surface(normalised)
    exact = np.linalg.eigvalsh(dense(f))
    top, bottom = eigenvalues(f, count), eigenvalues(f, count, end="bottom")
    np.testing.assert_allclose(top.values, exact[::-1][:count], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(bottom.values, exact[:count], rtol=1e-6, atol=1e-8)
    assert max(top.residuals + bottom.residuals) < 1e-4 * abs(exact).max()


def test_a_residual_bounds_the_distance_to_an_eigenvalue() -> None:
    f = surface()
    exact = np.linalg.eigvalsh(dense(f))
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


def test_eigenvalues_are_the_same_each_time_and_say_what_they_depend_on() -> None:
    found = eigenvalues(surface(), 2, seed=4)
    assert found == eigenvalues(surface(), 2, seed=4)
    assert isinstance(found, Eigenvalues)
    assert (found.end, found.n_weights, found.n_examples, found.seed, found.dtype) == ("top", 50, 40, 4, "float64")
    assert found.products > 20


def test_single_precision_is_enough_for_the_largest() -> None:
    single, double = eigenvalues(surface(dtype=None)), eigenvalues(surface())
    assert single.values == pytest.approx(double.values, rel=1e-4)


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
        assert found.products == 60 and found.samples == 20 and found.standard_error > 0
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
    exact = float(np.trace(dense(surface())))
    assert trace(surface()).value == pytest.approx(exact, rel=1e-7)  # 50 weights take fewer products than 60
    assert (trace(surface()).samples, trace(surface()).standard_error) == (0, 0.0)
    estimate = trace(surface(), products=30)
    assert estimate.samples == 10 and abs(estimate.value - exact) < 4 * estimate.standard_error
    assert estimate == trace(surface(), products=30)


def test_the_model_is_untouched_to_the_bit() -> None:
    model = network(normalised=True).train()
    nn.functional.cross_entropy(model(examples()[0]), examples()[1]).backward()  # type: ignore[no-untyped-call]
    f = LossSurface(model, nn.functional.cross_entropy, examples())
    assert_untouched(model, lambda: (eigenvalues(f), trace(f, products=9)))


def test_impossible_input_is_refused() -> None:
    f = quadratic(np.ones(3), np.zeros(3))
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"count={count} and there are 3 weights"):
            eigenvalues(f, count)
    with pytest.raises(ValueError, match="'products' must be at least 6"):
        trace(f, products=5)
