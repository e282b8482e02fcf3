from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.self_supervised import SelfSupervisedWorkload


class Squares(nn.Module):
    """Two losses an example: the distance from a learned point, and the size of that point."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, examples: Tensor) -> Tensor:
        distance = ((examples - self.point) ** 2).sum(dim=1)
        return torch.stack([distance, (self.point**2).sum().expand(len(examples))], dim=1)


class Centre(SelfSupervisedWorkload):
    metrics = dict.fromkeys(("val_loss", "distance", "size"), Direction.MINIMIZE)
    terms = ("distance", "size")

    def model(self, settings: Settings) -> nn.Module:
        return Squares()

    def train_examples(self) -> Tensor:
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def validation_examples(self) -> Tensor:
        return torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])


def test_terms_are_means_over_examples_and_the_loss_is_their_sum() -> None:
    metrics = Centre().begin(Settings(2, 0, "sgd", {"lr": 0.1})).evaluate()
    assert metrics == pytest.approx({"val_loss": 1.0, "distance": 0.5, "size": 0.5})


def test_the_sum_is_minimised() -> None:
    run = Centre().begin(Settings(2, 0, "sgd", {"lr": 0.1}))
    run.train(100)  # the least of |p - (2, 3)|^2 + |p|^2 is at p = (1, 1.5)
    assert run.evaluate()["size"] == pytest.approx(1 + 1.5**2)
