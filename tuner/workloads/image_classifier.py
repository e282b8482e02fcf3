"""Image classification: any images with classes, and the classifiers of Shallue et al. 2018."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data.images import ImageSet, load_images
from bcrit.tuner.workloads.data.source import ImageChoice
from bcrit.tuner.workloads.models.classifiers import read_classifier
from bcrit.tuner.workloads.models.layers import InParts, Standardise, batch_normalisation
from bcrit.tuner.workloads.options import read_choice, whole, with_train_loss
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
        data: Any = "fashion_mnist",
        model: Any = "simple_cnn_base",
        label_smoothing_over: str = "all",
        ghost_batch_size: int | None = None,
        train_loss_examples: int = 0,
    ) -> None:
        """Read the options; no data are loaded yet.

        Args:
            data: a source, or a mapping as `ImageChoice`.
            model: a name, or a mapping of name and sizes (`bcrit.tuner.workloads.models.classifiers`).
            label_smoothing_over: what `label_smoothing` means, one of `supervised.DEFINITIONS`.
            ghost_batch_size: examples that batch normalisation normalises together; None = the whole batch.
            train_loss_examples: how many of the training set `train_loss` is evaluated on; 0 = no such metric.

        Raises:
            ValueError: an option is wrong.
        """
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
        self.train_loss_examples, self.metrics = with_train_loss(
            train_loss_examples,
            {
                "val_loss": Direction.MINIMIZE,
                "val_error": Direction.MINIMIZE,
                "val_accuracy": Direction.MAXIMIZE,
            },
        )

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
