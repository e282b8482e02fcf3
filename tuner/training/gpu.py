"""What a process that trains on a GPU must set once: the same seed gives the same numbers, and a share is a share."""

from __future__ import annotations

import os

import torch


def prepare_gpu(gpus: float) -> None:
    """Make this process' GPU work repeatable, and keep it to its share of the memory. To be called before any of it.

    Without this, cuDNN's convolutions, attention, and whatever adds with atomic operations differ in their last bits
    from run to run. Where PyTorch has no repeatable kernel for an operation, it warns and goes on. Convolutions then
    keep all bits of float32 too (PyTorch's default for them, not for products of matrices, is TF32 with 10).

    Args:
        gpus: share of one GPU; 1 or more = all of its memory.
    """
    # cuBLAS reads it when the first handle is made; PyTorch's notes on reproducibility name this value.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # finds bugs, takes time
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(float(gpus))
