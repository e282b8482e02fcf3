"""The base of workloads whose examples are their own targets: the model turns each example into its losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import Examples
from bcrit.tuner.workloads.supervised import SupervisedWorkload


class SelfSupervisedWorkload(SupervisedWorkload):
    """Language models, autoencoders: what comes out of the model has the shape (n, terms), one loss a term and example.

    The sum of the terms is minimised, as a mean over examples, and is `val_loss`. Because the losses are made inside
    the model, evaluation never holds the outputs of a whole validation set.

    Attributes:
        terms: names of the metrics that are the single terms; empty where there is but one.
    """

    metrics: Mapping[str, Direction] = {"val_loss": Direction.MINIMIZE}
    terms: tuple[str, ...] = ()

    @abstractmethod
    def train_examples(self) -> Tensor:
        """The training set, examples along the first axis."""

    @abstractmethod
    def validation_examples(self) -> Tensor:
        """The validation set, in the training set's form."""

    def train_data(self) -> Examples:
        """The training set; its targets are a placeholder."""
        return _without_targets(self.train_examples())

    def validation_data(self) -> Examples:
        """The validation set; its targets are a placeholder."""
        return _without_targets(self.validation_examples())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over examples of the sum of their terms."""
        return outputs.sum(dim=1).mean()

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """The loss, and the means of its terms."""
        means = outputs.double().mean(dim=0)
        terms = dict(zip(self.terms, means.tolist(), strict=True)) if self.terms else {}
        return {"val_loss": means.sum().item(), **terms}


def _without_targets(examples: Tensor) -> Examples:
    return examples, torch.zeros(len(examples), dtype=torch.uint8)
