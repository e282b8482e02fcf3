"""Fully connected networks with ReLU, of any widths: fc_1024, fc_512_512_512 and so on (Shallue et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def fully_connected(shape: Sequence[int], n_classes: int, widths: Sequence[int], dropout: float = 0.0) -> nn.Module:
    """A flat input, hidden layers with ReLU, and a linear layer to the classes.

    Args:
        shape: of one input.
        n_classes: outputs.
        widths: of the hidden layers, in order.
        dropout: share of each hidden layer's units left out in training (0 in Shallue et al. 2018).

    Returns:
        The model.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in pairwise([math.prod(shape), *widths]):
        layers += [nn.Linear(before, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))
