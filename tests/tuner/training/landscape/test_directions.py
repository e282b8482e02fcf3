from __future__ import annotations

import sys

import numpy as np
import pytest

from bcrit.tuner.training.landscape.sharpness import coordinates, random_directions
from bcrit.tuner.training.landscape.surface import Floats

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
