"""The data of a run: the order in which they are drawn, and where they live, on the device or on the host."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

Examples = tuple[Tensor, Tensor]
"""Inputs and targets, with the examples along the first axis of both."""


def batches(n_examples: int, batch_size: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The batches of a run, without end: every epoch takes the examples in a new order, each at most once.

    An epoch's order depends on the seed and the epoch alone, so runs with one seed read the same order at every batch
    size. Each cuts it into pieces of `batch_size`; a shorter piece at the end is left out, for its gradient would be
    noisier than the batch size says. At batch_size = n_examples every update uses all examples; a larger batch, or an
    empty one, is a ValueError. Batches are index tensors of shape (batch_size,) on `device`.
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
        self._n_examples, self._seed, self._device = n_examples, seed, device
        self._epoch = self._used = 0
        self._indices = _order(n_examples, 0, seed, device)

    def take(self, batch_size: int) -> torch.Tensor:
        """The next batch, as indices; a ValueError as in `batches`."""
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


_SHARE = 2  # data may take 1/2 of what is free; the rest is for the model and its activations. Chosen, not studied.


def placed(data: Examples, device: torch.device, room: Callable[[], int]) -> Examples:
    """Data where they are used from: copied to the device if they take at most half of the room there.

    Otherwise they stay what and where they are: a memory map is read a batch at a time and never copied as a whole.
    `room` tells the bytes that are free on the device; it is not asked for the CPU.
    """
    needed = sum(part.numel() * part.element_size() for part in data)
    if device.type == "cpu" or needed > room() // _SHARE:
        return data
    inputs, targets = data
    return inputs.to(device), targets.to(device)


def picker(data: Examples, device: torch.device) -> Callable[[Tensor], Examples]:
    """A function from the indices of a batch to the batch on the device; indices are on the data's own device."""
    inputs, targets = data
    if inputs.device == device:
        return lambda rows: (inputs.index_select(0, rows), targets.index_select(0, rows))
    return lambda rows: (fetched(inputs, rows, device), fetched(targets, rows, device))


def fetched(part: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Rows of a tensor on the host, on another device.

    They are gathered in page-locked memory, from which a GPU copies while the host goes on. PyTorch does not reuse such
    a block before the copy is done.
    """
    gathered = torch.empty((len(rows), *part.shape[1:]), dtype=part.dtype, pin_memory=device.type == "cuda")
    torch.index_select(part, 0, rows, out=gathered)
    return gathered.to(device, non_blocking=True)
