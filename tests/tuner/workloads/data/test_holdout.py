from __future__ import annotations

import numpy as np
import pytest

from bcrit.tuner.workloads.data.holdout import held_out, split_at_random


def test_shallues_division_of_mnist_is_the_default() -> None:
    assert held_out(60_000, None, "mnist") == 5_000


@pytest.mark.parametrize(("wanted", "count"), [(7, 7), (0.25, 25), (0.999, 99)], ids=str)
def test_a_count_or_a_share(wanted: float, count: int) -> None:
    if wanted == 0.999:
        with pytest.raises(ValueError, match="'validation' holds 100 of the 100 of 'it' out"):
            held_out(100, wanted, "it")
    else:
        assert held_out(100, wanted, "it") == count


@pytest.mark.parametrize(("n", "wanted"), [(10, 10), (10, 11), (3, None), (1, None)])
def test_something_must_be_left_on_both_sides(n: int, wanted: int | None) -> None:
    with pytest.raises(ValueError, match=f"of the {n} of 'it' out; choose another number"):
        held_out(n, wanted, "it")


def test_the_parts_are_whole_disjoint_sorted_and_the_same_each_time() -> None:
    train, validation = split_at_random(50, 8)
    assert (len(train), len(validation)) == (42, 8)
    assert sorted([*train, *validation]) == list(range(50))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    assert validation.tolist() != list(range(8))
    np.testing.assert_array_equal(split_at_random(50, 8)[1], validation)
