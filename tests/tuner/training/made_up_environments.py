"""Environments whose every step is known, in place of gymnasium's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Counting:
    """Environment i has episodes of `lengths[i]` steps; the observation is the number of steps made in the episode.

    A step's reward is 1 + i. Every second environment is truncated and not terminated. They reset themselves at the
    step after an episode's end, like gymnasium's.
    """

    def __init__(self, *lengths: int) -> None:
        self.lengths = np.array(lengths)
        self.num_envs = len(lengths)
        self.taken: list[list[int]] = []
        self.seeds: list[int] = []

    def reset(self, *, seed: int) -> tuple[Any, Any]:
        self.seeds.append(seed)
        self.now = np.zeros(self.num_envs, dtype=int)
        return self._seen(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        self.taken.append(actions.tolist())
        resets = self.now == self.lengths
        self.now = np.where(resets, 0, self.now + 1)
        over = (self.now == self.lengths) & ~resets
        odd = np.arange(self.num_envs) % 2 == 1
        rewards = np.where(resets, 0.0, 1.0 + np.arange(self.num_envs))
        return self._seen(), rewards, over & ~odd, over & odd, {}

    def _seen(self) -> Any:
        return self.now[:, None].astype(np.float64)


class Linear(nn.Module):
    """Two actions, by default equally likely; the value of an observation is itself times `worth`."""

    def __init__(self, worth: float = 10.0, second: float = 0.0) -> None:
        super().__init__()
        self.worth = nn.Parameter(torch.tensor(worth))
        self.second = nn.Parameter(torch.tensor(second))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        seen = observations[:, 0]
        return torch.stack([torch.zeros_like(seen), self.second.expand_as(seen)], dim=1), self.worth * seen
