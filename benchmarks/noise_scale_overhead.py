"""What the gradient noise scale costs a training step: the same loop with and without `NoiseScale`, step about.

A step is four micro-batches of 16 images of 32 x 32 through a ResNet of 0.7 million parameters, and SGD with momentum.
Three copies of the model take their steps in turn: two without, to see what the comparison is worth, and one with.

    python -m benchmarks.noise_scale_overhead [--steps 20] [--device cuda]
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale import NoiseScale

MICRO_BATCHES, ROWS = 4, 16
LIMIT = 0.03


class Block(nn.Module):
    """Two convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add to the input."""
        out: Tensor = x + self.inner(x)
        return out


def network() -> nn.Module:
    """Many small tensors: the dear case, because each has a hook of its own."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        *(Block(32) for _ in range(3)),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        *(Block(64) for _ in range(3)),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        Block(128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def one_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, noise: NoiseScale | None
) -> float:
    """Seconds of one step: of the processor on the CPU, so that other work on it does not count, else of the clock."""
    clock = time.perf_counter if x.is_cuda else time.process_time
    if x.is_cuda:
        torch.cuda.synchronize()
    begun = clock()
    for inputs, targets in zip(torch.split(x, ROWS), torch.split(y, ROWS), strict=True):
        (nn.functional.cross_entropy(model(inputs), targets) / MICRO_BATCHES).backward()  # type: ignore[no-untyped-call]
        if noise is not None:
            noise.micro_batch(ROWS)
    if noise is not None:
        noise.step()
    optimizer.step()
    optimizer.zero_grad()
    if x.is_cuda:
        torch.cuda.synchronize()
    return clock() - begun


def main() -> None:
    """Print both medians and the median of the ratios of neighbours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of each copy")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, on the CPU")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    models = [network().to(given.device) for _ in range(3)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9) for model in models]
    noises = [None, None, NoiseScale(models[2].parameters())]
    x = torch.randn(MICRO_BATCHES * ROWS, 3, 32, 32, device=given.device)
    y = torch.randint(10, (len(x),), device=given.device)
    times: list[list[float]] = [[], [], []]
    for k in range(given.steps + 2):
        for i in (0, 1, 2) if k % 2 else (2, 1, 0):
            times[i].append(one_step(models[i], optimizers[i], x, y, noises[i]))
    plain, control, probed = (each[2:] for each in times)  # the first ones warm up
    tensors = [p.numel() for p in models[0].parameters()]
    print(f"{sum(tensors):,} parameters in {len(tensors)} tensors, {MICRO_BATCHES} micro-batches of {ROWS}")
    for name, each in (("without", plain), ("again", control), ("with", probed)):
        print(f"{name:>8}: {1000 * statistics.median(each):.2f} ms a step")
    same, ratio = (statistics.median(b / a for a, b in zip(plain, each, strict=True)) for each in (control, probed))
    print(f"without against itself {same:.4f}")
    print(f"with against without {ratio:.4f}, limit {1 + LIMIT}: {(ratio - 1) / LIMIT:.2f} of what is allowed")


if __name__ == "__main__":
    main()
