"""A batch of frames: every environment steps on for a fixed number of steps under the present policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.tuner.training.policy_gradient.environments import (
    ACTIONS,
    ENVIRONMENTS,
    Environments,
    as_tensor,
    sampled,
    stream,
)


@dataclass(frozen=True)
class Rollout:
    """What happened; time along the first axis, environments along the second.

    Attributes:
        observations: s_0 to s_steps, shape (steps + 1, environments, ...).
        values: the critic's V of them, shape (steps + 1, environments).
        actions: shape (steps, environments), like all that follows.
        rewards: of each action.
        terminated: whether the episode terminated with it.
        ended: whether the episode terminated or was truncated with it.
        frames: whether it is a frame at all: False where the environment only reset itself, after an episode's end.
    """

    observations: Tensor
    values: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    ended: Tensor
    frames: Tensor


class Rollouts:
    """Environments in the midst of their episodes, which go on from one rollout to the next."""

    def __init__(
        self, environments: Environments, steps: int, seed: int, clip_rewards: bool, device: torch.device
    ) -> None:
        """Start the episodes.

        Args:
            environments: those of one run, of no other use.
            steps: length of a rollout.
            seed: of the run; actions and environments have a stream of their own each.
            clip_rewards: cut rewards to [-1, 1] (Mnih et al. 2015).
            device: where the model is.
        """
        self._environments, self._steps, self._device = environments, steps, device
        self._clip = clip_rewards
        self._generator = torch.Generator().manual_seed(stream(seed, ACTIONS))
        self._now = as_tensor(environments.reset(seed=stream(seed, ENVIRONMENTS))[0], device)
        self._ended = np.zeros(environments.num_envs, dtype=bool)

    @torch.no_grad()
    def collect(self, model: nn.Module) -> Rollout:
        """Go on for one rollout.

        Args:
            model: observations to logits (n, n_actions) and values (n,).

        Returns:
            On the model's device.
        """
        steps, n, device = self._steps, self._environments.num_envs, self._device
        observations = self._now.new_empty((steps + 1, *self._now.shape))
        values = torch.empty((steps + 1, n), device=device)
        actions = torch.empty((steps, n), dtype=torch.long)
        rewards = np.empty((steps, n), dtype=np.float32)
        terminated, ended, frames = (np.empty((steps, n), dtype=bool) for _ in range(3))
        observations[0] = self._now
        for t in range(steps):
            logits, values[t] = model(observations[t])
            actions[t] = sampled(logits.cpu(), self._generator)
            # A copy of its own: an environment may keep the array.
            found, rewards[t], terminated[t], truncated, _ = self._environments.step(actions[t].numpy().copy())
            observations[t + 1] = as_tensor(found, device)
            frames[t] = ~self._ended
            self._ended = ended[t] = terminated[t] | truncated
        self._now = observations[steps]
        _, values[steps] = model(self._now)
        if self._clip:
            np.clip(rewards, -1.0, 1.0, out=rewards)
        parts = (torch.from_numpy(part).to(device) for part in (rewards, terminated, ended, frames))
        return Rollout(observations, values, actions.to(device), *parts)
