"""One update of a model: what is made of its gradient."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import AVERAGED, EXTRAPOLATED, EXTRAPOLATIONS
from bcrit.tuner.training.optimizers import bare_step, build_optimizer
from bcrit.tuner.training.settings import Settings, learning_rate

Gradient = Callable[[Tensor], None]
"""Computes the mean gradient over the examples at these indices, at the weights as they are now.

This is the seam between how a gradient is computed and what an update does with it. It leaves the gradient in `.grad`
of every parameter, in tensors of its own: the caller may keep them, and what was in `.grad` before is dropped and not
added to. In how many pieces it goes over the examples is its own affair (`bcrit.tuner.training.micro_batches`).
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
