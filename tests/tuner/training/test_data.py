"""The device and the data on it: what only a GPU shows, real memory maps, and PyTorch's `meta`, which holds no data."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bcrit.search_spaces.options import Execution
from bcrit.tuner.training import supervised
from bcrit.tuner.training.data import (
    Batches,
    Examples,
    device_for,
    fetched,
    free_memory,
    is_out_of_memory,
    picker,
    placed,
    prepare_gpu,
)
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun

CPU = torch.device("cpu")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")


def score(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    return {"val_loss": cross_entropy(outputs, targets).item()}


def losses(run: SupervisedRun, evaluations: int = 4, updates: int = 5) -> list[float]:
    found = []
    for _ in range(evaluations):
        run.train(updates)
        found.append(run.evaluate()["val_loss"])
    return found


def order(n_examples: int, seed: int, number: int) -> list[int]:
    """The order of an epoch, an example at a time."""
    batches = Batches(n_examples, seed, CPU)
    return [int(batches.take(1)) for _ in range((number + 1) * n_examples)][number * n_examples :]


@given(n=st.integers(1, 60), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40), seed=st.integers(0, 2**32))
def test_batches_of_any_sizes_keep_the_epochs_order_and_use_no_example_twice_in_an_epoch(
    n: int, sizes: list[int], seed: int
) -> None:
    batches, number, used = Batches(n, seed, CPU), 0, 0
    for size in (min(size, n) for size in sizes):
        if used + size > n:
            number, used = number + 1, 0
        assert batches.take(size).tolist() == order(n, seed, number)[used : used + size]
        used += size


def test_epochs_and_seeds_have_orders_of_their_own_of_all_examples() -> None:
    before = torch.get_rng_state()
    orders = [order(50, seed, number) for seed in (0, 1) for number in (0, 1, 2)]
    assert len({tuple(one) for one in orders}) == len(orders)
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert torch.equal(torch.get_rng_state(), before), "the process' generator is left alone"


@pytest.mark.parametrize("batch_size", [0, 101])
def test_an_impossible_batch_size_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} and n_examples=100; choose a smaller"):
        Batches(100, 0, CPU).take(batch_size)


ELSEWHERE = torch.device("meta")


@pytest.fixture
def mapped(tmp_path: Path) -> Examples:
    """600 examples of 100 numbers in a file, 4 bytes each, and their classes."""
    path = tmp_path / "inputs.npy"
    np.save(path, np.random.default_rng(0).normal(size=(600, 100)).astype(np.float32))
    inputs = torch.from_numpy(np.load(path, mmap_mode="c"))
    return inputs, (inputs[:, 0] > 0).long()


def test_data_that_take_half_of_the_room_are_moved_and_larger_ones_stay_where_they_are(mapped: Examples) -> None:
    needed = 600 * (100 * 4 + 8)
    assert [part.device for part in placed(mapped, ELSEWHERE, lambda: 2 * needed)] == [ELSEWHERE] * 2
    stayed = placed(mapped, ELSEWHERE, lambda: 2 * needed - 2)
    assert stayed is mapped


def test_on_the_cpu_data_are_never_copied_nor_room_asked_for(mapped: Examples) -> None:
    def room() -> int:
        raise AssertionError

    assert placed(mapped, CPU, room) is mapped


def test_fetched_rows_are_the_rows(mapped: Examples) -> None:
    inputs, _ = mapped
    rows = torch.tensor([5, 599, 0, 5])
    assert torch.equal(fetched(inputs, rows, CPU), inputs[rows])
    # Sequences of a text overlap in memory.
    overlapping = inputs.flatten()[:41].as_strided((4, 11), (10, 1))
    assert torch.equal(fetched(overlapping, torch.tensor([3, 1]), CPU), overlapping[[3, 1]])


def test_batches_of_data_on_the_host_arrive_on_the_device(mapped: Examples) -> None:
    inputs, targets = picker(mapped, ELSEWHERE)(torch.tensor([3, 1, 2]))
    assert (inputs.device, inputs.shape, targets.device, targets.shape) == (ELSEWHERE, (3, 100), ELSEWHERE, (3,))


def test_a_run_whose_data_are_fetched_batch_by_batch_makes_the_same_curve(
    mapped: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curve() -> list[float]:
        settings = Settings(16, 0, "sgd", {"lr": 0.1})
        run = SupervisedRun(settings, lambda _: nn.Linear(100, 2), cross_entropy, score, mapped, mapped)
        return losses(run, 3, 3)

    resident, asked = curve(), []

    def from_host(rows: Tensor) -> Examples:
        asked.append(len(rows))
        return fetched(mapped[0], rows, CPU), fetched(mapped[1], rows, CPU)

    monkeypatch.setattr(supervised, "picker", lambda data, device: from_host)
    assert curve() == resident and asked == [16] * 9


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


def test_a_trial_has_the_device_that_it_was_given_whatever_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        assert device_for(0) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"'resources.gpus' is 0.25, but PyTorch .* sees no GPU here; install its CUDA"
    ):
        device_for(0.25)


def begin(data: Examples, **execution: Any) -> SupervisedRun:
    def model(settings: Settings) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(16 * 14 * 14, 2))

    settings = Settings(64, 0, "momentum", {"lr": 0.1, "momentum": 0.9}, Execution(**execution), gpus=1)
    return SupervisedRun(settings, model, cross_entropy, score, data, data)


def test_room_is_what_is_free_in_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (700, 1000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 50)
    assert [free_memory(share) for share in (0.25, 1, 2)] == [200, 700, 700]


@on_a_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_numbers(precision: str) -> None:
    prepare_gpu(1)
    assert losses(begin(DATA, precision=precision)) == losses(begin(DATA, precision=precision))


@on_a_gpu
def test_bfloat16_stays_near_float32() -> None:
    prepare_gpu(1)
    assert losses(begin(DATA, precision="bfloat16")) == pytest.approx(losses(begin(DATA)), rel=0.05)


@on_a_gpu
def test_data_on_the_host_make_the_same_curve_as_data_on_the_gpu() -> None:
    prepare_gpu(1)
    there = placed(DATA, device_for(1), lambda: 2**40)
    assert there[0].is_cuda and placed(DATA, device_for(1), lambda: 0) is DATA
    assert losses(begin(DATA)) == losses(begin(there))


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
        return SupervisedRun(settings, lambda _: Wide(), cross_entropy, score, DATA, DATA)

    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 6 * 2**30) / total))
    free = run()
    expected = losses(free)
    assert free.micro_batch is None
    del free
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)
    tight = run()
    assert losses(tight) == pytest.approx(expected, rel=1e-4)
    assert tight.micro_batch is not None and 1 <= tight.micro_batch < 64


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),  # numpy's own is one
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("std::bad_alloc is a word here"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=str,
)
def test_running_out_of_memory_is_told_from_other_errors(error: BaseException, out: bool) -> None:
    assert is_out_of_memory(error) is out
