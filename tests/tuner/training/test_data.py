"""The order of the data, and where they live: real memory maps, and PyTorch's `meta`, a device that holds no data."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bcrit.tuner.training import supervised
from bcrit.tuner.training.data import Examples, VaryingBatches, batches, fetched, picker, placed
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun

CPU = torch.device("cpu")


def epoch(n_examples: int, batch_size: int, seed: int, number: int = 0) -> list[int]:
    """The indices of one epoch in the order in which they are used."""
    per_epoch = n_examples // batch_size
    wanted = islice(batches(n_examples, batch_size, seed, CPU), number * per_epoch, (number + 1) * per_epoch)
    return [index for batch in wanted for index in batch.tolist()]


@given(n_examples=st.integers(1, 60), data=st.data(), seed=st.integers(0, 2**32), number=st.integers(0, 3))
def test_an_epoch_uses_every_example_at_most_once_and_the_order_does_not_know_the_batch_size(
    n_examples: int, data: st.DataObject, seed: int, number: int
) -> None:
    batch_size = data.draw(st.integers(1, n_examples))
    order = epoch(n_examples, batch_size, seed, number)
    assert order == epoch(n_examples, 1, seed, number)[: n_examples // batch_size * batch_size]
    assert len(set(order)) == len(order)


def test_every_batch_is_whole() -> None:
    assert {len(batch) for batch in islice(batches(103, 10, 0, CPU), 50)} == {10}


def test_a_batch_may_be_the_whole_training_set() -> None:
    for batch in islice(batches(20, 20, 0, CPU), 3):
        assert sorted(batch.tolist()) == list(range(20))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [epoch(50, 5, seed, number) for seed in (0, 1) for number in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_the_process_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    next(batches(50, 5, 0, CPU))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("batch_size", [0, 101])
def test_an_impossible_batch_size_is_refused_at_once(batch_size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} and n_examples=100; choose a smaller"):
        batches(100, batch_size, 0, CPU)


@given(n_examples=st.integers(1, 60), data=st.data(), seed=st.integers(0, 2**32))
def test_of_one_size_throughout_varying_batches_are_the_batches(
    n_examples: int, data: st.DataObject, seed: int
) -> None:
    batch_size = data.draw(st.integers(1, n_examples))
    varying = VaryingBatches(n_examples, seed, CPU)
    for batch in islice(batches(n_examples, batch_size, seed, CPU), 3 * (n_examples // batch_size) + 2):
        assert torch.equal(varying.take(batch_size), batch)


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_batches_of_any_sizes_keep_the_epochs_order_and_use_no_example_twice_in_an_epoch(sizes: list[int]) -> None:
    varying, number, used = VaryingBatches(20, 7, CPU), 0, 0
    for size in sizes:
        if used + size > 20:
            number, used = number + 1, 0
        assert varying.take(size).tolist() == epoch(20, 1, 7, number)[used : used + size]
        used += size


@pytest.mark.parametrize("batch_size", [0, 21])
def test_a_varying_batch_that_is_impossible_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} and n_examples=20; choose a smaller"):
        VaryingBatches(20, 0, CPU).take(batch_size)


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
    def model(settings: Settings) -> nn.Module:
        return nn.Linear(100, 2)

    def score(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        return {"val_loss": nn.functional.cross_entropy(outputs, targets).item()}

    def curve() -> list[float]:
        settings = Settings(16, 0, "sgd", {"lr": 0.1})
        run = SupervisedRun(settings, model, nn.functional.cross_entropy, score, mapped, mapped)
        found = []
        for _ in range(3):
            run.train(3)
            found.append(run.evaluate()["val_loss"])
        return found

    resident, asked = curve(), []

    def from_host(rows: Tensor) -> Examples:
        asked.append(len(rows))
        return fetched(mapped[0], rows, CPU), fetched(mapped[1], rows, CPU)

    monkeypatch.setattr(supervised, "picker", lambda data, device: from_host)
    assert curve() == resident and asked == [16] * 9
