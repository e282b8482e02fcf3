"""VGG-11 (Simonyan and Zisserman 2015, configuration A) with batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bcrit.tuner.workloads.models.normalisation import Normalisation
from bcrit.tuner.workloads.models.pooling import HalvingMaxPool

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg_11(shape: Sequence[int], n_classes: int, norm: Normalisation, dropout: float = 0.5) -> nn.Module:
    """Eight 3 x 3 convolutions in five stages that end with 2 x 2 max-pooling, and three linear layers.

    Args:
        shape: channels, height and width of an input (3, 224, 224 in the paper), at least 32 x 32.
        n_classes: outputs.
        norm: makes normalisation layers.
        dropout: share of the two hidden linear layers' units left out in training (0.5 in the paper).

    Returns:
        The model.

    Raises:
        ValueError: the input is too small for five poolings.
    """
    before, height, width = shape
    if min(height, width) < 32:
        raise ValueError(
            f"vgg_11 needs images of at least 32 x 32 pixels, but they have {height} x {width}; set "
            "'image_size: 32' in 'data', or choose another model"
        )
    layers: list[nn.Module] = []
    for stage in _STAGES:
        for channels in stage:
            layers += [nn.Conv2d(before, channels, 3, padding=1), norm(channels), nn.ReLU()]
            before = channels
        layers.append(HalvingMaxPool())
    layers.append(nn.Flatten())
    inputs = before * (height // 32) * (width // 32)
    for size in (inputs, 4096):
        layers += [nn.Linear(size, 4096), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(4096, n_classes))
