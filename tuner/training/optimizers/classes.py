"""Which class an optimizer's name means, and which plain hyperparameters that class takes."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import torch

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.presets import EXTRAPOLATED, OPTIMIZERS, Parameters
from bcrit.tuner.training.optimizers.layerwise import Lamb, Lars
from bcrit.tuner.training.optimizers.muon import Muon

_OURS: Final[dict[str, type[torch.optim.Optimizer]]] = {
    "momentum": torch.optim.SGD,
    "nesterov": torch.optim.SGD,
    "muon": Muon,
    "lars": Lars,
    "lamb": Lamb,
}
_REFUSED: Final = {
    "lbfgs": "it evaluates the loss many times an update, on one fixed batch, which makes it no stochastic method",
    "sparseadam": "it takes sparse gradients only; choose adam",
    "optimizer": "it is the base of the others",
}
# How a class computes, not what: these stay as we or PyTorch choose them. The flag `decoupled_weight_decay` of some
# classes is left alone, because a number of that name is one formula for all of them (`build`).
_IMPLEMENTATION: Final = {"params", "foreach", "fused", "maximize", "capturable", "differentiable"} | {
    "decoupled_weight_decay"
}
# In these classes `weight_decay` is decoupled already (x shrinks by lr weight_decay); Rprop has none at all.
_DECOUPLED: Final = {"adamw", "muon", "adafactor", "lamb"}


@cache
def class_of(name: str) -> type[torch.optim.Optimizer]:
    """The class behind an optimizer's name (in lower case).

    Args:
        name: one of `presets.OPTIMIZERS`, or a class of `torch.optim`.

    Returns:
        The class.

    Raises:
        ValueError: there is none, or it cannot train by steps on batches.
    """
    name = EXTRAPOLATED.get(name, name)
    if name in _REFUSED:
        raise ValueError(f"optimizer '{name}' cannot be used here: {_REFUSED[name]}")
    classes = {key.lower(): found for key, found in vars(torch.optim).items() if isinstance(found, type)}
    found = _OURS.get(name) or classes.get(name)
    if found is None or not issubclass(found, torch.optim.Optimizer):
        known = sorted(
            {*OPTIMIZERS, *(n for n, c in classes.items() if issubclass(c, torch.optim.Optimizer))} - {*_REFUSED}
        )
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"there is no optimizer '{name}'; {hint}choose one of {', '.join(known)}")
    return found


@cache
def parameters_of(name: str) -> Parameters:
    """The hyperparameters of an optimizer: from the presets, or read from the class's signature.

    Args:
        name: as for `class_of`.

    Returns:
        What it needs and may have, under plain names; a ValueError where there is no such optimizer.
    """
    optimizer = class_of(name)
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    optional = [plain for plain in keywords_of(optimizer) if plain != "lr"]
    if name not in _DECOUPLED:
        optional.append("decoupled_weight_decay")
    return Parameters(("lr",), tuple(optional))


def keywords_of(optimizer: type[torch.optim.Optimizer]) -> Mapping[str, tuple[str, int | None]]:
    """How a class's arguments are called here.

    An argument that is a tuple becomes one hyperparameter for each entry: `betas` is `beta1` and `beta2`, `etas` is
    `eta1` and `eta2`.

    Args:
        optimizer: the class.

    Returns:
        Plain name -> (keyword, place in its tuple, or None where it is a single value).
    """
    found: dict[str, tuple[str, int | None]] = {}
    for keyword, parameter in inspect.signature(optimizer).parameters.items():
        if keyword in _IMPLEMENTATION:
            continue
        if isinstance(parameter.default, tuple):
            stem = keyword if keyword == "eps" else keyword.removesuffix("s")
            found |= {f"{stem}{i + 1}": (keyword, i) for i in range(len(parameter.default))}
        else:
            found[keyword] = (keyword, None)
    return found


def arguments(optimizer: type[torch.optim.Optimizer], given: Mapping[str, Value]) -> dict[str, Any]:
    """Plain hyperparameters as keyword arguments of a class.

    Args:
        optimizer: the class.
        given: hyperparameters of its; the entries of a tuple that are missing keep their defaults.

    Returns:
        The arguments. Fused where PyTorch has it, and without weight decay where none is given.

    Raises:
        ValueError: a flag is not true or false.
    """
    defaults = {key: p.default for key, p in inspect.signature(optimizer).parameters.items()}
    found: dict[str, Any] = {}
    for plain, (keyword, place) in keywords_of(optimizer).items():
        if plain not in given:
            continue
        if isinstance(defaults[keyword], bool) and not isinstance(given[plain], bool):
            raise ValueError(
                f"'{plain}' is true or false, a bare value that is not searched, but it is {given[plain]!r}"
            )
        if place is None:
            found[keyword] = given[plain]
        else:
            values = list(found.get(keyword, defaults[keyword]))
            values[place] = given[plain]
            found[keyword] = tuple(values)
    if "weight_decay" in defaults:
        found.setdefault("weight_decay", 0.0)
    if "fused" in defaults:
        # An update of a 64-128-10 network, in us, fused against what PyTorch takes by itself: SGD 21 and 22, Adam 45
        # and 175, AdamW 74 and 201, Adagrad 38 and 81 (one thread of a busy machine, PyTorch 2.13).
        found["fused"] = True
    return found
