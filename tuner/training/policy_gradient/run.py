"""One run of policy-gradient training: rollouts, loss, optimizer and schedule brought together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import AVERAGED
from bcrit.tuner.training.averaging import build_average
from bcrit.tuner.training.policy_gradient.advantages import advantages
from bcrit.tuner.training.policy_gradient.episodes import Episodes
from bcrit.tuner.training.policy_gradient.loss import Coefficients, losses
from bcrit.tuner.training.policy_gradient.rollouts import Rollout, Rollouts
from bcrit.tuner.training.schedule import learning_rate
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.stepper import build_stepper

METRIC = "val_return"
_TINY = 1e-8  # beside the advantages' deviation, as in OpenAI's baselines


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
        build_model: Callable[[Settings], nn.Module],
        rollouts: Rollouts,
        episodes: Episodes,
        coefficients: Coefficients,
        normalise: bool,
        device: torch.device,
    ) -> None:
        """Initialise the model and stand before the first update.

        Args:
            settings: all that decides the run.
            build_model: makes the model, on the CPU so that its numbers are the same for every device.
            rollouts: gives its batches, of settings.batch_size frames.
            episodes: gives its metric.
            coefficients: of the loss.
            normalise: give the batch's advantages mean 0 and deviation 1; the loss is then no mean over frames any
                more, for a frame's part depends on the others.
            device: where the model is.
        """
        self._settings, self._rollouts, self._episodes = settings, rollouts, episodes
        self._coefficients, self._normalise, self._device = coefficients, normalise, device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(settings.seed)
            self._model = build_model(settings).to(device)
        self._parameters = list(self._model.parameters())
        self._stepper = build_stepper(self._model, settings)
        self._average = build_average(self._model, settings)
        self._all = torch.arange(settings.batch_size, device=device)
        self._step = 0

    @property
    def gradients_per_example(self) -> int:
        """Gradients of each frame of a batch that an update takes."""
        return self._stepper.gradients

    def train(self, steps: int) -> None:
        """Make this many optimizer updates, each from a rollout of its own; the time taken is that of both."""
        for _ in range(steps):
            rows = self._rows(self._rollouts.collect(self._model))
            lr = learning_rate(self._settings.hyperparameters, self._step)
            self._stepper.step(lr, self._all, partial(self._gradient, rows))
            if self._average is not None:
                self._average.update()
            self._step += 1
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _rows(self, rollout: Rollout) -> tuple[Tensor, ...]:
        """Observations, actions, advantages, returns and weights of all rows, environment by environment."""
        given = self._coefficients
        found = advantages(
            rollout.rewards, rollout.values, rollout.terminated, rollout.ended, given.gamma, given.gae_lambda
        )
        returns = found + rollout.values[:-1]
        if self._normalise:
            of_frames = found[rollout.frames]
            found = (found - of_frames.mean()) / (of_frames.std(correction=0) + _TINY)
        weights = rollout.frames / rollout.frames.float().mean().clamp(min=1 / self._settings.batch_size)
        parts = (rollout.observations[:-1], rollout.actions, found, returns, weights)
        return tuple(part.transpose(0, 1).flatten(0, 1) for part in parts)

    def _gradient(self, rows: tuple[Tensor, ...], indices: Tensor) -> None:
        """The mean gradient over these rows (see `bcrit.tuner.training.gradient`)."""
        observations, actions, found, returns, weights = (part.index_select(0, indices) for part in rows)
        logits, values = self._model(observations)
        loss = (weights * losses(logits, values, actions, found, returns, self._coefficients)).mean()
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]

    def evaluate(self) -> Mapping[str, float]:
        """The mean return of whole episodes; where weights are averaged, that of the average too (suffix `_ema`)."""
        metrics = {METRIC: self._episodes.mean_return(self._model)}
        if self._average is not None:
            metrics[f"{METRIC}{AVERAGED}"] = self._episodes.mean_return(self._average.model)
        return metrics
