"""A training function of your own: a plain PyTorch loop that learns Friedman's function (data made by scikit-learn)."""

from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import make_friedman1
from torch import Tensor, nn


def make(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs in [-1, 1] and targets with mean 0 and variance 1, a twenty-fifth of which is noise."""
    x, y = make_friedman1(n, noise=1.0, random_state=seed)
    return torch.tensor(2 * x - 1).float(), torch.tensor((y - 14.4) / 5).float()[:, None]


# What a module makes when it is imported is shared by all trials.
INPUTS, TARGETS = make(2048, seed=0)
VALIDATION = make(512, seed=1)


def train(config: Any, report: Callable[..., None]) -> None:
    """Train at `config.batch_size` and report; `report` ends the trial when there is nothing more to learn from it."""
    generator = torch.Generator().manual_seed(config.seed)  # the data's order; PyTorch itself is seeded already
    model = nn.Sequential(nn.Linear(10, config.width), nn.Tanh(), nn.Linear(config.width, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.get("weight_decay", 0.0))
    evaluation = 0
    for step in range(config.max_steps + 1):
        if step == evaluation:
            with torch.no_grad():
                report(step=step, val_error=nn.functional.mse_loss(model(VALIDATION[0]), VALIDATION[1]))
            evaluation = config.next_evaluation(step)
        batch = torch.randint(len(INPUTS), (config.batch_size,), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(INPUTS[batch]), TARGETS[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
