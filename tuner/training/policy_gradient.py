"""Policy-gradient training (A2C): the run, its rollouts, how a policy is judged, advantages and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.updates import Updates

METRIC = "val_return"
ACTIONS: Final = 1
ENVIRONMENTS: Final = 2
"""The streams of random numbers that a run has beside that of its initial weights; `stream` keeps them apart."""

_SEED = 2**32  # of every run's evaluation; a run's own seed is smaller
_TINY = 1e-8  # beside the advantages' deviation, as in OpenAI's baselines


Environments = Any
"""Copies of one environment that step together, as `gymnasium.vector.VectorEnv`: `num_envs`, `reset` and `step`.

They reset themselves in gymnasium's way NEXT_STEP: where an episode ends at a step, that step returns its last
observation; the step after it ignores the action, only resets, and returns a first observation with reward 0.
"""


class PolicyGradientRun:
    """Synchronous advantage actor-critic (A2C): one update for each rollout (Mnih et al. 2016).

    The loss is the mean over the batch's frames. The row of a step in which an environment only reset itself is no
    frame and has weight 0; the others share its weight, so that the mean over all rows is that over the frames, also
    where it is taken over equal pieces of the batch one after the other. Rows stand environment by environment: a
    piece of a multiple of the rollout's length is what so many environments saw.

    The run depends on its settings alone, bit for bit on one device and thread count, however its updates are divided
    into calls of `train` and whenever it is evaluated.
    """

    def __init__(
        self,
        settings: Settings,
        build_model: Callable[[Settings], nn.Module],  # on the CPU, so that its numbers are those of every device
        rollouts: Rollouts,  # the batches, of settings.batch_size frames
        episodes: Episodes,  # the metric
        coefficients: Coefficients,
        # give the batch's advantages mean 0 and deviation 1: the loss is then no mean over frames any more, for a
        # frame's part depends on the others
        normalise: bool,
        device: torch.device,
    ) -> None:
        self._settings, self._rollouts, self._episodes = settings, rollouts, episodes
        self._coefficients, self._normalise, self._device = coefficients, normalise, device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(settings.seed)
            self._model = build_model(settings).to(device)
        self._parameters = list(self._model.parameters())
        self._updates = Updates(self._model, settings)
        self.gradients_per_example = self._updates.gradients  # of each frame of a batch, by an update
        self._all = torch.arange(settings.batch_size, device=device)

    def train(self, steps: int) -> None:
        """Make this many optimizer updates, each from a rollout of its own; the time taken is that of both."""
        for _ in range(steps):
            rows = self._rows(self._rollouts.collect(self._model))
            self._updates.make(self._all, partial(self._gradient, rows))
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _rows(self, rollout: Rollout) -> tuple[Tensor, ...]:
        """Observations, actions, advantages, returns and weights of all rows, environment by environment."""
        given = self._coefficients
        ends = rollout.terminated, rollout.ended
        found = advantages(rollout.rewards, rollout.values, *ends, given.gamma, given.gae_lambda)
        returns = found + rollout.values[:-1]
        if self._normalise:
            of_frames = found[rollout.frames]
            found = (found - of_frames.mean()) / (of_frames.std(correction=0) + _TINY)
        weights = rollout.frames / rollout.frames.float().mean().clamp(min=1 / self._settings.batch_size)
        parts = (rollout.observations[:-1], rollout.actions, found, returns, weights)
        return tuple(part.transpose(0, 1).flatten(0, 1) for part in parts)

    def _gradient(self, rows: tuple[Tensor, ...], indices: Tensor) -> None:
        """The mean gradient over these rows (see `bcrit.tuner.training.updates`)."""
        observations, actions, found, returns, weights = (part.index_select(0, indices) for part in rows)
        logits, values = self._model(observations)
        loss = (weights * losses(logits, values, actions, found, returns, self._coefficients)).mean()
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]

    def evaluate(self) -> Mapping[str, float]:
        """The mean return of whole episodes; where weights are averaged, that of the average too (suffix `_ema`)."""
        return self._updates.metrics(lambda model: {METRIC: self._episodes.mean_return(model)})


@dataclass(frozen=True)
class Rollout:
    """A batch of frames; time along the first axis, environments along the second."""

    observations: Tensor  # s_0 to s_steps, shape (steps + 1, environments, ...)
    values: Tensor  # the critic's V of them, shape (steps + 1, environments)
    actions: Tensor  # shape (steps, environments), like all that follows
    rewards: Tensor  # of each action
    terminated: Tensor  # whether the episode terminated with it
    ended: Tensor  # whether the episode terminated or was truncated with it
    # whether it is a frame at all: False where the environment only reset itself, after an episode's end
    frames: Tensor


class Rollouts:
    """Environments in the midst of their episodes, which go on from one rollout to the next.

    Rewards are cut to [-1, 1] if they are to be clipped (Mnih et al. 2015). A model gives logits, (n, n_actions), and
    values, (n,).
    """

    def __init__(
        self, environments: Environments, steps: int, seed: int, clip_rewards: bool, device: torch.device
    ) -> None:
        self._environments, self._steps, self._device = environments, steps, device
        self._clip = clip_rewards
        self._generator = torch.Generator().manual_seed(stream(seed, ACTIONS))
        self._now = as_tensor(environments.reset(seed=stream(seed, ENVIRONMENTS))[0], device)
        self._ended = np.zeros(environments.num_envs, dtype=bool)

    @torch.no_grad()
    def collect(self, model: nn.Module) -> Rollout:
        """Every environment goes on for one rollout's steps under the present policy."""
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


