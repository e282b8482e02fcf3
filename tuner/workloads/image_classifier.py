"""Image classification: any images with classes, and the classifiers of Shallue et al. 2018 by name."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data import ImageChoice
from bcrit.tuner.workloads.images import ImageSet, load_images
from bcrit.tuner.workloads.layers import HalvingMaxPool, InParts, Normalisation, Standardise, batch_normalisation
from bcrit.tuner.workloads.protocol import Width, Widths, read_choice, read_model, whole, with_train_loss
from bcrit.tuner.workloads.supervised import DEFINITIONS, SupervisedWorkload, cross_entropy

# Images evaluated at a time. On one core, an image takes the small CNN of examples/fashion_mnist.yaml 0.032, 0.022 and
# 0.026 ms at 32, 256 and 512 of them, simple_cnn_base 0.36, 0.33 and 0.39 ms, and ResNet-8 on 28 x 28 pixels 0.31, 0.34
# and 0.54 ms.
_PART = 256


class ImageClassifier(SupervisedWorkload):
    """A classifier trained by cross-entropy; `label_smoothing` and, where it has it, `dropout` may be searched.

    Images stay bytes, mapped into memory; each batch is standardised by the training set's moments of each channel.
    They are not augmented.
    """

    def __init__(
        self,
        data: Any = "fashion_mnist",  # a source, or a mapping as `ImageChoice`
        model: Any = "simple_cnn_base",  # a name of `PRESETS` or `FAMILIES`, or a mapping of name and sizes
        label_smoothing_over: str = "all",  # what `label_smoothing` means, one of `supervised.DEFINITIONS`
        ghost_batch_size: int | None = None,  # examples normalised together; None = the whole batch
        train_loss_examples: int = 0,  # of the training set, on which `train_loss` is evaluated; 0 = no such metric
    ) -> None:
        """Read the options; no data are loaded yet."""
        self._choice = read_choice(ImageChoice, data, "data", "source")
        self._model = read_classifier(model)
        if not isinstance(label_smoothing_over, str) or label_smoothing_over not in DEFINITIONS:
            said = "; ".join(f"{name}: {meaning}" for name, meaning in DEFINITIONS.items())
            raise ValueError(f"'label_smoothing_over' is {label_smoothing_over!r}, but must be one of {said}")
        self._smoothing_over = label_smoothing_over
        if ghost_batch_size is not None and not self._model.normalised:
            raise ValueError(f"model '{model}' has no batch normalisation; remove 'ghost_batch_size'")
        self._ghost_batch_size = None if ghost_batch_size is None else whole("ghost_batch_size", ghost_batch_size)
        self.hyperparameters = ("label_smoothing",) if self._model.dropout is None else ("label_smoothing", "dropout")
        metrics = dict.fromkeys(("val_loss", "val_error"), Direction.MINIMIZE) | {"val_accuracy": Direction.MAXIMIZE}
        self.train_loss_examples, self.metrics = with_train_loss(train_loss_examples, metrics)

    def model(self, settings: Settings) -> nn.Module:
        """The classifier for these images."""
        dropout = settings.number("dropout", self._model.dropout or 0.0)
        norm = batch_normalisation(self._ghost_batch_size)
        classifier = self._model.build(self._images.shape, self._images.n_classes, dropout, norm)
        return InParts(nn.Sequential(Standardise(self._images.mean, self._images.deviation), classifier), _PART)

    def train_data(self) -> Examples:
        """Images of bytes, shape (n, channels, height, width), and their classes."""
        return torch.from_numpy(self._images.train_images), torch.from_numpy(self._images.train_labels)

    def validation_data(self) -> Examples:
        """The same for the validation set."""
        return torch.from_numpy(self._images.validation_images), torch.from_numpy(self._images.validation_labels)

    def training_loss(self, settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross-entropy, with label smoothing where the settings have it; runs are judged without."""
        smoothing = settings.number("label_smoothing")
        if not smoothing:
            return self.loss
        return lambda outputs, labels: cross_entropy(outputs, labels, smoothing, self._smoothing_over).mean()

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Cross-entropy in nats, and the shares of wrong and right answers."""
        accuracy = (outputs.argmax(dim=1) == targets).sum().item() / len(targets)
        return {"val_loss": self.loss(outputs, targets).item(), "val_error": 1.0 - accuracy, "val_accuracy": accuracy}

    def rows(self, batch_size: int) -> int:
        """The batch size itself; where the ghost batch size does not divide it, a ValueError says so."""
        if self._ghost_batch_size is not None and batch_size % self._ghost_batch_size:
            raise ValueError(
                f"'ghost_batch_size' must divide every batch size, but {self._ghost_batch_size} does not divide "
                f"{batch_size}; choose batch sizes that are multiples of it, or a smaller ghost batch"
            )
        return batch_size

    @cached_property
    def _images(self) -> ImageSet:
        return load_images(self._choice)


class Classifier(Frozen):
    """A model and its sizes."""

    # share of units left out in training where a trial's settings do not say; None = it has no dropout
    dropout: ClassVar[float | None] = None
    normalised: ClassVar[bool] = False  # whether it has normalisation layers

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """A freshly initialised model of images of this shape (channels, height, width).

        An input that is too small for it is a ValueError.
        """
        raise NotImplementedError


class FullyConnected(Classifier):
    """A flat input, hidden layers of these widths with ReLU and dropout, and a linear layer to the classes.

    Without dropout in Shallue et al. 2018; network F1 of Keskar et al. 2016 has five hidden layers of 512 with batch
    normalisation before each ReLU.
    """

    dropout: ClassVar[float | None] = 0.0
    widths: Widths

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See the class."""
        layers: list[nn.Module] = [nn.Flatten()]
        for before, width in pairwise([math.prod(shape), *self.widths]):
            layers += [nn.Linear(before, width), *([norm(width)] if self.normalised else []), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        return nn.Sequential(*layers, nn.Linear(self.widths[-1], n_classes))


class FullyConnectedBN(FullyConnected):
    """The same with batch normalisation before each ReLU."""

    normalised: ClassVar[bool] = True


class SimpleCNN(Classifier):
    """The simple CNN of Shallue et al. 2018, also McCandlish et al.'s for SVHN: convolutions and a hidden layer.

    Convolutions are 5 x 5 with ReLU, each followed by 2 x 2 max-pooling; the hidden layer has ReLU, and no dropout in
    both papers. Maps are padded so that a convolution keeps their size; pooling halves it and leaves out an odd last
    row.
    """

    dropout: ClassVar[float | None] = 0.0
    filters: Widths = (32, 64)
    hidden: Width = 1024

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See the class."""
        if min(shape[1:]) < (least := 2 ** len(self.filters)):
            raise ValueError(
                f"a simple CNN of {len(self.filters)} convolutions needs images of at least {least} x {least} pixels, "
                f"but they have {shape[1]} x {shape[2]}; set 'image_size' in 'data', or fewer 'filters'"
            )
        channels, height, width = shape
        layers: list[nn.Module] = []
        for n_filters in self.filters:
            layers += [nn.Conv2d(channels, n_filters, 5, padding=2), nn.ReLU(), HalvingMaxPool()]
            channels, height, width = n_filters, height // 2, width // 2
        layers += [nn.Flatten(), nn.Linear(channels * height * width, self.hidden), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        return nn.Sequential(*layers, nn.Linear(self.hidden, n_classes))


class VGG11(Classifier):
    """VGG-11 (Simonyan and Zisserman 2015, configuration A) with batch normalisation.

    Eight 3 x 3 convolutions in five stages that end with 2 x 2 max-pooling, and three linear layers with the paper's
    dropout between them. Its inputs are 3 x 224 x 224 in the paper, and at least 32 x 32.
    """

    dropout: ClassVar[float | None] = 0.5
    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """See the class."""
        before, height, width = shape
        if min(height, width) < 32:
            raise ValueError(
                f"vgg_11 needs images of at least 32 x 32 pixels, but they have {height} x {width}; set "
                "'image_size: 32' in 'data', or choose another model"
            )
        layers: list[nn.Module] = []
        for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
            for channels in stage:
                layers += [nn.Conv2d(before, channels, 3, padding=1), norm(channels), nn.ReLU()]
                before = channels
            layers.append(HalvingMaxPool())
        layers.append(nn.Flatten())
        inputs = before * (height // 32) * (width // 32)
        for size in (inputs, 4096):
            layers += [nn.Linear(size, 4096), nn.ReLU(), nn.Dropout(dropout)]
        return nn.Sequential(*layers, nn.Linear(4096, n_classes))


def _layer(before: int, after: int, size: int, norm: Normalisation, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size of maps, but for its stride, and a normalisation in the place of its bias."""
    return [nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False), norm(after)]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters (option A: strided, new channels are 0)."""

    def __init__(self, before: int, channels: int, stride: int, norm: Normalisation) -> None:
        super().__init__()
        self.stride, self.new = stride, channels - before
        first, second = _layer(before, channels, 3, norm, stride), _layer(channels, channels, 3, norm)
        self.body = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (n, before, h, w) to (n, channels, h / stride, w / stride)."""
        shortcut = nn.functional.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return nn.functional.relu(self.body(inputs) + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut that is projected where the shape changes (option B).

    The stride is in the first convolution, as in the paper; many libraries have it in the second ("version 1.5").
    """

    def __init__(self, before: int, width: int, stride: int, norm: Normalisation) -> None:
        super().__init__()
        after = 4 * width
        first, second = _layer(before, width, 1, norm, stride), _layer(width, width, 3, norm)
        self.body = nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU(), *_layer(width, after, 1, norm))
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Sequential(*_layer(before, after, 1, norm, stride))

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (n, before, h, w) to (n, 4 width, h / stride, w / stride)."""
        return nn.functional.relu(self.body(inputs) + self.shortcut(inputs))


class ResNet8(Classifier):
    """Seven 3 x 3 convolutions of 16, 32 and 64 channels, and a linear layer (He et al. 2016, section 4.2, n = 1)."""

    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """For inputs of any size."""
        stem = [*_layer(shape[0], 16, 3, norm), nn.ReLU()]
        blocks = [BasicBlock(16, 16, 1, norm), BasicBlock(16, 32, 2, norm), BasicBlock(32, 64, 2, norm)]
        return _residual(stem, blocks, nn.Linear(64, n_classes))


class ResNet50(Classifier):
    """3, 4, 6 and 3 bottlenecks of width 64, 128, 256 and 512 (He et al. 2016, table 1)."""

    normalised: ClassVar[bool] = True

    def build(self, shape: Sequence[int], n_classes: int, dropout: float, norm: Normalisation) -> nn.Module:
        """For inputs of 224 x 224 in the paper; any size works."""
        stem = [*_layer(shape[0], 64, 7, norm, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
        blocks, before = [], 64
        for stage, (n_blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
            for block in range(n_blocks):
                blocks.append(Bottleneck(before, width, 2 if stage > 0 and block == 0 else 1, norm))
                before = 4 * width
        return _residual(stem, blocks, nn.Linear(before, n_classes))


def _residual(stem: Sequence[nn.Module], blocks: Sequence[nn.Module], last: nn.Linear) -> nn.Module:
    """All in a row; the convolutions have normal weights of variance 2 / (outputs of a weight) (He et al. 2015)."""
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return model


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
