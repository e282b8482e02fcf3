"""Where data live: on the device that trains if there is room, else on the host, from where batches are fetched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Examples = tuple[Tensor, Tensor]
"""Inputs and targets, with the examples along the first axis of both."""

_SHARE = 2  # data may take 1/2 of what is free; the rest is for the model and its activations. Chosen, not studied.


def device_for(gpus: float) -> torch.device:
    """The device of a run that was given these GPUs, or this share of one.

    Args:
        gpus: 0 = the CPU.

    Returns:
        The device.

    Raises:
        ValueError: PyTorch sees no GPU.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(
            f"'resources.gpus' is {gpus:g}, but PyTorch {torch.__version__} sees no GPU here; install its CUDA build, "
            "or set it to 0"
        )
    return torch.device("cuda", torch.cuda.current_device())


def free_memory(gpus: float) -> int:
    """Bytes that a process may still take of its share of the current GPU."""
    free, total = torch.cuda.mem_get_info()
    return min(free, int(min(1.0, gpus) * total) - torch.cuda.memory_allocated())


def placed(data: Examples, device: torch.device, room: Callable[[], int]) -> Examples:
    """Data where they are used from: copied to the device if they take at most half of the room there.

    Otherwise they stay what and where they are: a memory map is read a batch at a time and never copied as a whole.

    Args:
        data: on the host.
        device: that trains.
        room: bytes that are free on the device; not asked for the CPU.

    Returns:
        The data on the device, or the data.
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

    Args:
        part: examples along the first axis.
        rows: their indices, on the host.
        device: where they are needed.

    Returns:
        The rows.
    """
    gathered = torch.empty((len(rows), *part.shape[1:]), dtype=part.dtype, pin_memory=device.type == "cuda")
    torch.index_select(part, 0, rows, out=gathered)
    return gathered.to(device, non_blocking=True)
