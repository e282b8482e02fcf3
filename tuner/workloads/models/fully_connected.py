"""Fully connected networks with ReLU, of any widths: Shallue et al. 2018, and Keskar et al. 2016 with normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from bcrit.tuner.workloads.models.normalisation import Normalisation


def fully_connected(
    shape: Sequence[int],
    n_classes: int,
    widths: Sequence[int],
    dropout: float = 0.0,
    norm: Normalisation | None = None,
) -> nn.Module:
    """A flat input, hidden layers with ReLU, and a linear layer to the classes.

    Args:
        shape: of one input.
        n_classes: outputs.
        widths: of the hidden layers, in order.
        dropout: share of each hidden layer's units left out in training (0 in Shallue et al. 2018).
        norm: makes the normalisation layers before each ReLU (network F1 of Keskar et al. 2016 has five hidden layers
            of 512 with them); None = there are none.

    Returns:
        The model.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in pairwise([math.prod(shape), *widths]):
        layers += [nn.Linear(before, width), *([] if norm is None else [norm(width)]), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))
