"""The order of the data: sampling without replacement, the same order at every batch size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch


def batches(n_examples: int, batch_size: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The batches of a run, without end: every epoch takes the examples in a new order, each at most once.

    An epoch's order depends on the seed and the epoch alone, so runs with one seed read the same order at every batch
    size. Each cuts it into pieces of `batch_size`; a shorter piece at the end is left out, for its gradient would be
    noisier than the batch size says. At batch_size = n_examples every update uses all examples.

    Args:
        n_examples: size of the training set.
        batch_size: examples in a batch.
        seed: of the order.
        device: where the indices are used.

    Returns:
        An iterator over index tensors, shape (batch_size,), integer, on `device`. A batch that would be larger than the
        training set, or empty, is a ValueError.
    """
    _check(batch_size, n_examples)
    return _without_end(n_examples, batch_size, seed, device)


def _without_end(n_examples: int, batch_size: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    kept = n_examples - n_examples % batch_size
    for epoch in itertools.count():
        # Once an epoch, not once a step, indices are drawn and moved; a step only takes its slice.
        yield from torch.split(_order(n_examples, epoch, seed, device)[:kept], batch_size)


def _order(n_examples: int, epoch: int, seed: int, device: torch.device) -> torch.Tensor:
    """The order of one epoch."""
    # A generator for each epoch, keyed by numbers that it mixes: neighbouring seeds give unrelated orders.
    indices = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n_examples))
    if device.type == "cuda":
        indices = indices.pin_memory()  # or the host would wait for the copy, and with it for the updates before it
    return indices.to(device, non_blocking=True)


class VaryingBatches:
    """Batches of a size that is chosen anew for each, in the epochs' orders that `batches` has.

    A batch for which the rest of its epoch is too short begins the next epoch, and that rest is left out: no example is
    in an epoch twice, and of one size throughout the batches are those of `batches`.
    """

    def __init__(self, n_examples: int, seed: int, device: torch.device) -> None:
        """Stand before the first epoch.

        Args:
            n_examples: size of the training set.
            seed: of the order.
            device: where the indices are used.
        """
        self._n_examples, self._seed, self._device = n_examples, seed, device
        self._epoch = self._used = 0
        self._indices = _order(n_examples, 0, seed, device)

    def take(self, batch_size: int) -> torch.Tensor:
        """The next batch.

        Args:
            batch_size: examples in it.

        Returns:
            Indices, shape (batch_size,); a ValueError as in `batches`.
        """
        _check(batch_size, self._n_examples)
        if self._used + batch_size > self._n_examples:
            self._epoch, self._used = self._epoch + 1, 0
            self._indices = _order(self._n_examples, self._epoch, self._seed, self._device)
        self._used += batch_size
        return self._indices[self._used - batch_size : self._used]


def _check(batch_size: int, n_examples: int) -> None:
    if not 1 <= batch_size <= n_examples:
        raise ValueError(
            f"1 <= batch_size <= n_examples must hold, but batch_size={batch_size} and n_examples={n_examples}; "
            "choose a smaller batch size, because examples are drawn without replacement"
        )
