from __future__ import annotations

import numpy as np
import pytest
import torch

from bcrit.tuner.training.device import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("std::bad_alloc is a word here"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=str,
)
def test_running_out_of_memory_is_told_from_other_errors(error: BaseException, out: bool) -> None:
    assert is_out_of_memory(error) is out


def test_numpy_s_error_is_one_too() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(2**62, np.uint8)
    assert is_out_of_memory(caught.value)
