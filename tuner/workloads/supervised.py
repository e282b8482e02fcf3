"""The base of workloads that train a PyTorch model on tensors: a subclass says model and data, and little else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from search_spaces.target import Direction
from tuner.training.settings import Settings
from tuner.training.supervised import Examples, SupervisedRun


class SupervisedWorkload(ABC):
    """A model and a training and validation set in memory.

    A subclass gives `model`, `train_data` and `validation_data`; a classifier needs no more. For anything else it
    overrides `loss`, and `metrics` together with `score`: these three are defaults, not steps of an algorithm, so
    overriding them changes nothing that this class promises. Data are loaded once and live on the GPU if there is one.

    Example:
        >>> class Line(SupervisedWorkload):
        ...     metrics = {"val_error": Direction.MINIMIZE}
        ...     hyperparameters = ("width",)
        ...
        ...     def model(self, settings):
        ...         width = int(settings.number("width", 8))
        ...         return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
        ...
        ...     def train_data(self):
        ...         x = torch.linspace(-1, 1, 64)[:, None]
        ...         return x, 2 * x
        ...
        ...     def validation_data(self):
        ...         return self.train_data()
        ...
        ...     def loss(self, outputs, targets):
        ...         return nn.functional.mse_loss(outputs, targets)
        ...
        ...     def score(self, outputs, targets):
        ...         return {"val_error": self.loss(outputs, targets).item()}
        >>> run = Line().begin(Settings(batch_size=16, seed=0, optimizer="sgd", hyperparameters={"lr": 0.2}))
        >>> run.train(200)
        >>> run.evaluate()["val_error"] < 0.01
        True

    Attributes:
        unit: what a batch is made of.
        metrics: what `score` returns, and which way each improves.
        hyperparameters: names of the workload's own that a search space may hold; `model` reads them from its settings.
    """

    unit: str = "examples"
    metrics: Mapping[str, Direction] = {"val_loss": Direction.MINIMIZE, "val_accuracy": Direction.MAXIMIZE}
    hyperparameters: tuple[str, ...] = ()

    @abstractmethod
    def model(self, settings: Settings) -> nn.Module:
        """A freshly initialised model on the CPU; its randomness must come from PyTorch's global generator."""

    @abstractmethod
    def train_data(self) -> Examples:
        """Load the training set: inputs and targets, examples along the first axis."""

    @abstractmethod
    def validation_data(self) -> Examples:
        """Load the validation set, in the training set's form."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What is minimised: the mean over a batch's examples, a scalar. Cross-entropy in nats unless overridden."""
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """The metrics on the whole validation set. The loss and the share of right answers unless overridden.

        Args:
            outputs: the model's, shape (n_validation, ...).
            targets: those of the validation set.

        Returns:
            One number for each of `metrics`.
        """
        accuracy = (outputs.argmax(dim=1) == targets).double().mean()
        return {"val_loss": self.loss(outputs, targets).item(), "val_accuracy": accuracy.item()}

    @cached_property
    def n_examples(self) -> int | None:
        """Size of the training set; the first use loads the data."""
        return len(self._train[0])

    def begin(self, settings: Settings) -> SupervisedRun:
        """Start a run."""
        return SupervisedRun(settings, self.model, self.loss, self.score, self._train, self._validation)

    @cached_property
    def _train(self) -> Examples:
        return self._placed("train_data", self.train_data())

    @cached_property
    def _validation(self) -> Examples:
        return self._placed("validation_data", self.validation_data())

    def _placed(self, name: str, data: Examples) -> Examples:
        inputs, targets = data
        if not len(inputs) == len(targets) > 0:
            raise ValueError(
                f"{type(self).__name__}.{name} must return as many inputs as targets, and some, but returned "
                f"{len(inputs)} inputs and {len(targets)} targets; put the examples along the first axis of both"
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return inputs.to(device), targets.to(device)
