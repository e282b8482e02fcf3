"""The image classifiers by name, with the sizes that an experiment may change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from torch import nn

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.models.catalogue import read_model
from bcrit.tuner.workloads.models.fully_connected import fully_connected
from bcrit.tuner.workloads.models.normalisation import Normalisation
from bcrit.tuner.workloads.models.resnet import resnet_8, resnet_50
from bcrit.tuner.workloads.models.simple_cnn import simple_cnn
from bcrit.tuner.workloads.models.vgg import vgg_11
from bcrit.tuner.workloads.options import Width, Widths


class Classifier(Frozen):
    """A model and its sizes.

    Attributes:
        dropout: share of units left out in training where a trial's settings do not say; None = it has no dropout.
        normalised: whether it has normalisation layers.
    """

    dropout: ClassVar[float | None] = None
    normalised: ClassVar[bool] = False

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """A freshly initialised model of images of this shape (channels, height, width)."""
        raise NotImplementedError


class FullyConnected(Classifier):
    """Hidden layers of these widths."""

    dropout: ClassVar[float | None] = 0.0
    widths: Widths

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See `fully_connected`."""
        return fully_connected(shape, n_classes, self.widths, dropout)


class FullyConnectedBN(FullyConnected):
    """The same with batch normalisation before each ReLU."""

    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See `fully_connected`."""
        return fully_connected(shape, n_classes, self.widths, dropout, norm)


class SimpleCNN(Classifier):
    """Convolutions of these filters, and a hidden layer of this width."""

    dropout: ClassVar[float | None] = 0.0
    filters: Widths = (32, 64)
    hidden: Width = 1024

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See `simple_cnn`."""
        return simple_cnn(shape, n_classes, self.filters, self.hidden, dropout)


class ResNet8(Classifier):
    """Without sizes."""

    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See `resnet_8`."""
        return resnet_8(shape[0], n_classes, norm)


class ResNet50(Classifier):
    """Without sizes."""

    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See `resnet_50`."""
        return resnet_50(shape[0], n_classes, norm)


class VGG11(Classifier):
    """Without sizes."""

    dropout: ClassVar[float | None] = 0.5
    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See `vgg_11`."""
        return vgg_11(shape, n_classes, norm, dropout)


FAMILIES: Final[dict[str, type[Classifier]]] = {
    "fully_connected": FullyConnected,
    "fully_connected_bn": FullyConnectedBN,
    "simple_cnn": SimpleCNN,
    "resnet_8": ResNet8,
    "resnet_50": ResNet50,
    "vgg_11": VGG11,
}
"""By the name that an experiment gives; `fc_` followed by widths is `fully_connected` too."""

PRESETS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "simple_cnn_base": ("simple_cnn", {}),
    "f1": ("fully_connected_bn", {"widths": (512,) * 5}),  # Keskar et al. 2016, table 1
    # Shallue et al. 2018 vary filters and hidden width; half and double are chosen here, not checked against the paper.
    "simple_cnn_narrow": ("simple_cnn", {"filters": (16, 32), "hidden": 512}),
    "simple_cnn_wide": ("simple_cnn", {"filters": (64, 128), "hidden": 2048}),
}
"""Names of Shallue et al.'s archive, and F1 of Keskar et al., that are a family with sizes."""


def read_classifier(given: Any) -> Classifier:
    """A classifier by its name or as a mapping of name and sizes; `fc_64_32` has hidden layers of 64 and 32 units."""
    if isinstance(given, str) and re.fullmatch(r"fc(_[1-9]\d*)+", given):
        given = {"name": "fully_connected", "widths": tuple(int(width) for width in given.split("_")[1:])}
    return read_model(given, FAMILIES, PRESETS)
