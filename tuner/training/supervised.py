"""One run of supervised training: model, loss, optimizer, schedule and data order brought together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from search_spaces.presets import AVERAGED
from tuner.training.averaging import build_average
from tuner.training.data import batches
from tuner.training.schedule import learning_rate
from tuner.training.settings import Settings
from tuner.training.stepper import build_stepper

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
        self._parameters = list(self._model.parameters())
        self._stepper = build_stepper(self._model, settings)
        self._average = build_average(self._model, settings)
        self._step = 0

    @property
    def gradient_examples(self) -> int:
        """Gradients of single examples taken so far: batch_size x step, or more where an update takes several."""
        return self._stepper.gradients * self._settings.batch_size * self._step

    def train(self, steps: int) -> None:
        """Make this many optimizer updates; the device is waited for once, after the last."""
        with self._randomness.in_use():
            for _ in range(steps):
                self._update()
        if self._inputs.is_cuda:
            torch.cuda.synchronize(self._inputs.device)

    def _update(self) -> None:
        lr = learning_rate(self._settings.hyperparameters, self._step)
        self._stepper.step(lr, next(self._batches), self._gradient)
        if self._average is not None:
            self._average.update()
        self._step += 1

    def _gradient(self, examples: Tensor) -> None:
        """The mean gradient over these examples (see `tuner.training.gradient`)."""
        outputs = self._model(self._inputs.index_select(0, examples))
        loss = self._loss(outputs, self._targets.index_select(0, examples))
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The metrics on the whole validation set, with the model in evaluation mode.

        Where weights are averaged, each metric is there a second time with the suffix `_ema`: that of the average.
        """
        self._model.eval()
        metrics = dict(self._evaluated(self._model))
        self._model.train()
        if self._average is not None:
            averaged = self._evaluated(self._average.model)
            metrics |= {f"{name}{AVERAGED}": value for name, value in averaged.items()}
        return metrics

    def _evaluated(self, model: nn.Module) -> Mapping[str, float]:
        inputs, targets = self._validation
        # A model that is random even in evaluation draws from a copy of the run's stream, which training never sees.
        with self._randomness.in_use(advance=False):
            outputs = torch.cat([model(part) for part in torch.split(inputs, _EVALUATION_BATCH)])
            return self._score(outputs, targets)


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
