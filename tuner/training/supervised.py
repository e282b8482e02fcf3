"""One run of supervised training: model, loss, optimizer, schedule and data order brought together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tuner.training.data import batches
from tuner.training.optimizers import build_optimizer
from tuner.training.schedule import learning_rate
from tuner.training.settings import Settings

Examples = tuple[Tensor, Tensor]
"""Inputs and targets, with the examples along the first axis of both."""

_EVALUATION_BATCH = 4096  # examples; chosen, not studied: bounds the memory of a large validation set's activations


class SupervisedRun:
    """A training run that depends on its settings alone, bit for bit on one device and thread count.

    How updates are divided into calls of `train`, when `evaluate` is called, and what else runs in the process between
    the calls make no difference: the run has its own stream of PyTorch's random numbers (initialisation, dropout) from
    the seed, and leaves the process' stream as it found it.
    """

    def __init__(
        self,
        settings: Settings,
        build_model: Callable[[Settings], nn.Module],
        loss: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Tensor, Tensor], Mapping[str, float]],
        train: Examples,
        validation: Examples,
    ) -> None:
        """Initialise the model and stand before the first update.

        Args:
            settings: all that decides the run.
            build_model: makes the model, on the CPU so that its numbers are the same for every device.
            loss: of a batch's (outputs, targets): the mean over examples, a scalar.
            score: of the validation set's (outputs, targets): the metrics.
            train: the training set, on the device to train on.
            validation: the validation set, on the same device.
        """
        self._settings = settings
        self._loss = loss
        self._score = score
        self._inputs, self._targets = train
        self._validation = validation
        device = self._inputs.device
        self._batches = batches(len(self._inputs), settings.batch_size, settings.seed, device)
        self._randomness = _Randomness(device, settings.seed)
        with self._randomness.in_use():
            self._model = build_model(settings).to(device)
        self._model.train()
        self._optimizer = build_optimizer(self._model.parameters(), settings)
        self._step = 0

    def train(self, steps: int) -> None:
        """Make this many optimizer updates; the device is waited for once, after the last."""
        with self._randomness.in_use():
            for _ in range(steps):
                self._update()
        if self._inputs.is_cuda:
            torch.cuda.synchronize(self._inputs.device)

    def _update(self) -> None:
        lr = learning_rate(self._settings.hyperparameters, self._step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        batch = next(self._batches)
        outputs = self._model(self._inputs.index_select(0, batch))
        loss = self._loss(outputs, self._targets.index_select(0, batch))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._step += 1

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The metrics on the whole validation set, with the model in evaluation mode."""
        inputs, targets = self._validation
        self._model.eval()
        # A model that is random even in evaluation draws from a copy of the run's stream, which training never sees.
        with self._randomness.in_use(advance=False):
            outputs = torch.cat([self._model(part) for part in torch.split(inputs, _EVALUATION_BATCH)])
            metrics = self._score(outputs, targets)
        self._model.train()
        return metrics


class _Randomness:
    """A run's own stream of PyTorch's random numbers, for layers that can only draw from the global one (dropout)."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self._devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(seed)
            self._keep()

    def _keep(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(device) for device in self._devices]

    @contextmanager
    def in_use(self, advance: bool = True) -> Iterator[None]:
        """Put the run's stream in the global one's place; costs 5 us. `advance=False` forgets what was drawn."""
        with torch.random.fork_rng(devices=self._devices):
            torch.set_rng_state(self._cpu)
            for device, state in zip(self._devices, self._cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            if advance:
                self._keep()
