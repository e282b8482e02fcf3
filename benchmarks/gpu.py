"""Our loop on a GPU, in one script of some minutes: speed against a bare loop, and what only a device can show.

Each line says what was done, what came out and whether that is well; exit code 1 if anything is not. With `--cpu` the
same is done at a small size without a GPU, where speeds are told and not judged: so the script itself is tested.

    python -m benchmarks.gpu [--cpu]
"""

import argparse
import math
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bcrit.search_spaces.options import Execution
from bcrit.tuner.training.data import Examples, device_for, most_memory, prepare_gpu
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.child import Call
from bcrit.tuner.workloads.ranks import Ranks
from bcrit.tuner.workloads.supervised import SupervisedWorkload
from benchmarks.steps_per_second import bare

LEAST = 0.9  # of a bare loop's steps a second
APART = 0.05  # of the loss: what bfloat16 may change in some steps
CALL = 20  # steps a call of `train`
_WAITS = ("_local_scalar_dense", "nonzero")  # operations for whose result the host waits


class Wide(SupervisedWorkload):
    """Random data and three wide layers; more than `fits` rows at a time do not fit, as on a small device."""

    hyperparameters = ("fits",)

    def __init__(self, width: int = 64, rows: int = 2048) -> None:
        """Data of so many rows, in layers of this width."""
        self.width, self.n_rows = width, rows

    def model(self, settings: Settings) -> nn.Module:
        """Three layers."""
        layers: list[nn.Module] = [nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, self.width)]
        return nn.Sequential(*layers, nn.ReLU(), Fits(int(settings.number("fits", 2**62))), nn.Linear(self.width, 10))

    def train_data(self) -> Examples:
        """Classes that a linear map of the inputs decides."""
        inputs = torch.randn(self.n_rows, self.width, generator=torch.Generator().manual_seed(0))
        return inputs, inputs[:, :10].argmax(dim=1)

    def validation_data(self) -> Examples:
        """A part of the same."""
        inputs, targets = self.train_data()
        return inputs[:512], targets[:512]


class Fits(nn.Module):
    """Raises where more rows come than fit."""

    def __init__(self, rows: int) -> None:
        """At most so many rows."""
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """The same."""
        if self.training and len(x) > self.rows:
            raise torch.OutOfMemoryError(f"made up: {len(x)} rows")
        return x


def settings(batch_size: int, gpus: float, execution: Execution | None = None, **more: Any) -> Settings:
    """With heavy-ball momentum, as the bare loop."""
    given = {"lr": 0.01, "momentum": 0.9, **more}
    return Settings(batch_size, 0, "momentum", given, execution=execution or Execution(), gpus=gpus)


def timed(run: SupervisedRun, calls: int) -> float:
    """Steps a second, after one call that gets ready."""
    run.train(CALL)
    begun = time.perf_counter()
    for _ in range(calls):
        run.train(CALL)
    return calls * CALL / (time.perf_counter() - begun)


def speed_by_hand(workload: SupervisedWorkload, batch_size: int, device: torch.device, calls: int) -> float:
    """The same of the bare loop."""
    inputs, targets = (part.to(device) for part in workload.train_data())
    loop = bare(workload.model(settings(batch_size, 0)).to(device), inputs, targets, batch_size)

    def call() -> None:
        for _ in range(CALL):
            next(loop)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return calls * CALL / (time.perf_counter() - begun)


def on_a_share(size: tuple[int, int], batch_size: int, gpus: float, calls: int) -> tuple[float, int | None, int]:
    """Of a run in a process of its own: its speed, the rows in a piece where it divides batches, and its memory."""
    if gpus:
        prepare_gpu(gpus)
    torch.set_num_threads(1)
    run = Wide(*size).begin(settings(batch_size, gpus))
    return timed(run, calls), run.micro_batch, most_memory(device_for(gpus)) or 0


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations for whose result the host waits."""

    found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Count, and do it."""
        self.found += func.overloadpacket.__name__ in _WAITS
        return func(*args, **(kwargs or {}))


