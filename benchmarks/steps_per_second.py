"""Steps a second of our loop against a bare loop written by hand: same model, data, batch size and optimizer.

Both take turns on one core, a few steps each, and the processor's time is what counts, so that a busy machine disturbs
the ratio little. The bare loop is what one would write for a model and data in memory, with PyTorch's fastest optimizer
(`fused`), and without schedules, repeatable streams of random numbers or anything else of ours. The second table times
the parts of our step where they run. Exit code 1 if a ratio is below 0.9.

    python -m benchmarks.steps_per_second
"""

import gzip
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.digits import DigitsMLP
from bcrit.tuner.workloads.image_classifier import ImageClassifier
from bcrit.tuner.workloads.supervised import SupervisedWorkload

BATCH_SIZES = (8, 64, 512)
LEAST = 0.9
PAIRS = 15
CALL = 5  # steps a call of `train`: what lies between evaluations at step 250 with the default resolution
LR, MOMENTUM = 0.001, 0.9
N_IMAGES, HELD_OUT = 6_000, 500


def written(folder: Path) -> ImageClassifier:
    """The workload of examples/fashion_mnist.yaml, on random images in files of the same format."""
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (N_IMAGES, 28, 28), dtype=np.uint8)
    labels = numbers.integers(0, 10, N_IMAGES, dtype=np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    data = {"source": str(folder), "validation": HELD_OUT, "cache": str(folder / "cache")}
    return ImageClassifier(data, {"name": "simple_cnn", "filters": [4, 8], "hidden": 32})


class HandWrittenCNN(nn.Module):
    """Shallue's simple CNN in the example's size, from bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 8, 5, padding=2)
        self.hidden, self.out = nn.Linear(8 * 7 * 7, 32), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Bytes, shape (n, 1, 28, 28), to scores, shape (n, 10)."""
        x = (images.float() - 127.5) / 73.9
        x = nn.functional.max_pool2d(self.first(x).relu(), 2)
        x = nn.functional.max_pool2d(self.second(x).relu(), 2)
        outputs: Tensor = self.out(self.hidden(x.flatten(1)).relu())
        return outputs


def bare(model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int) -> Iterator[None]:
    """One step each time that it is asked for the next."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)
    while True:
        order = torch.randperm(len(inputs))
        for start in range(0, len(inputs) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield


def begin(workload: SupervisedWorkload, batch_size: int) -> SupervisedRun:
    """A run with heavy-ball momentum, past its first updates."""
    run = workload.begin(Settings(batch_size, 0, "momentum", {"lr": LR, "momentum": MOMENTUM}))
    run.train(3)
    return run


def seconds(block: Callable[[], None]) -> float:
    """Processor time."""
    begun = time.process_time()
    block()
    return time.process_time() - begun


def compared(workload: SupervisedWorkload, model: nn.Module, batch_size: int, calls: int) -> list[tuple[float, float]]:
    """Seconds a step, ours and the bare loop's, in pairs of so many calls."""
    loop, run = bare(model, *workload.train_data(), batch_size), begin(workload, batch_size)

    def ours() -> None:
        for _ in range(calls):
            run.train(CALL)

    def by_hand() -> None:
        for _ in range(calls * CALL):
            next(loop)

    by_hand()
    return [(seconds(ours) / (calls * CALL), seconds(by_hand) / (calls * CALL)) for _ in range(PAIRS)]


def parts(workload: SupervisedWorkload, batch_size: int, calls: int) -> dict[str, float]:
    """Seconds of a step and of its parts, and of a call without steps: means over the least disturbed calls."""
    spent = dict.fromkeys(("batch", "loss", "backward", "update", "step", "call"), 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            result = function(*given, **named)
            spent[name] += time.perf_counter() - begun
            return result

        return call

    run, rows = begin(workload, batch_size), []
    updates: Any = run._updates
    gradient: Any = run._gradient
    mean_loss: Any = gradient._loss
    with (
        mock.patch.object(mean_loss, "pick", timed("batch", mean_loss.pick)),
        mock.patch.object(gradient, "_loss", timed("loss", mean_loss)),
        mock.patch.object(Tensor, "backward", timed("backward", Tensor.backward)),
        mock.patch.object(updates, "_update", timed("update", updates._update)),
    ):
        for _ in range(PAIRS * calls):
            spent.update(dict.fromkeys(spent, 0.0))
            timed("step", run.train)(CALL)
            timed("call", run.train)(0)
            rows.append({name: value / (1 if name == "call" else CALL) for name, value in spent.items()})
    quiet = sorted(rows, key=lambda row: row["step"])[: max(1, len(rows) // 4)]
    return {name: statistics.mean(row[name] for row in quiet) for name in spent}


def told(mean: dict[str, float]) -> str:
    """The shares of a step."""
    forward = mean["loss"] - mean["batch"]
    work, total = forward + mean["backward"] + mean["update"], mean["step"]
    shares = {"forward": forward, "backward": mean["backward"], "update": mean["update"], "batch": mean["batch"]}
    shares["rest"] = total - sum(shares.values())
    alone = total + mean["call"] * (1 - 1 / CALL)
    said = ", ".join(f"{name} {seconds / total:.1%}" for name, seconds in shares.items())
    return f"{said}; overhead {1 - work / total:.1%}, {1 - work / alone:.1%} where each step has a call of its own"


def main() -> int:
    """Print both tables."""
    torch.set_num_threads(1)
    slow, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        digits, images = DigitsMLP(), written(Path(folder))
        cases: list[tuple[str, SupervisedWorkload, Callable[[], nn.Module], dict[int, int]]] = [
            (
                "digits_mlp",
                digits,
                lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
                {8: 40, 64: 40, 512: 10},
            ),
            ("simple CNN", images, HandWrittenCNN, {8: 10, 64: 2, 512: 1}),
        ]
        print("steps a second of one core's time; ratio: ours / bare, median (quartiles) of pairs")
        for name, workload, model, blocks in cases:
            for batch_size in BATCH_SIZES:
                pairs = compared(workload, model(), batch_size, blocks[batch_size])
                low, ratio, high = statistics.quantiles([bare / ours for ours, bare in pairs], n=4)
                ours, by_hand = (1 / statistics.median(column) for column in zip(*pairs, strict=True))
                print(
                    f"{name}, batch size {batch_size:>3}: ours {ours:7,.0f}, bare {by_hand:7,.0f}, "
                    f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})"
                )
                slow += [(name, batch_size)] if ratio < LEAST else []
                shares.append((name, batch_size, parts(workload, batch_size, blocks[batch_size])))
    print(f"shares of our step, {CALL} in a call; overhead is taking the batch and the rest")
    for name, batch_size, mean in shares:
        print(f"{name}, batch size {batch_size:>3}: {told(mean)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
