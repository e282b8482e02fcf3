"""Data-parallel steps in two real processes against the same micro-batches in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bcrit.tuner.training.noise_scale import NoiseScale

ROOT = Path(__file__).parents[4]

# Two ranks, two micro-batches each, gradients averaged by DistributedDataParallel in the last one's backward pass.
RANK = """
import sys, torch, numpy as np
from torch import distributed as dist, nn
from bcrit.tuner.training.noise_scale import NoiseScale
rank, folder, uneven = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "uneven"
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Linear(5, 3, dtype=torch.float64)
noise = NoiseScale({"weight": [model.weight], "bias": [model.bias]}, process_group=dist.group.WORLD)
ranks = nn.parallel.DistributedDataParallel(model)
x, y = torch.randn(12, 24, 5, dtype=torch.float64), torch.randn(12, 24, 3, dtype=torch.float64)
for step in range(12):
    model.zero_grad()
    rows = torch.arange(24).chunk(2)[rank].split([6, 6] if not uneven or rank else [5, 5, 2])
    if uneven and rank:
        rows = rows[:1]
    for k, part in enumerate(rows):
        ranks.require_backward_grad_sync = k == len(rows) - 1
        loss = nn.functional.mse_loss(ranks(x[step][part]), y[step][part])
        (loss * len(part) / sum(map(len, rows))).backward()
        noise.micro_batch(len(part))
    noise.step()
try:
    np.save(f"{folder}/{rank}.npy", np.stack(list(noise.series().values())))
except ValueError as error:
    print(error)
dist.destroy_process_group()
"""


def run(folder: Path, kind: str) -> list[str]:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(folder), kind],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    done = [rank.communicate(timeout=120) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), done
    return [out for out, _ in done]


def test_two_ranks_of_two_micro_batches_are_four_micro_batches(tmp_path: Path) -> None:
    run(tmp_path, "even")
    torch.manual_seed(0)
    model = nn.Linear(5, 3, dtype=torch.float64)
    noise = NoiseScale({name: [parameter] for name, parameter in model.named_parameters()})
    x, y = torch.randn(12, 24, 5, dtype=torch.float64), torch.randn(12, 24, 3, dtype=torch.float64)
    for step in range(12):
        model.zero_grad()
        for part in torch.split(torch.arange(24), 6):
            (nn.functional.mse_loss(model(x[step][part]), y[step][part]) / 4).backward()  # type: ignore[no-untyped-call]
            noise.micro_batch(6)
        noise.step()
    expected = np.stack(list(noise.series().values()))
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), expected, rtol=1e-9)


def test_ranks_of_unequal_rows_are_refused_when_the_estimate_is_read(tmp_path: Path) -> None:
    for message in run(tmp_path, "uneven"):
        assert "every rank must have as many rows and micro-batches as the others" in message


def test_one_process_needs_no_group() -> None:
    with pytest.raises(ValueError, match="a step has no micro-batch"):
        NoiseScale([nn.Parameter(torch.ones(1))]).step()