def waits(run: SupervisedRun, steps: int) -> int:
    """How often the host waits for the device in so many steps; on a GPU PyTorch itself says so too."""
    gpu = torch.cuda.is_available()
    with warnings.catch_warnings(record=True) as said, Waits() as counted:  # type: ignore[no-untyped-call]
        warnings.simplefilter("always")
        if gpu:
            torch.cuda.set_sync_debug_mode("warn")
        run.train(steps)
        if gpu:
            torch.cuda.set_sync_debug_mode("default")
    return int(counted.found) + sum("synchroniz" in str(one.message) for one in said)


def checked(cpu: bool) -> Iterator[tuple[str, bool]]:
    """What came out, and whether it is well."""
    gpus, size, batch_size, calls = (0.0, (64, 2048), 64, 3) if cpu else (1.0, (4096, 65536), 4096, 20)
    device, workload = device_for(gpus), Wide(*size)

    def loss_of(run: SupervisedRun, steps: int = 2 * CALL) -> float:
        run.train(steps)
        return float(run.evaluate()["val_loss"])

    ours, by_hand = (
        timed(workload.begin(settings(batch_size, gpus)), calls),
        speed_by_hand(workload, batch_size, device, calls),
    )
    said = f"one trial on {device}: {ours:,.1f} steps a second, bare loop {by_hand:,.1f}, ratio {ours / by_hand:.2f}"
    yield said, cpu or ours > LEAST * by_hand

    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        halves = [pool.submit(on_a_share, size, batch_size, gpus / 2, calls) for _ in range(2)]
        speeds = [each.result()[0] for each in halves]
    yield f"two trials, a half each: {speeds[0]:,.1f} and {speeds[1]:,.1f}", all(speed > 0 for speed in speeds)

    whole = loss_of(workload.begin(settings(batch_size, gpus)))
    for name, execution, apart in (
        ("bfloat16", Execution(precision="bfloat16"), APART),
        ("compile", Execution(compile=True), 1e-3),
    ):
        run = workload.begin(settings(batch_size, gpus, execution))
        loss = loss_of(run)
        good = math.isclose(loss, whole, rel_tol=apart)
        yield f"{name}: {timed(run, calls):,.1f} steps a second, loss {loss:.5f}, in float32 {whole:.5f}", good

    run = workload.begin(settings(batch_size, gpus, fits=batch_size // 3))
    loss = loss_of(run)
    good = run.micro_batch == batch_size // 4 and math.isclose(loss, whole, rel_tol=1e-3)
    yield f"out of memory (made up): pieces of {run.micro_batch} of {batch_size} rows, loss {loss:.5f}", good
    if not cpu:
        share = 4e9 / torch.cuda.mem_get_info()[1]  # the batch's activations alone take more
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            _, rows, memory = pool.submit(on_a_share, (size[0], 2**17), 2**17, share, 1).result()
        yield f"out of memory (a share of {share:.1%}): pieces of {rows} rows, {memory / 1e9:.1f} GB", rows is not None

    several = 2.0 if not cpu and torch.cuda.device_count() > 1 else 0.0  # NCCL takes one rank a GPU
    call = Call("benchmarks.gpu:Wide", "", {}, 0.02, threads=1, gpus=several, forked=False)
    alone = loss_of(Wide().begin(settings(64, min(several, 1.0))))
    with closing(Ranks(call, 2)) as ranks:
        loss = loss_of(ranks.begin(Wide(), settings(64, several)))
    where = "two GPUs" if several else "the CPU"
    yield f"two processes on {where}: loss {loss:.6f}, one {alone:.6f}", math.isclose(loss, alone, rel_tol=1e-5)

    run = workload.begin(settings(batch_size, gpus))
    run.train(CALL)
    few, many = waits(run, CALL), waits(run, 2 * CALL)
    yield f"the host waits {few} times in {CALL} steps and {many} in {2 * CALL}", few == many


def main() -> int:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="a small size, without a GPU")
    cpu, all_good = parser.parse_args().cpu, True
    if cpu:
        torch.set_num_threads(1)
    for said, good in checked(cpu):
        print(f"{'ok ' if good else 'BAD'} {said}", flush=True)
        all_good &= good
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
