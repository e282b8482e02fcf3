"""One update of a model: its gradient, in as many pieces as memory asks for, and what is made of it."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import AVERAGED, EXTRAPOLATED, EXTRAPOLATIONS
from bcrit.tuner.training.batch_schedule import RunningNoise
from bcrit.tuner.training.data import as_memory_allows, generators, is_out_of_memory
from bcrit.tuner.training.noise_scale import NoiseScale
from bcrit.tuner.training.optimizers import bare_step, build_optimizer
from bcrit.tuner.training.settings import Settings, learning_rate

Gradient = Callable[[Tensor], None]
"""Computes the mean gradient over the examples at these indices, at the weights as they are now.

This is the seam between how a gradient is computed and what an update does with it. It leaves the gradient in `.grad`
of every parameter, in tensors of its own: the caller may keep them, and what was in `.grad` before is dropped and not
added to. In how many pieces it goes over the examples is its own affair.
"""


class Updates:
    """The updates of a run's weights: a gradient, or extrapolated ones, the optimizer's step, and the average."""

    changes = ("_optimizer", "_average", "_extrapolated", "step")  # see `bcrit.tuner.training.reported`

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        optimizer = build_optimizer(model, settings)
        self._model, self._hyperparameters = model, settings.hyperparameters
        self._optimizer, self._update = optimizer, bare_step(optimizer)
        self._average = _average(model, settings)
        # At an extrapolation of 0 every gradient is taken at the present weights: nothing but the base optimizer is
        # left, bit for bit, and nothing is computed twice.
        extrapolates = settings.optimizer in EXTRAPOLATED and settings.number("extrapolation_lr") > 0
        self._extrapolated = Extrapolated(optimizer, settings) if extrapolates else None
        self.step = 0  # updates made
        # how many gradients of each example of a batch one update takes, and over how many examples each is the mean
        self.gradients, self.local_batch = 1, settings.batch_size
        if self._extrapolated is not None:
            self.gradients, self.local_batch = self._extrapolated.gradients, self._extrapolated.local_batch

    def make(self, batch: Tensor, gradient: Gradient, lr: float | None = None) -> None:
        """Make one update from the examples at these indices, shape (batch_size,); at the schedule's rate if none."""
        if lr is None:
            lr = learning_rate(self._hyperparameters, self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if self._extrapolated is None:
            gradient(batch)
        else:
            self._extrapolated.take(lr, batch, gradient)
        self._update()
        if self._average is not None:
            self._average.update()
        self.step += 1

    @property
    def average(self) -> nn.Module | None:
        """The moving average of the weights; None where none is kept."""
        return None if self._average is None else self._average.model

    def metrics(self, evaluate: Callable[[nn.Module], Mapping[str, float]]) -> dict[str, float]:
        """The metrics of the weights; where they are averaged, the average's too, with the suffix `_ema`."""
        found = dict(evaluate(self._model))
        if self.average is not None:
            found |= {f"{name}{AVERAGED}": value for name, value in evaluate(self.average).items()}
        return found


# Added to the run's seed for the stream of `gaussian`, so that it is not that of the initial weights.
_STREAM = 2**32


class Extrapolated:
    """Extrapolated SGD: gradients taken ahead of the weights that they update (Lin, Kong, Stich and Jaggi 2020).

    With K workers, each with a local batch of its own, one update of the framework is

        x^k_{t+1/2} = x_t - extrapolation_lr z^k_t          for every worker k
        x_{t+1}     = x_t - lr (1/K) sum_k g^k(x^k_{t+1/2})

    where g^k(x) is the mean gradient over worker k's examples. The base optimizer takes the mean in the place of the
    gradient: with `extrap_momentum` the heavy ball, v = momentum v + mean and x = x - lr v, with `extrap_adam` Adam's
    two moments. The extrapolation itself is never preconditioned. The schedule of the learning rate holds for
    `extrapolation_lr` too, by the same factor.

    `extrapolation` says what z is:

    - `past` (unless another is named): the worker's own last gradient, g^k(x^k_{t-1/2}), and 0 before the first. It
      costs nothing beyond the K gradients that are kept.
    - `fresh`: the worker's gradient at x_t on the same examples, g^k(x_t): the extra-gradient method. Every example's
      gradient is taken twice.
    - `gaussian`: independent standard normal numbers, drawn anew for every worker and update: randomised smoothing of
      the loss with standard deviation `extrapolation_lr` in each coordinate.
    - `velocity`: momentum v_t of the heavy ball, the same for all workers. With extrapolation_lr = lr this is
      Nesterov's method. Write y_t = x_t - lr momentum v_t for the point where the gradient is taken. Then, with v' for
      v_{t+1},

          y_{t+1} = x_t - lr v' - lr momentum v' = y_t + lr momentum v_t - lr v' - lr momentum v'
                  = y_t - lr (g(y_t) + momentum v')            because v' = momentum v_t + g(y_t),

      which is PyTorch's `nesterov` for y. It tracks the point of the gradient, and we the point before it.

    A worker is a piece of `local_batch_size` examples of the batch: what one of K = batch_size / local_batch_size
    machines, or one micro-batch, sees. Without it, and at batch sizes below it, there is one worker with the whole
    batch. The workers take their turns on one device here, so an update's examples and steps are those of K machines,
    and its seconds are not.
    """

    changes = ("_past", "_generator")

    def __init__(self, optimizer: torch.optim.Optimizer, settings: Settings) -> None:
        self._kind = str(settings.hyperparameters.get("extrapolation", "past"))
        if self._kind not in EXTRAPOLATIONS:
            raise ValueError(f"there is no extrapolation {self._kind!r}; choose one of {', '.join(EXTRAPOLATIONS)}")
        if self._kind == "velocity" and settings.optimizer != "extrap_momentum":
            raise ValueError(
                "extrapolation 'velocity' is along the heavy ball's velocity; use optimizer extrap_momentum"
            )
        self.local_batch = min(settings.batch_size, int(settings.number("local_batch_size", settings.batch_size)))
        if settings.batch_size % self.local_batch:
            raise ValueError(
                f"'local_batch_size' must divide the batch, but local_batch_size={self.local_batch} and "
                f"batch_size={settings.batch_size}; change either"
            )
        self.gradients = EXTRAPOLATIONS[self._kind]
        self._optimizer, self._settings = optimizer, settings
        self._weights = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._start = [torch.empty_like(p) for p in self._weights]
        self._past: list[list[Tensor] | None] = [None] * (settings.batch_size // self.local_batch)
        rank = settings.parallel.rank if settings.parallel and settings.execution.sharded else 0  # other parts
        self._generator = torch.Generator(self._weights[0].device).manual_seed(settings.seed + _STREAM * (1 + rank))

    def take(self, lr: float, batch: Tensor, gradient: Gradient) -> None:
        """Leave the mean of the workers' gradients, each at its own point, in `.grad` of the weights x_t."""
        length = self._settings.number("extrapolation_lr") * (lr / self._settings.number("lr"))
        workers = torch.split(batch, self.local_batch)
        with torch.no_grad():
            torch._foreach_copy_(self._start, self._weights)
        total: list[Tensor] = []
        for k, examples in enumerate(workers):
            direction = self._direction(k, examples, gradient)
            with torch.no_grad():
                if direction is not None:
                    torch._foreach_add_(self._weights, direction, alpha=-length)
            gradient(examples)
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._start)
                local = self._gradients()
                if self._kind == "past":
                    self._past[k] = local
                total = list(torch._foreach_add(total, local)) if total else local
        with torch.no_grad():
            # New tensors also for one worker: the base optimizer may work in them, and `past` keeps the old.
            for p, mean in zip(self._weights, torch._foreach_div(total, len(workers)), strict=True):
                p.grad = mean

    def _direction(self, worker: int, examples: Tensor, gradient: Gradient) -> list[Tensor] | None:
        """The worker's z, of the weights' shapes; None where it is 0."""
        if self._kind == "past":
            return self._past[worker]
        if self._kind == "fresh":
            gradient(examples)
            return self._gradients()
        if self._kind == "gaussian":
            return [
                torch.randn(p.shape, generator=self._generator, device=p.device, dtype=p.dtype) for p in self._weights
            ]
        velocities = [self._optimizer.state[p].get("momentum_buffer") for p in self._weights]
        if any(v is None for v in velocities):
            return None
        return list(torch._foreach_mul(velocities, self._settings.number("momentum")))

    def _gradients(self) -> list[Tensor]:
        """What `.grad` holds now, with 0 for weights that the loss does not depend on."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self._weights]


class Averaged:
    """A copy of a model that holds the moving average of its weights.

        average_t = sum_i decay^(t - i) x_i / sum_i decay^(t - i),    i = 1 ... t

    over the weights x_i after each update, in the form average += (1 - decay) / (1 - decay^t) (x_t - average). The sum
    of the weights in the denominator leaves no trace of the initialisation, which without it would dominate runs that
    are shorter than the average is long; at decay 1 it would be the plain mean. Training never sees the average.

    `ema_decay` is the decay of one update, so the half-life is log 2 / log(1 / ema_decay) updates at every batch size,
    and batch_size times that in examples. `ema_examples` is the half-life in examples:
    decay = 2^(-batch_size / ema_examples). Neither suits all batch sizes, so search it like any other dimension.

    Floating-point buffers are averaged with the same weights: the statistics of batch norm then are those that the
    iterates had along the run, without a pass over the training data at every evaluation. On a small network with two
    such layers the validation loss was within 2 % of that with recomputed statistics, and 12 to 22 % below the last
    iterate's. Other buffers are the last iterate's. (`torch.optim.swa_utils.AveragedModel` with `use_buffers=True` does
    the same to buffers, but has no such denominator and takes 51 us an update of a 64-128-10 network; this takes 6.)
    """

    changes = ("model", "_updates")

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay, self._updates = decay, 0
        pairs = [
            *zip(self.model.parameters(), model.parameters(), strict=True),
            *zip(self.model.buffers(), model.buffers(), strict=True),
        ]
        self._means = [mean for mean, _ in pairs if mean.is_floating_point()]
        self._now = [now.detach() for _, now in pairs if now.is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one more update."""
        self._updates += 1
        share = (1.0 - self._decay) / (1.0 - self._decay**self._updates)
        torch._foreach_lerp_(self._means, self._now, share)
        for mean, now in self._copied:
            mean.copy_(now)


def _average(model: nn.Module, settings: Settings) -> Averaged | None:
    if "ema_decay" in settings.hyperparameters:
        return Averaged(model, settings.number("ema_decay"))
    if "ema_examples" in settings.hyperparameters:
        return Averaged(model, 2.0 ** (-settings.batch_size / settings.number("ema_examples")))
    return None


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