class Episodes:
    """One episode in each of some environments, which training never sees.

    Environments and sampling are seeded anew at every evaluation, with the same numbers in every run: the result
    depends on the weights alone, and two policies are compared with common random numbers. An episode is followed for
    `steps` at most; a `greedy` policy takes the likeliest action and does not sample.
    """

    def __init__(self, environments: Environments, steps: int, greedy: bool, device: torch.device) -> None:
        self._environments, self._steps, self._greedy, self._device = environments, steps, greedy, device

    @torch.no_grad()
    def mean_return(self, model: nn.Module) -> float:
        """The mean over episodes of the undiscounted sum of rewards.

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


def advantages(
    rewards: Tensor, values: Tensor, terminated: Tensor, ended: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16, cut at the end of the rollout).

        delta_t = r_t + gamma V(s_{t+1}) - V(s_t),    V(s_{t+1}) = 0 where the episode terminated at t
        A_t = delta_t + gamma lambda A_{t+1},         A_{t+1} = 0 where the episode ended at t, and after the last step

    At lambda 1 this is R_t - V(s_t) with the return R_t = r_t + gamma R_{t+1} of Mnih et al. 2016 (algorithm S3): it
    runs to the end of the rollout, at most `rollout_length` steps, and is continued by V of the state found there.
    Where an episode is only truncated, by a time limit, it is continued by V of its last state too, because the task
    would have gone on (Pardo et al. 2018); a terminated one is not.

    `values` are V(s_0) to V(s_steps), shape (steps + 1, environments), all else has shape (steps, environments). Where
    an episode ended at t, s_{t+1} is its last state.
    """
    found = rewards + gamma * values[1:] * ~terminated - values[:-1]
    carried = gamma * gae_lambda * (~ended).to(found.dtype)
    for t in reversed(range(len(found) - 1)):
        torch.addcmul(found[t], carried[t], found[t + 1], out=found[t])
    return found


@dataclass(frozen=True)
class Coefficients:
    """What decides the loss beside the frames."""

    gamma: float  # discount of rewards, a frame
    gae_lambda: float  # see `advantages`; 1 = n-step returns
    value: float  # factor of the critic's squared error
    entropy: float  # factor of the policy's entropy

    def __post_init__(self) -> None:
        for name, number in (("gamma", self.gamma), ("gae_lambda", self.gae_lambda)):
            if not 0.0 <= number <= 1.0:
                raise ValueError(f"'{name}' must lie in [0, 1], but it is {number!r}; 0.99 and 1 are usual")
        for name, number in (("value_coefficient", self.value), ("entropy_coefficient", self.entropy)):
            if not 0.0 <= number < float("inf"):
                raise ValueError(f"'{name}' must be a finite number from 0, but it is {number!r}; try 0.5 and 0.01")


def losses(
    logits: Tensor, values: Tensor, actions: Tensor, advantages: Tensor, returns: Tensor, coefficients: Coefficients
) -> Tensor:
    """The loss of each frame (Mnih et al. 2016, section 4 and algorithm S3).

        -log pi(a|s) A + value_coefficient (R - V(s))^2 - entropy_coefficient H(pi(.|s))

    A and R = A + V(s) are constants, computed from the values at the weights that acted; H is in nats. `logits` have
    shape (n, n_actions), all else, and what is returned, shape (n,).
    """
    log_policy = logits.log_softmax(dim=1)
    taken = log_policy.gather(1, actions[:, None]).squeeze(1)
    entropy = -(log_policy.exp() * log_policy).sum(dim=1)
    return coefficients.value * (returns - values).square() - taken * advantages - coefficients.entropy * entropy
