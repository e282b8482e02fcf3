"""Autoencoders of images, plain and variational: McCandlish et al. 2018's tasks on SVHN."""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data import ImageChoice
from bcrit.tuner.workloads.images import ImageSet, load_images
from bcrit.tuner.workloads.layers import InParts
from bcrit.tuner.workloads.protocol import Width, Widths, read_choice, read_model, with_train_loss
from bcrit.tuner.workloads.supervised import SelfSupervisedWorkload


class AutoencoderSize(Frozen):
    """What an autoencoder is made of. McCandlish et al. do not give their sizes: chosen, not studied."""

    filters: Widths = (32, 64)  # of the convolutions, each of which halves the height and width
    hidden: Width = 256  # width of the layer before and after the code
    code: Width = 64  # numbers that an image becomes
    variational: bool = False  # whether the code is drawn from a normal distribution (Kingma and Welling 2014)


class Autoencoder(nn.Module):
    """Images to a code and back; what comes out are the losses of each image, in nats.

    Both losses are sums over an image's numbers, with x in [0, 1] and p the sigmoid of the decoder's output:

        reconstruction = - sum x log p + (1 - x) log(1 - p)     (Bernoulli; its least value is above 0 for grey pixels)
        divergence     = 1/2 sum exp(v) + m^2 - 1 - v           (of N(m, e^v) from N(0, 1); 0 unless variational)

    Their sum is the negative of the evidence lower bound. The code is drawn in training and evaluation alike, because
    the bound is an expectation over it.
    """

    def __init__(self, shape: Sequence[int], size: AutoencoderSize) -> None:
        super().__init__()
        channels, height, width = shape
        shrink = 2 ** len(size.filters)
        if height % shrink or width % shrink:
            raise ValueError(
                f"{len(size.filters)} convolutions that halve an image need a height and width divisible by {shrink}, "
                f"but images have {height} x {width} pixels; set 'image_size' in 'data' or fewer 'filters'"
            )
        self.size = size
        small = (size.filters[-1], height // shrink, width // shrink)
        flat = small[0] * small[1] * small[2]
        there = (channels, *size.filters)
        encoder: list[nn.Module] = []
        for before, after in pairwise(there):
            encoder += [nn.Conv2d(before, after, 4, 2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(
            *encoder,
            nn.Flatten(),
            nn.Linear(flat, size.hidden),
            nn.ReLU(),
            nn.Linear(size.hidden, (2 if size.variational else 1) * size.code),
        )
        decoder: list[nn.Module] = []
        for before, after in pairwise(reversed(there)):
            decoder += [nn.ConvTranspose2d(before, after, 4, 2, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(
            nn.Linear(size.code, size.hidden),
            nn.ReLU(),
            nn.Linear(size.hidden, flat),
            nn.ReLU(),
            nn.Unflatten(1, small),
            *decoder[:-1],
        )

        # He et al. 2015. PyTorch's own initialisation shrinks what passes a layer, and through eight of them nothing of
        # the image arrives: plain gradient descent then stays at the mean image.
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, layer.bias))
            elif isinstance(layer, nn.ConvTranspose2d):
                # A number of its output sums kernel / stride = 2 x 2 weights of each input channel.
                nn.init.normal_(layer.weight, std=math.sqrt(2.0 / (4 * layer.in_channels)))
                nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, images: Tensor) -> Tensor:
        """Bytes, shape (n, channels, height, width), to (reconstruction, divergence) of each, shape (n, 2)."""
        targets = images.float() / 255.0
        code = self.encoder(targets).float()
        divergence = code.new_zeros(len(code))
        if self.size.variational:
            mean, log_variance = code.chunk(2, dim=1)
            divergence = 0.5 * (log_variance.exp() + mean**2 - 1.0 - log_variance).sum(dim=1)
            code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        scores = self.decoder(code)
        reconstruction = nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return torch.stack([reconstruction.flatten(1).sum(dim=1), divergence], dim=1)


MODELS: Final = {"autoencoder": ("autoencoder", {"variational": False}), "vae": ("autoencoder", {"variational": True})}
"""By the name that an experiment gives, family and sizes."""

_PART = 256  # images evaluated at a time, as in `image_classifier`


class AutoencoderWorkload(SelfSupervisedWorkload):
    """Images reconstructed from a short code; losses in nats an image, see `Autoencoder`."""

    terms = ("val_reconstruction", "val_divergence")

    def __init__(self, data: Any = "fashion_mnist", model: Any = "autoencoder", train_loss_examples: int = 0) -> None:
        """Read the options, which are those of `ImageClassifier`; no data are loaded yet, and labels are not used."""
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
