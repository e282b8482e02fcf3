"""A workload of your own: a small network learns Friedman's function of ten numbers (data made by scikit-learn)."""

import torch
from sklearn.datasets import make_friedman1
from torch import Tensor, nn

from bcrit.search_spaces import Direction
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.supervised import SupervisedWorkload


class Friedman(SupervisedWorkload):
    """Regression: a target takes the name of one of `metrics`, and each says which way it improves."""

    metrics = {"val_error": Direction.MINIMIZE}

    def model(self, settings: Settings) -> nn.Module:
        """Ten numbers in, one out; freshly initialised for every trial."""
        return nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 1))

    def train_data(self) -> Examples:
        """Inputs and targets as two tensors with the examples along the first axis."""
        return make(2048, seed=0)

    def validation_data(self) -> Examples:
        """The same for what is held out."""
        return make(512, seed=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What training minimises. A classifier leaves out this and `score`; its cross-entropy is built in."""
        return nn.functional.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """One number for each of `metrics`, from the outputs on the whole validation set."""
        return {"val_error": self.loss(outputs, targets).item()}


def make(n: int, seed: int) -> Examples:
    """Inputs in [-1, 1] and targets with mean 0 and variance 1, a twenty-fifth of which is noise."""
    x, y = make_friedman1(n, noise=1.0, random_state=seed)
    return torch.tensor(2 * x - 1).float(), torch.tensor((y - 14.4) / 5).float()[:, None]
