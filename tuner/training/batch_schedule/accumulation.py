"""The gradient of a batch in micro-batches between which its noise scale is measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bcrit.tuner.training.batch_schedule.running_noise import RunningNoise
from bcrit.tuner.training.micro_batches import division_problem
from bcrit.tuner.training.noise_scale import NoiseScale

MOST_PIECES = 16
"""Micro-batches of an update: with K of them the variance of |G|^2 is K / (K - 1) times what all examples one by one
would give, so that more than 16 buy little."""


class Accumulation:
    """Takes gradients (`bcrit.tuner.training.gradient`) as sums over micro-batches, and hears what each adds.

    The gradient is the whole batch's up to rounding. A batch is divided into pieces of `rows` examples or, where that
    makes more than `MOST_PIECES`, of a multiple. One that has not two pieces is computed whole and not measured. Memory
    that gives out ends the run: pieces are small already.

    Attributes:
        noise: the running noise scale, in rows.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor], Tensor],
        rows: int,
        n_examples: int,
        largest: int | None = None,
        divisible: bool = True,
    ) -> None:
        """Take nothing yet.

        Args:
            model: its parameters get the gradient.
            loss: the mean loss over the examples at these indices, a scalar.
            rows: examples in a micro-batch.
            n_examples: of the training set.
            largest: examples in a piece at most; None = no limit.
            divisible: whether the loss is a mean over examples.

        Raises:
            ValueError: the model cannot be computed in pieces.
        """
        if problem := division_problem(model, 2 * rows, rows, divisible):
            raise ValueError(problem)
        self.noise = RunningNoise()
        self._loss, self._rows, self._largest = loss, rows, largest or n_examples
        self._parameters = list(model.parameters())
        self._scale = NoiseScale(self._parameters, n_examples=n_examples, window=1)

    @property
    def micro_batch(self) -> int | None:
        """Examples in a micro-batch."""
        return self._rows

    def __call__(self, examples: Tensor) -> None:
        """Leave the mean gradient over these examples in `.grad`.

        Args:
            examples: indices, shape (n,).
        """
        for parameter in self._parameters:
            parameter.grad = None
        pieces = torch.split(examples, self._piece(len(examples)))
        for piece in pieces:
            (self._loss(piece) * (len(piece) / len(examples))).backward()  # type: ignore[no-untyped-call]
            if len(pieces) > 1:
                self._scale.micro_batch(len(piece))
        if len(pieces) > 1:
            self._scale.step()
            tr_sigma, g_sq = self._scale.series()["total"][-1]
            self.noise.take(float(tr_sigma), float(g_sq))

    def _piece(self, n: int) -> int:
        """Examples in a piece: a multiple of the micro-batch, so that ghost batches stay whole."""
        count = -(-n // (self._rows * MOST_PIECES))
        fits = max(1, self._largest // self._rows)
        return n if n < 2 * self._rows else self._rows * min(count, fits)
