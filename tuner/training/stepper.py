"""One optimizer update of a model: at which weights gradients are taken, and how many."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.tuner.training.extrapolation import Extrapolated
from bcrit.tuner.training.gradient import Gradient
from bcrit.tuner.training.optimizers import bare_step, build_optimizer
from bcrit.tuner.training.settings import Settings


class Stepper(Protocol):
    """What makes updates.

    Attributes:
        gradients: how many gradients of each example of a batch one update takes.
        local_batch: over how many examples each of them is the mean.
    """

    gradients: int
    local_batch: int

    def step(self, lr: float, batch: Tensor, gradient: Gradient) -> None:
        """Make one update.

        Args:
            lr: learning rate of this update.
            batch: indices of its examples, shape (batch_size,).
            gradient: computes their gradient.
        """
        ...


class Plain:
    """One gradient at the present weights, then the optimizer's update."""

    gradients = 1

    def __init__(self, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
        """Wrap a PyTorch optimizer.

        Args:
            optimizer: it updates the model.
            batch_size: examples of a batch.
        """
        self._optimizer, self.local_batch = optimizer, batch_size
        self._update = bare_step(optimizer)

    def step(self, lr: float, batch: Tensor, gradient: Gradient) -> None:
        """As `Stepper`."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        gradient(batch)
        self._update()


def build_stepper(model: nn.Module, settings: Settings) -> Stepper:
    """The stepper that the settings name.

    Args:
        model: what it updates.
        settings: `optimizer` and its hyperparameters.

    Returns:
        An extrapolating one where the optimizer's name says so. At an extrapolation of 0 every gradient is taken at the
        present weights, so that nothing but the base optimizer is left, bit for bit, and nothing is computed twice.
        An optimizer that does not exist, or an impossible value, is a ValueError.
    """
    optimizer = build_optimizer(model, settings)
    if settings.optimizer in EXTRAPOLATED and settings.number("extrapolation_lr") > 0:
        return Extrapolated(optimizer, settings)
    return Plain(optimizer, settings.batch_size)
