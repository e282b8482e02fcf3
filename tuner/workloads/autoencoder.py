"""Autoencoders of images: McCandlish et al. 2018's plain and variational ones."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data.choice import ImageChoice
from bcrit.tuner.workloads.data.images import ImageSet, load_images
from bcrit.tuner.workloads.models.autoencoder import Autoencoder, AutoencoderSize
from bcrit.tuner.workloads.models.catalogue import read_model
from bcrit.tuner.workloads.models.in_parts import InParts
from bcrit.tuner.workloads.options import read_choice, with_train_loss
from bcrit.tuner.workloads.self_supervised import SelfSupervisedWorkload

MODELS: Final = {"autoencoder": ("autoencoder", {"variational": False}), "vae": ("autoencoder", {"variational": True})}
"""The models by name."""

_PART = 256  # images evaluated at a time, as in `image_classifier`


class AutoencoderWorkload(SelfSupervisedWorkload):
    """Images reconstructed from a short code; losses in nats an image, see `models.autoencoder.Autoencoder`."""

    terms = ("val_reconstruction", "val_divergence")

    def __init__(self, data: Any = "fashion_mnist", model: Any = "autoencoder", train_loss_examples: int = 0) -> None:
        """Read the options; no data are loaded yet.

        Args:
            data: a source, or a mapping as `ImageChoice`. Labels are not used.
            model: `autoencoder` or `vae`, or a mapping of name and sizes.
            train_loss_examples: how many of the training set `train_loss` is evaluated on; 0 = no such metric.
        """
        self._choice = read_choice(ImageChoice, data, "data", "source")
        self._size = read_model(model, {"autoencoder": AutoencoderSize}, MODELS)
        self.train_loss_examples, self.metrics = with_train_loss(
            train_loss_examples, dict.fromkeys(("val_loss", *self.terms), Direction.MINIMIZE)
        )

    def model(self, settings: Settings) -> nn.Module:
        """The autoencoder for these images."""
        return InParts(Autoencoder(self._images.shape, self._size), _PART)

    def train_examples(self) -> Tensor:
        """Images of bytes, shape (n, channels, height, width)."""
        return torch.from_numpy(self._images.train_images)

    def validation_examples(self) -> Tensor:
        """The same for the validation set."""
        return torch.from_numpy(self._images.validation_images)

    @cached_property
    def _images(self) -> ImageSet:
        return load_images(self._choice, labelled=False)
