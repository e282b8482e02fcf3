"""How good a policy is: the mean return of whole episodes, the same ones at every evaluation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from bcrit.tuner.training.policy_gradient.environments import (
    ACTIONS,
    ENVIRONMENTS,
    Environments,
    as_tensor,
    sampled,
    stream,
)

_SEED = 2**32  # of every run's evaluation; a run's own seed is smaller


class Episodes:
    """One episode in each of some environments, which training never sees.

    Environments and sampling are seeded anew at every evaluation, with the same numbers in every run: the result
    depends on the weights alone, and two policies are compared with common random numbers.
    """

    def __init__(self, environments: Environments, steps: int, greedy: bool, device: torch.device) -> None:
        """Remember how to evaluate.

        Args:
            environments: as many as episodes.
            steps: an episode is followed for at most so many.
            greedy: take the likeliest action and do not sample.
            device: where the model is.
        """
        self._environments, self._steps, self._greedy, self._device = environments, steps, greedy, device

    @torch.no_grad()
    def mean_return(self, model: nn.Module) -> float:
        """The mean over episodes of the undiscounted sum of rewards.

        Args:
            model: observations to logits (n, n_actions) and values (n,).

        Returns:
            NaN where the policy or the critic is no number: any action at all would have a return.
        """
        generator = torch.Generator().manual_seed(stream(_SEED, ACTIONS))
        observations, _ = self._environments.reset(seed=stream(_SEED, ENVIRONMENTS))
        returns, going = np.zeros(self._environments.num_envs), np.ones(self._environments.num_envs, dtype=bool)
        for step in range(self._steps):
            logits, values = model(as_tensor(observations, self._device))
            logits = logits.cpu()
            # Asked once: it is the weights that are no numbers.
            if step == 0 and not (logits.isfinite().all() and values.isfinite().all()):
                return math.nan
            actions = logits.argmax(dim=1) if self._greedy else sampled(logits, generator)
            observations, rewards, terminated, truncated, _ = self._environments.step(actions.numpy())
            returns += np.where(going, rewards, 0.0)
            going &= ~(terminated | truncated)
            if not going.any():
                break
        return float(returns.mean())
