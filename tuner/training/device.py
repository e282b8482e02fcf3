"""The device that a run computes on: which one, what its process must set once, and memory that gives out."""

import gc
import os
from typing import Final

import torch

# What a RuntimeError says of it: PyTorch's allocator on the CPU, C++, and cuBLAS and cuDNN, which need workspaces.
_SAID: Final = ("can't allocate memory", "bad_alloc", "bad allocation", "alloc_failed")


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


def prepare_gpu(gpus: float) -> None:
    """Make this process' GPU work repeatable, and keep it to its share of the memory. To be called before any of it.

    Without this, cuDNN's convolutions, attention, and whatever adds with atomic operations differ in their last bits
    from run to run. Where PyTorch has no repeatable kernel for an operation, it warns and goes on. Convolutions then
    keep all bits of float32 too (PyTorch's default for them, not for products of matrices, is TF32 with 10).
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


def device_for(gpus: float) -> torch.device:
    """The device of a run that was given these GPUs, or this share of one; the CPU for 0.

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
