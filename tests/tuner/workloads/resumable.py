"""A training function that leaves its state in its folder, and says what it found there."""

from typing import Any

import torch


def train(config: Any, report: Any) -> None:
    file, step, weights = config.checkpoint / "deep" / "state.pt", 0, torch.randn(4)
    found = file.exists()
    if found:
        step, weights = torch.load(file, weights_only=True)
    while True:
        if step % 2 == 0:
            file.parent.mkdir(exist_ok=True)
            torch.save((step, weights), file)
        report(step=step, loss=float(weights.square().sum()), found=float(found), own=float(step))
        step, weights = step + 1, 0.9 * weights + 0.01 * step
