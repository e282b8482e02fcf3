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
        An iterator over index tensors, shape (batch_size,), integer, on `device`.

    Raises:
        ValueError: a batch would be larger than the training set, or empty.
    """
    if not 1 <= batch_size <= n_examples:
        raise ValueError(
            f"1 <= batch_size <= n_examples must hold, but batch_size={batch_size} and n_examples={n_examples}; "
            "choose a smaller batch size, because examples are drawn without replacement"
        )
    return _without_end(n_examples, batch_size, seed, device)


def _without_end(n_examples: int, batch_size: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    kept = n_examples - n_examples % batch_size
    for epoch in itertools.count():
        # A generator for each epoch, keyed by numbers that it mixes: neighbouring seeds give unrelated orders.
        order = np.random.default_rng((seed, epoch)).permutation(n_examples)[:kept]
        indices = torch.from_numpy(order)
        if device.type == "cuda":
            indices = indices.pin_memory()  # or the host would wait for the copy, and with it for the updates before it
        # Once an epoch, not once a step, indices are drawn and moved; a step only takes its slice.
        yield from torch.split(indices.to(device, non_blocking=True), batch_size)
