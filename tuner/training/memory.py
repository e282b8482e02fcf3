"""Running out of memory: telling it from other errors, and giving back what a failed try held."""

from __future__ import annotations

import gc
from typing import Final

import torch

_SAID: Final = ("can't allocate memory", "bad_alloc", "bad allocation", "alloc_failed")
# What a RuntimeError says of it: PyTorch's allocator on the CPU, C++, and cuBLAS and cuDNN, which need workspaces.


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory gave out, on a device or on the host.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)


def release(device: torch.device) -> None:
    """Give back what nothing refers to any more: cycles may hold a failed try's tensors, PyTorch holds free blocks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
