"""The bases of workloads that train a PyTorch model on tensors: a subclass says model and data, and little else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import Examples, device_for, free_memory, placed
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun


class SupervisedWorkload(ABC):
    """A model and a training and validation set in memory.

    A subclass gives `model`, `train_data` and `validation_data`; a classifier needs no more. For anything else it
    overrides `loss`, and `metrics` together with `score`: these are defaults, not steps of an algorithm, so overriding
    them changes nothing that this class promises; `training_loss` and `rows` are defaults of the same kind. Data are
    loaded once. A trial that was given a GPU, or a share of one, trains there; the data lie there too if they take at
    most half of what is free, and otherwise batches are fetched from the host.

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
    """

    unit: str = "examples"  # what a batch is made of
    # what `score` returns, and which way each improves
    metrics: Mapping[str, Direction] = {"val_loss": Direction.MINIMIZE, "val_accuracy": Direction.MAXIMIZE}
    # names of the workload's own that a search space may hold; `model` reads them from its settings
    hyperparameters: tuple[str, ...] = ()
    # evaluate the loss on this many of the training set too, always the same ones, as the metric `train_loss` (goals on
    # training data, McCandlish et al. 2018); `metrics` must then have it
    train_loss_examples: int = 0
    # whether loss and model treat every example by itself, so that a batch may be computed in pieces where memory asks
    # for it; say no for a contrastive loss, say. Batch normalisation is seen without being told.
    divisible: bool = True
    averages = gives_model = batch_plan = True  # see `bcrit.tuner.workloads.protocol`

    @property
    def our_loop(self) -> bool:
        """A class that begins runs of its own, not of this loop, would not read what is meant for it."""
        return type(self).begin is SupervisedWorkload.begin

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
        """One number for each of `metrics`, from the model's outputs on the whole validation set, shape (n, ...).

        The loss and the share of right answers unless overridden.
        """
        right = (outputs.argmax(dim=1) == targets).sum().item()
        return {"val_loss": self.loss(outputs, targets).item(), "val_accuracy": right / targets.numel()}

    def training_loss(self, settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss that training minimises where it is another than `loss`, by which runs are judged."""
        return self.loss

    def rows(self, batch_size: int) -> int:
        """How many rows of the training set a batch of this size is; where it cannot be, a ValueError says why."""
        return batch_size

    @cached_property
    def n_examples(self) -> int | None:
        """Size of the training set; the first use loads the data."""
        return len(self._train[0])

    def sample(self, part: Literal["train", "validation"], size: int, seed: int) -> Examples:
        """Rows of a set drawn without replacement, in their own order, on the host; all where there are no more."""
        inputs, targets = self._train if part == "train" else self._validation
        if size >= len(inputs):
            return inputs, targets
        drawn = np.sort(np.random.default_rng(seed).permutation(len(inputs))[:size])
        rows = torch.from_numpy(drawn).to(inputs.device)
        return inputs.index_select(0, rows), targets.index_select(0, rows)

    def begin(self, settings: Settings) -> SupervisedRun:
        """Start a run."""
        device = device_for(settings.gpus)
        if device not in self._places:
            memory = partial(free_memory, settings.gpus)
            self._places[device] = placed(self._train, device, memory), placed(self._judged, device, memory)
        rows, (train, judged) = self._in_rows(settings), self._places[device]
        loss, items_per_row = self.training_loss(settings), settings.batch_size / rows.batch_size
        return SupervisedRun(rows, self.model, loss, self._judge, train, judged, self.divisible, items_per_row)

    def _in_rows(self, settings: Settings) -> Settings:
        """The settings with all that counts what a batch counts (tokens, say) as rows of the training set instead."""
        batch_size, given = settings.batch_size, dict(settings.hyperparameters)
        rows = self.rows(batch_size)
        if "ema_examples" in given:
            given["ema_examples"] = float(given["ema_examples"]) * (rows / batch_size)
        if "local_batch_size" in given:  # above the batch size it means the whole batch
            given["local_batch_size"] = self.rows(min(batch_size, int(given["local_batch_size"])))
        plan = None if settings.batches is None else settings.batches.in_rows(self.rows, batch_size / rows)
        return replace(settings, batch_size=rows, hyperparameters=given, batches=plan)

    def _judge(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        n = len(self._validation[0])
        if len(outputs) == n:
            return self.score(outputs, targets)
        return {**self.score(outputs[:n], targets[:n]), "train_loss": self.loss(outputs[n:], targets[n:]).item()}

    @cached_property
    def _judged(self) -> Examples:
        """What every evaluation looks at: the validation set, and behind it the part of the training set."""
        if not self.train_loss_examples:
            return self._validation
        n = min(self.train_loss_examples, len(self._train[0]))
        some = torch.from_numpy(np.random.default_rng(0).permutation(len(self._train[0]))[:n].copy())
        pairs = zip(self._validation, self._train, strict=True)
        inputs, targets = (torch.cat([all_of, part.index_select(0, some.to(part.device))]) for all_of, part in pairs)
        return inputs, targets

    @cached_property
    def _train(self) -> Examples:
        return self._loaded("train_data", self.train_data())

    @cached_property
    def _validation(self) -> Examples:
        return self._loaded("validation_data", self.validation_data())

    def _loaded(self, name: str, data: Examples) -> Examples:
        inputs, targets = data
        if not len(inputs) == len(targets) > 0:
            raise ValueError(
                f"{type(self).__name__}.{name} must return as many inputs as targets, and some, but returned "
                f"{len(inputs)} inputs and {len(targets)} targets; put the examples along the first axis of both"
            )
        return inputs, targets

    @cached_property
    def _places(self) -> dict[torch.device, tuple[Examples, Examples]]:
        """Training set and what is judged, by the device that uses them: copied there once."""
        return {}


class SelfSupervisedWorkload(SupervisedWorkload):
    """Language models, autoencoders: what comes out of the model has the shape (n, terms), one loss a term and example.

    The sum of the terms is minimised, as a mean over examples, and is `val_loss`. Because the losses are made inside
    the model, evaluation never holds the outputs of a whole validation set.
    """

    metrics: Mapping[str, Direction] = {"val_loss": Direction.MINIMIZE}
    terms: tuple[str, ...] = ()  # names of the metrics that are the single terms; empty where there is but one

    @abstractmethod
    def train_examples(self) -> Tensor:
        """The training set, examples along the first axis."""

    @abstractmethod
    def validation_examples(self) -> Tensor:
        """The validation set, in the training set's form."""

    def train_data(self) -> Examples:
        """The training set; its targets are a placeholder."""
        return self._without_targets(self.train_examples())

    def validation_data(self) -> Examples:
        """The validation set; its targets are a placeholder."""
        return self._without_targets(self.validation_examples())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over examples of the sum of their terms."""
        return outputs.sum(dim=1).mean()

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """The loss, and the means of its terms."""
        means = outputs.double().mean(dim=0)
        terms = dict(zip(self.terms, means.tolist(), strict=True)) if self.terms else {}
        return {"val_loss": means.sum().item(), **terms}

    @staticmethod
    def _without_targets(examples: Tensor) -> Examples:
        return examples, torch.zeros(len(examples), dtype=torch.uint8)


DEFINITIONS: Final = {
    "all": "eps spread evenly over all K classes, the right one included (Szegedy et al. 2016; PyTorch)",
    "others": "eps taken from the right class and spread evenly over the K - 1 others (Shallue et al. 2018)",
}
"""What `label_smoothing` = eps means: the target of the right class is 1 - eps (K - 1) / K or 1 - eps."""


def cross_entropy(scores: Tensor, labels: Tensor, label_smoothing: float = 0.0, over: str = "all") -> Tensor:
    """Cross-entropy, in nats, of each example's logits, shape (n, K), from its label smoothed by eps in [0, 1).

    `over` is one of `DEFINITIONS`, which are one family: eps over the others is eps K / (K - 1) over all.
    """
    n_classes = scores.shape[1]
    over_all = label_smoothing if over == "all" else label_smoothing * n_classes / (n_classes - 1)
    return nn.functional.cross_entropy(scores, labels, label_smoothing=over_all, reduction="none")
