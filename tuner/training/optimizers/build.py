"""Building the optimizer that a run's settings name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.tuner.training.optimizers.classes import arguments, class_of, parameters_of
from bcrit.tuner.training.optimizers.muon import Muon, groups
from bcrit.tuner.training.schedule import learning_rate
from bcrit.tuner.training.settings import Settings


def build_optimizer(model: nn.Module | Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, at its first learning rate.

    Args:
        model: what it updates. From bare parameters `muon` cannot tell embeddings and the output layer apart.
        settings: `optimizer` and its hyperparameters; others are passed over. Without `weight_decay` there is none,
            whatever PyTorch's default is. It is coupled (L2 in the gradient, g + weight_decay x) but in `adamw`,
            `muon`, `adafactor` and `lamb`, where x shrinks by itself. `decoupled_weight_decay` gives the others that:

                x = (1 - lr(t) decoupled_weight_decay) x     before the update at learning rate lr(t)

            which is SGDW and AdamW of Loshchilov and Hutter 2017 with the learning rate in the decay, as in PyTorch.
            Both kinds hold for all parameters, as in PyTorch; only `lars` and `lamb` leave out biases and gains.

    Returns:
        An optimizer whose learning rate the caller sets before every update (`bcrit.tuner.training.schedule`). One that
        does not exist, or that refuses a value, is a ValueError.
    """
    name = EXTRAPOLATED.get(settings.optimizer, settings.optimizer)
    optimizer_class, names = class_of(name), parameters_of(name).names
    keywords = arguments(optimizer_class, {k: v for k, v in settings.hyperparameters.items() if k in names})
    keywords["lr"] = learning_rate(settings.hyperparameters, 0)
    if name == "nesterov":
        # At momentum 0 Nesterov is SGD, which a search space may include; PyTorch refuses the flag there.
        keywords["nesterov"] = keywords["momentum"] > 0
    parameters: Any = model.parameters() if isinstance(model, nn.Module) else model
    optimizer = optimizer_class(groups(model) if optimizer_class is Muon else parameters, **keywords)
    if "decoupled_weight_decay" in names and settings.number("decoupled_weight_decay"):
        optimizer.register_step_pre_hook(_Shrink(settings.number("decoupled_weight_decay")))
    return optimizer


class _Shrink:
    """Decoupled weight decay, before every update."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    @torch.no_grad()
    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            live = [parameter for parameter in group["params"] if parameter.grad is not None]
            torch._foreach_mul_(live, 1.0 - group["lr"] * self._decay)
