"""What only a GPU shows; without one, that the switches are set."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution
from bcrit.tuner.training.data import Examples, placed
from bcrit.tuner.training.device import device_for, free_memory, is_out_of_memory, prepare_gpu
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")
INPUTS = torch.randn(256, 3, 16, 16, generator=torch.Generator().manual_seed(0))
DATA = (INPUTS, (INPUTS.mean(dim=(1, 2, 3)) > 0).long())


@pytest.fixture(autouse=True)
def _switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32
    yield
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = before
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_repeatable_kernels_and_all_bits_of_float32_are_asked_for() -> None:
    prepare_gpu(1)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    prepare_gpu(1)
    prepare_gpu(0.25)
    monkeypatch.undo()
    assert asked == [0.25]


def test_a_trial_without_a_gpu_stays_on_the_cpu_whatever_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        device = device_for(0)
    assert device == torch.device("cpu")


def test_a_trial_that_was_given_a_gpu_that_pytorch_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"'resources.gpus' is 0.25, but PyTorch .* sees no GPU here; install its CUDA"
    ):
        device_for(0.25)


def test_room_is_what_is_free_in_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (700, 1000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 50)
    assert [free_memory(share) for share in (0.25, 1, 2)] == [200, 700, 700]


def model(settings: Settings) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(16 * 14 * 14, 2))


def score(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    return {"val_loss": nn.functional.cross_entropy(outputs, targets).item()}


def begin(data: Examples = DATA, batch_size: int = 64, **execution: Any) -> SupervisedRun:
    settings = Settings(batch_size, 0, "momentum", {"lr": 0.1, "momentum": 0.9}, Execution(**execution), gpus=1)
    return SupervisedRun(settings, model, nn.functional.cross_entropy, score, data, data)


def curve(run: SupervisedRun) -> list[float]:
    found = []
    for _ in range(4):
        run.train(5)
        found.append(run.evaluate()["val_loss"])
    return found


@on_a_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_numbers(precision: str) -> None:
    prepare_gpu(1)
    assert curve(begin(precision=precision)) == curve(begin(precision=precision))


@on_a_gpu
def test_bfloat16_stays_near_float32() -> None:
    prepare_gpu(1)
    assert curve(begin(precision="bfloat16")) == pytest.approx(curve(begin()), rel=0.05)


@on_a_gpu
def test_data_on_the_host_make_the_same_curve_as_data_on_the_gpu() -> None:
    prepare_gpu(1)
    there = placed(DATA, device_for(1), lambda: 2**40)
    assert there[0].is_cuda and placed(DATA, device_for(1), lambda: 0) is DATA
    assert curve(begin(DATA)) == curve(begin(there))


@on_a_gpu
def test_where_the_gpu_s_memory_gives_out_a_trial_goes_on_in_pieces() -> None:
    class Wide(nn.Module):
        """A row takes 16 MB in each of three activations."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 16 * 16, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            many = torch.ones(2**21, device=inputs.device)
            outputs: Tensor = (self.layer(inputs.flatten(1))[:, :, None] * many).tanh().mean(dim=2)
            return outputs

    def run() -> SupervisedRun:
        settings = Settings(64, 0, "sgd", {"lr": 1e-3}, gpus=1)
        return SupervisedRun(settings, lambda _: Wide(), nn.functional.cross_entropy, score, DATA, DATA)

    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 6 * 2**30) / total))
    free = run()
    expected = curve(free)
    assert free.micro_batch is None
    del free
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)
    tight = run()
    assert curve(tight) == pytest.approx(expected, rel=1e-4)
    assert tight.micro_batch is not None and 1 <= tight.micro_batch < 64


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
