"""The gradient of a batch in as many pieces as memory asks for, or as the noise between them is measured with."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from bcrit.tuner.training.batch_schedule import RunningNoise
from bcrit.tuner.training.data import as_memory_allows, generators, is_out_of_memory
from bcrit.tuner.training.noise_scale import NoiseScale

_WHOLE_BATCH: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class MicroBatches:
    """Takes gradients (`Gradient`) in pieces of at most `rows` examples, fewer if memory ends.

    The loss is a mean over examples. With the pieces b_1 ... b_K of a batch of n examples, in its order,

        gradient = sum_k |b_k| / n gradient of the mean loss over b_k

    which is the whole batch's up to rounding, and is what it is where K = 1. Layers that mix examples must be ghost
    batch normalisation (or say how many consecutive ones they mix by an attribute `ghost_size`): a piece then holds
    whole ghost batches, and running statistics move as they do in the whole batch. What does differ are a model's
    random draws (dropout), because PyTorch draws a tensor at a time: other numbers of the same distribution.

    Where memory gives out, the pieces are halved and the same gradient is taken again, from the same buffers and the
    same state of the random numbers. A smaller piece is kept for the rest of the run, and forgotten with it: a run
    starts as large as its settings say, whatever ran before. Memory that gives out elsewhere (the optimizer's own) ends
    the run. Where nothing happens, this costs a copy of the buffers each time (1 us a buffer on the CPU), and of the
    random state (2 us) for a model that drew anything in its first gradient; others are taken never to draw.
    """

    changes = ("rows", "_begun", "_draws")

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor], Tensor],  # the mean loss over the examples at these indices, a scalar
        device: torch.device,  # of the model
        n_examples: int,  # that a gradient is taken over, at most
        micro_batch: int | None,  # examples in a piece; None = all
        divisible: bool = True,  # whether the loss is a mean over examples, so that pieces add up
        alone: bool = True,  # whether no other process must compute as many pieces, so that they may be halved
    ) -> None:
        self.rows = min(n_examples, micro_batch or n_examples)  # examples in a piece, now
        if problem := division_problem(model, n_examples, self.rows, divisible):
            raise ValueError(problem)
        self._n_examples = n_examples
        self._least, self._alone = smallest_piece(model) if divisible else None, alone
        self._loss, self._device = loss, device
        self._parameters, self._buffers = list(model.parameters()), list(model.buffers())
        self._kept = [torch.empty_like(buffer) for buffer in self._buffers]
        self._places = generators(device)
        self._begun, self._draws = False, True

    @property
    def micro_batch(self) -> int | None:
        """Examples in a piece where a batch is divided; None where it is whole."""
        return self.rows if self.rows < self._n_examples else None

    def __call__(self, examples: Tensor) -> None:
        """Leave the mean gradient over the examples at these indices in `.grad`; a MemoryError if no piece fits."""
        states, size = self._keep(), min(self.rows, len(examples))
        least = self._least if self._alone else None

        def attempt(rows: int) -> None:
            _gradient_in_pieces(self._parameters, self._loss, torch.split(examples, rows))

        try:
            _, rows = as_memory_allows(attempt, size, self._device, least, partial(self._restore, states))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            stuck = "the batch does not fit into memory, and this model or loss needs all of it at once"
            if least is None and self._least is not None:
                stuck = f"{size} rows at a time do not fit into memory; choose a smaller 'execution.micro_batch'"
            elif self._least is not None:
                stuck = f"not even {self._least} {'row fits' if self._least == 1 else 'rows fit'} into memory"
            raise MemoryError(f"{stuck}: {type(error).__name__}: {error}") from error
        if rows < size:
            self.rows = rows
        if not self._begun:
            self._begun = True
            self._draws = any(not torch.equal(p.get_state(), s) for p, s in zip(self._places, states, strict=True))

    def rehearse(self, examples: Tensor) -> None:
        """Take a gradient and forget it: what is compiled or tuned in the first call then is no part of an update."""
        states = self._keep()
        self(examples)
        self._restore(states)

    def _keep(self) -> list[Tensor]:
        """Copy what a gradient may change beside `.grad`: the buffers, and (returned) the states of the generators."""
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)
        return [place.get_state() for place in self._places] if self._draws else []

    def _restore(self, states: list[Tensor]) -> None:
        for parameter in self._parameters:
            parameter.grad = None
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)
        for place, state in zip(self._places, states, strict=False):  # none of a model that never draws
            place.set_state(state)


def _gradient_in_pieces(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    pieces: Sequence[Tensor],
    scale: NoiseScale | None = None,  # hears of every piece
) -> None:
    for parameter in parameters:
        parameter.grad = None
    n = sum(map(len, pieces))
    for piece in pieces:
        mean = loss(piece)
        (mean if len(pieces) == 1 else mean * (len(piece) / n)).backward()  # type: ignore[no-untyped-call]
        if scale is not None:
            scale.micro_batch(len(piece))


def smallest_piece(model: nn.Module) -> int | None:
    """Examples that a piece of a batch must be a multiple of; None where the batch cannot be divided at all."""
    layers = list(model.modules())
    if any(isinstance(layer, _WHOLE_BATCH) for layer in layers):
        return None
    sizes = (getattr(layer, "ghost_size", 1) for layer in layers)
    return math.lcm(*(size for size in sizes if isinstance(size, int)))


def division_problem(model: nn.Module, n_examples: int, rows: int, divisible: bool = True) -> str | None:
    """Why the gradient over so many examples cannot be computed `rows` at a time; None where it can, or need not."""
    if rows >= n_examples:
        return None
    cannot = f"a batch of {n_examples} rows cannot be computed {rows} at a time"
    if not divisible:
        return f"{cannot}, because the workload says that its loss or model mixes examples; remove 'micro_batch'"
    least = smallest_piece(model)
    if least is None:
        return (
            f"{cannot}: its batch normalisation takes statistics over all rows that it sees, so pieces would be "
            "another objective; set the workload's 'ghost_batch_size', or use a model without batch normalisation"
        )
    if rows % least:
        return f"{cannot}, because ghost batches of {least} must stay whole; choose a 'micro_batch' that is a multiple"
    return None


MOST_PIECES = 16
"""Micro-batches of an update: with K of them the variance of |G|^2 is K / (K - 1) times what all examples one by one
would give, so that more than 16 buy little."""


class Accumulation:
    """Takes gradients as sums over micro-batches, and measures the noise scale between them.

    The gradient is the whole batch's up to rounding. A batch is divided into pieces of `rows` examples or, where that
    makes more than `MOST_PIECES`, of a multiple. One that has not two pieces is computed whole and not measured. Memory
    that gives out ends the run: pieces are small already.
    """

    changes = ("noise",)

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor], Tensor],  # as in `MicroBatches`, and so is `divisible`
        rows: int,  # examples in a micro-batch
        n_examples: int,  # of the training set
        largest: int | None = None,  # examples in a piece at most; None = no limit
        divisible: bool = True,
    ) -> None:
        if problem := division_problem(model, 2 * rows, rows, divisible):
            raise ValueError(problem)
        self.noise = RunningNoise()  # in rows
        self._loss, self.micro_batch, self._largest = loss, rows, largest or n_examples
        self._parameters = list(model.parameters())
        self._scale = NoiseScale(self._parameters, n_examples=n_examples, window=1)

    def __call__(self, examples: Tensor) -> None:
        """Leave the mean gradient over these examples in `.grad`."""
        n, rows = len(examples), self.micro_batch
        # A piece is a multiple of the micro-batch, so that ghost batches stay whole.
        multiple = min(-(-n // (rows * MOST_PIECES)), max(1, self._largest // rows))
        pieces = torch.split(examples, n if n < 2 * rows else rows * multiple)
        _gradient_in_pieces(self._parameters, self._loss, pieces, self._scale if len(pieces) > 1 else None)
        if len(pieces) > 1:
            self._scale.step()
            tr_sigma, g_sq = self._scale.series()[-1]
            self.noise.take(float(tr_sigma), float(g_sq))
