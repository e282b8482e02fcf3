"""One optimizer update of a model: at which weights gradients are taken, and how many."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import EXTRAPOLATED, EXTRAPOLATIONS
from bcrit.tuner.training.optimizers import bare_step, build_optimizer
from bcrit.tuner.training.settings import Settings

Gradient = Callable[[Tensor], None]
"""Computes the mean gradient over the examples at these indices, at the weights as they are now.

This is the seam between how a gradient is computed (`micro_batches`) and what an update does with it. It leaves the
gradient in `.grad` of every parameter, in tensors of its own: the caller may keep them, and what was in `.grad` before
is dropped and not added to. In how many pieces it goes over the examples is its own affair.
"""


class Stepper(Protocol):
    """What makes updates."""

    gradients: int  # how many gradients of each example of a batch one update takes
    local_batch: int  # over how many examples each of them is the mean

    def step(self, lr: float, batch: Tensor, gradient: Gradient) -> None:
        """Make one update at this learning rate; `batch` has the indices of its examples, shape (batch_size,)."""
        ...


class Plain:
    """One gradient at the present weights, then the optimizer's update."""

    gradients = 1

    def __init__(self, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
        self._optimizer, self.local_batch = optimizer, batch_size
        self._update = bare_step(optimizer)

    def step(self, lr: float, batch: Tensor, gradient: Gradient) -> None:
        """As `Stepper`."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        gradient(batch)
        self._update()


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
        self._optimizer = optimizer
        self._update = bare_step(optimizer)
        self._settings = settings
        self._weights = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._start = [torch.empty_like(p) for p in self._weights]
        self._past: list[list[Tensor] | None] = [None] * (settings.batch_size // self.local_batch)
        self._generator = torch.Generator(self._weights[0].device).manual_seed(settings.seed + _STREAM)

    def step(self, lr: float, batch: Tensor, gradient: Gradient) -> None:
        """Every worker's gradient at its own point, their mean, and the base optimizer's update from x_t."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
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
        self._update()

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


def build_stepper(model: nn.Module, settings: Settings) -> Stepper:
    """The stepper that the settings name; an optimizer that does not exist, or an impossible value, is a ValueError.

    At an extrapolation of 0 every gradient is taken at the present weights: nothing but the base optimizer is left, bit
    for bit, and nothing is computed twice.
    """
    optimizer = build_optimizer(model, settings)
    if settings.optimizer in EXTRAPOLATED and settings.number("extrapolation_lr") > 0:
        return Extrapolated(optimizer, settings)
    return Plain(optimizer, settings.batch_size)
