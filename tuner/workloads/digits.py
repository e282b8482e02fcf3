"""Handwritten digits with a small network: a real workload that trains in a second on one core."""

from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.supervised import SupervisedWorkload

PARTS: Final = ("train", "validation")
"""The parts of the stored split; of each, `digits.npz` has pixels of 0 to 16 and classes."""


class DigitsMLP(SupervisedWorkload):
    """scikit-learn's 1797 digits of 8 x 8 pixels; a 64-128-10 network with ReLU (8 x 8 in, 10 classes out)."""

    def model(self, settings: Settings) -> nn.Module:
        """64-128-10 with PyTorch's default initialisation."""
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def train_data(self) -> Examples:
        """1437 images, shape (1437, 64), and their classes."""
        return self._split[0]

    def validation_data(self) -> Examples:
        """360 images, shape (360, 64), and their classes."""
        return self._split[1]

    @cached_property
    def _split(self) -> tuple[Examples, Examples]:
        # The split belongs to the workload: it is the same for every seed, with every class in its share on both sides.
        # It is stored, since to make it takes scikit-learn, which every worker would load for 3 seconds.
        with np.load(Path(__file__).with_name("digits.npz")) as stored:
            (train_x, train_y), (val_x, val_y) = (
                (stored[f"{part}_pixels"] / 16.0, stored[f"{part}_classes"].astype(np.int64)) for part in PARTS
            )
        # One mean and one scale for all pixels, of the training set: pixels at the rim are 0 in nearly every image, and
        # a scale of their own would blow up the few that are not.
        mean, scale = train_x.mean(), train_x.std()
        train_x, val_x = ((x - mean) / scale for x in (train_x, val_x))
        return (
            (torch.tensor(train_x, dtype=torch.float32), torch.tensor(train_y)),
            (torch.tensor(val_x, dtype=torch.float32), torch.tensor(val_y)),
        )
