"""The device of a run and the data on it: memory that gives out, the order of the examples, and where they live."""

import gc
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")

Examples = tuple[Tensor, Tensor]
"""Inputs and targets, with the examples along the first axis of both."""

# What a RuntimeError says of it: PyTorch's allocator on the CPU, C++, and cuBLAS and cuDNN, which need workspaces.
_SAID: Final = ("can't allocate memory", "bad_alloc", "bad allocation", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory gave out, on a device or on the host."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def says_no_memory(text: str) -> bool:
    """Whether the last words of a program are that memory gave out."""
    return any(said in text.lower() for said in (*_SAID, "memoryerror", "out of memory"))


def forget_memory(device: torch.device) -> None:
    """Count the most memory held from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux alone has it
            Path("/proc/self/clear_refs").write_text("5")


def most_memory(device: torch.device, pid: int | None = None) -> int | None:
    """Bytes that were held at most: on a GPU by PyTorch; else by a process, this one unless named; None = not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid or 'self'}/status").read_text(), re.MULTILINE)
        return None if found is None else 1024 * int(found[1])
    return None


def as_memory_allows(
    attempt: Callable[[int], T],
    size: int,
    device: torch.device,
    least: int | None = 1,
    undo: Callable[[], None] | None = None,
) -> tuple[T, int]:
    """What `attempt` makes of so many rows at a time, and how many they were in the end.

    Where memory gives out the number is halved, in multiples of the `least`, and the attempt undone and made again;
    where nothing is left to halve, or nothing may be (None), its error is raised.
    """
    while True:
        try:
            return attempt(size), size
        except Exception as error:
            if least is None or size <= least or not is_out_of_memory(error):
                raise
        # Only here are the failed try's tensors gone, with the exception that held its frames. Cycles may hold them
        # still, and PyTorch holds free blocks.
        size = max(least, size // 2 // least * least)
        if undo is not None:
            undo()
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
    """The device of a run that was given these GPUs, or this share of one; the CPU for 0."""
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(
            f"'resources.gpus' is {gpus:g}, but PyTorch {torch.__version__} sees no GPU here; install its CUDA build, "
            "or set it to 0"
        )
    return torch.device("cuda", torch.cuda.current_device())


def generators(device: torch.device) -> list[torch.Generator]:
    """PyTorch's global streams of random numbers, from which a model on this device draws."""
    if device.type == "cpu":
        return [torch.default_generator]
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return [torch.default_generator, torch.cuda.default_generators[device.index]]


def free_memory(gpus: float) -> int:
    """Bytes that a process may still take of its share of the current GPU."""
    free, total = torch.cuda.mem_get_info()
    return min(free, int(min(1.0, gpus) * total) - torch.cuda.memory_allocated())


class Batches:
    """The batches of a run, without end: every epoch takes the examples in a new order, each at most once.

    An epoch's order depends on the seed and the epoch alone, so runs with one seed read the same order at every batch
    size. A batch for which the rest of its epoch is too short begins the next epoch, and that rest is left out: a
    shorter batch's gradient would be noisier than its size says. A batch may be all examples, and no more.
    """

    changes = ("_epoch", "_used")  # see `bcrit.tuner.training.reported`

    def __init__(self, n_examples: int, seed: int, device: torch.device) -> None:
        self.n_examples, self._seed, self._device = n_examples, seed, device
        self._epoch, self._used = -1, n_examples
        self._indices, self._drawn = torch.empty(0), -1  # the order, and of which epoch it is

    def check(self, batch_size: int) -> None:
        """Refuse a batch size that cannot be."""
        if not 1 <= batch_size <= self.n_examples:
            raise ValueError(
                f"1 <= batch_size <= n_examples must hold, but batch_size={batch_size} and "
                f"n_examples={self.n_examples}; choose a smaller batch size, because examples are drawn without "
                "replacement"
            )

    def take(self, batch_size: int) -> Tensor:
        """The next batch, as indices on the device; one size for all of them, or another each time."""
        self.check(batch_size)
        if self._used + batch_size > self.n_examples:
            self._epoch, self._used = self._epoch + 1, 0
        if self._drawn != self._epoch:
            # Once an epoch, not once a step, indices are drawn and moved; a step only takes its slice.
            self._indices, self._drawn = self._order(), self._epoch
        self._used += batch_size
        return self._indices[self._used - batch_size : self._used]

    def _order(self) -> Tensor:
        # A generator for each epoch, keyed by numbers that it mixes: neighbouring seeds give unrelated orders.
        order = torch.from_numpy(np.random.default_rng((self._seed, self._epoch)).permutation(self.n_examples))
        if self._device.type == "cuda":
            order = order.pin_memory()  # or the host would wait for the copy, and with it for the updates before it
        return order.to(self._device, non_blocking=True)


def placed(data: Examples, device: torch.device, room: Callable[[], int]) -> Examples:
    """Data where they are used from: copied to the device if they take at most half of the room there.

    Otherwise they stay what and where they are: a memory map is read a batch at a time and never copied as a whole.
    `room` tells the bytes that are free on the device; it is not asked for the CPU.
    """
    # The other half is for the model and its activations. Chosen, not studied.
    needed = sum(part.numel() * part.element_size() for part in data)
    if device.type == "cpu" or needed > room() // 2:
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
