"""What training asks of environments, and how a policy picks actions in them."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor

ACTIONS: Final = 1
ENVIRONMENTS: Final = 2
"""The streams of random numbers that a run has beside that of its initial weights; `stream` keeps them apart."""


class Environments(Protocol):
    """Copies of one environment that step together: a part of `gymnasium.vector.VectorEnv`.

    They reset themselves in gymnasium's way NEXT_STEP: where an episode ends at a step, that step returns its last
    observation; the step after it ignores the action, only resets, and returns a first observation with reward 0.

    Attributes:
        num_envs: how many.
    """

    num_envs: int

    def reset(self, *, seed: int) -> tuple[Any, Any]:
        """Start all episodes anew: observations (num_envs, ...) and information."""
        ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Observations, rewards, whether terminated, whether truncated, each (num_envs, ...), and information."""
        ...


def stream(seed: int, which: int) -> int:
    """A seed of its own for each use of a run's seed.

    It is mixed, because environments take consecutive seeds: those of runs with seeds 0 and 1 would overlap. Below
    2^30, so that an environment's number can be added where seeds have 32 bits with a sign.
    """
    return int(np.random.SeedSequence((seed, which)).generate_state(1)[0]) % 2**30


def sampled(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from softmax(logits), shape (n, n_actions) on the CPU: argmax(logits + Gumbel noise), shape (n,).

    A NaN among the logits gives some action and no error; evaluation says that the run diverged.
    """
    uniform = torch.rand(logits.shape, generator=generator)
    return (logits - uniform.log_().neg_().log_()).argmax(dim=1)


def as_tensor(observations: Any, device: torch.device) -> Tensor:
    """Observations of one step: bytes stay bytes, any other number becomes 32 bits."""
    tensor = torch.from_numpy(np.asarray(observations)).to(device)
    return tensor if tensor.dtype == torch.uint8 else tensor.float()
