"""The simple CNN of Shallue et al. 2018, also McCandlish et al.'s for SVHN: two convolutions and a hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bcrit.tuner.workloads.models.pooling import HalvingMaxPool


def simple_cnn(
    shape: Sequence[int], n_classes: int, filters: Sequence[int], hidden: int, dropout: float = 0.0
) -> nn.Module:
    """Convolutions 5 x 5 with ReLU, each followed by 2 x 2 max-pooling, then a hidden layer with ReLU.

    Maps are padded so that a convolution keeps their size; pooling halves it and leaves out an odd last row.

    Args:
        shape: channels, height and width of an input.
        n_classes: outputs.
        filters: of each convolution.
        hidden: width of the hidden layer.
        dropout: share of the hidden layer's units left out in training (0 in both papers).

    Returns:
        The model.

    Raises:
        ValueError: the input is too small for so many poolings.
    """
    if min(shape[1:]) < (least := 2 ** len(filters)):
        raise ValueError(
            f"a simple CNN of {len(filters)} convolutions needs images of at least {least} x {least} pixels, but they "
            f"have {shape[1]} x {shape[2]}; set 'image_size' in 'data', or fewer 'filters'"
        )
    channels, height, width = shape
    layers: list[nn.Module] = []
    for n_filters in filters:
        layers += [nn.Conv2d(channels, n_filters, 5, padding=2), nn.ReLU(), HalvingMaxPool()]
        channels, height, width = n_filters, height // 2, width // 2
    layers += [nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(hidden, n_classes))
