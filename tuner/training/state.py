"""What decides how a run goes on, as plain data and tensors: taken from one run, and put into one that has just begun.

A class lists in `changes` the attributes that change along a run. All else a run has again when it is begun with the
same settings, so a run that goes on from a state makes the same bits as one that was never cut off.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

RunState = Mapping[str, Any]
"""Numbers, words, None, tensors, and lists and mappings of them: what `torch.load(weights_only=True)` reads."""


def state_of(thing: Any) -> dict[str, Any]:
    """The state of an object; its tensors may be the object's own, so write them down before it goes on."""
    return {name: _taken(getattr(thing, name)) for name in thing.changes}


def load_state(thing: Any, state: RunState) -> None:
    """Put a state into an object that is as it was at the beginning."""
    for name, saved in state.items():
        if (kept := _put(getattr(thing, name), saved)) is not None:
            setattr(thing, name, kept)


def tensors(model: nn.Module) -> list[Tensor]:
    """All that a model holds, buffers too that its `state_dict` leaves out."""
    return [*model.parameters(), *model.buffers()]


def _taken(value: Any) -> Any:
    if hasattr(value, "changes"):
        return state_of(value)
    if isinstance(value, nn.Module):
        return [tensor.detach() for tensor in tensors(value)]
    if isinstance(value, torch.optim.Optimizer):
        return value.state_dict()
    if isinstance(value, torch.Generator):
        return value.get_state()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


@torch.no_grad()
def _put(value: Any, saved: Any) -> Any:
    """Put it into what is there; where that is a plain value, what is to take its place."""
    if hasattr(value, "changes"):
        load_state(value, saved)
    elif isinstance(value, nn.Module):
        for tensor, old in zip(tensors(value), saved, strict=True):
            tensor.copy_(old)
    elif isinstance(value, torch.optim.Optimizer):
        value.load_state_dict(saved)
    elif isinstance(value, torch.Generator):
        value.set_state(saved)
    elif isinstance(value, np.ndarray):
        value[...] = saved.numpy()
    else:
        return saved
    return None
