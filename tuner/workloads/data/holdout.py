"""Which examples of a training split are held out of it for validation."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SHARE: Final = 1 / 12
"""5,000 of 60,000, as Shallue et al. 2018 hold out of MNIST and Fashion-MNIST."""


def held_out(n_examples: int, wanted: int | float | None, name: str) -> int:
    """How many examples are held out.

    Args:
        n_examples: in the split.
        wanted: how many, or which share; None = `SHARE`.
        name: of the data set, for messages.

    Returns:
        A number that leaves at least one example on both sides.

    Raises:
        ValueError: none would be left on one side.
    """
    count = wanted if isinstance(wanted, int) else round(n_examples * (SHARE if wanted is None else wanted))
    if not 1 <= count < n_examples:
        raise ValueError(
            f"some examples must be left to train on and some to validate on, but 'validation' holds {count} of the "
            f"{n_examples} of '{name}' out; choose another number"
        )
    return count


def split_at_random(n_examples: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide the examples; the division belongs to the data and is the same for every seed of a run.

    Args:
        n_examples: how many there are.
        count: how many validate.

    Returns:
        Positions of those that train and of those that validate, each in ascending order.
    """
    order = np.random.default_rng(0).permutation(n_examples)
    return np.sort(order[count:]), np.sort(order[:count])
