"""The gradient noise scale in anybody's training loop (`NoiseScale`); at one checkpoint it is in `per_example`.

Words: G is the mean gradient and Sigma the covariance of one example's, H the Hessian of the mean loss, lr a learning
rate of plain SGD. b_simple = tr(Sigma) / |G|^2 and b_noise = tr(H Sigma) / (G'HG) (McCandlish et al. 2018, eqs 2.9 and
2.8). Both are in the unit of the rows counted: examples, or tokens where a row is one.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed import ProcessGroup

from bcrit.tuner.training.noise_scale.ratio import SimpleScale, b_simple, pair_of_shares, unbiased_pair

_WINDOW = 1000  # steps; chosen, not studied: long enough for 20 blocks, short enough to follow a scale that grows


class NoiseScale:
    """Listens to the micro-batches of accumulated steps, or to the ranks of data-parallel ones, or to both.

        noise = NoiseScale(model.parameters())
        ...
            (loss * rows / batch_size).backward()
            noise.micro_batch(rows)
        noise.step()            # .grad is complete: after the all-reduce, before clipping and the optimizer's step
        ...
    print(noise.estimate())

    Nothing that training computes is touched, so its bits are the same as without. `micro_batch` takes the norm of what
    was added to `.grad`, against a copy from before (the memory of one gradient), and `step` that of `.grad`. A few
    numbers for each parameter tensor stay on the device; the host waits for it in `estimate` and not before.

    What must hold, because nothing here can see it:

    - `.grad` is 0 or None before the first micro-batch of a step, and the mean gradient over its rows at `step`: each
      micro-batch adds its share, its mean loss times rows / rows of the step. A loop that multiplies mean losses by
      something else, such as 1 / ACCUM, says so: `micro_batch(rows, share=1 / ACCUM)`. That matters where micro-batches
      differ in size. (If K mean losses of equal micro-batches are added without a factor, `share=1`, or
      `step(scale=K)`.)
    - Examples are independent given the weights. With batch norm in training mode, or a loss across examples, the
      scale is that of the micro-batch as the unit of noise: with ghost batch norm micro-batches of whole ghost batches
      are right, with plain batch norm nothing is, because the gradient's mean depends on the micro-batch's size.
    - The learning rate is tuned, or the scale says little (see `per_example.CurvedScale.temperature`).

    In a data-parallel step every rank has a `NoiseScale` with the `process_group` that gradients are averaged over, for
    example `torch.distributed.group.WORLD` under DistributedDataParallel. A hook on every parameter sees what the rank
    computed before it is averaged, without a copy; `step` adds one number for each parameter tensor up over the ranks,
    in one all-reduce. One micro-batch a rank is then enough. Sharded parameters (FSDP) have no whole gradient to see
    and are not supported.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        n_examples: int | None = None,
        window: int = _WINDOW,
        process_group: ProcessGroup | None = None,
    ) -> None:
        """See no step yet.

        Args:
            parameters: what is trained; what needs no gradient is left out.
            n_examples: rows of the data set, if steps draw from it without replacement and G is to be that of the data
                set; None: G of the population (see `unbiased_pair`).
            window: steps that an estimate looks back at most.
            process_group: of the ranks whose gradients are averaged.

        Raises:
            ValueError: there is nothing to train, a parameter is there twice, or the window is empty.
        """
        self._parameters = [p for p in parameters if p.requires_grad]
        if not self._parameters:
            raise ValueError(
                "no parameter needs a gradient; a generator, such as model.parameters(), is used up by one loop"
            )
        if len({id(p) for p in self._parameters}) < len(self._parameters):
            raise ValueError("a parameter is there twice; give a tied weight once")
        if window < 1:
            raise ValueError(f"window >= 1 must hold, but window={window}; 1000 steps, say")
        self._n_examples, self._window = n_examples, window
        self._shares = Shares(process_group)
        self._increments = Differences(self._parameters) if process_group is None else Hooks(self._parameters)
        self.forget()

    def forget(self) -> None:
        """Begin anew: drop all steps, and the micro-batches of the step that is not complete."""
        self._pairs: Tensor | None = None
        self._n_steps = 0
        self._growth: list[tuple[Tensor, float]] = []  # of steps with micro-batches of different sizes
        self._begin_step()

    def _begin_step(self) -> None:
        self._rows: list[int] = []
        self._given: list[float | None] = []
        self._norms: list[Tensor] = []  # of every parameter for every micro-batch in turn
        self._increments.begin()

    def micro_batch(self, rows: int, share: float | None = None) -> None:
        """Say that a backward pass is done; one for each call.

        Args:
            rows: examples (or tokens) that its gradient is a mean over, on this rank.
            share: by what its mean loss was multiplied before that, 1 / ACCUM for example. None: by rows / rows of the
                step, which makes `.grad` the mean over all rows.

        Raises:
            ValueError: a number is not positive, or only some micro-batches of a step have a share. With hooks
                (`process_group`) also where there was not one backward pass.
        """
        if rows < 1:
            raise ValueError(f"rows >= 1 must hold, but rows={rows}; count the examples of the micro-batch")
        if share is not None and not 0.0 < share < math.inf:
            raise ValueError(f"share > 0 must hold, but share={share}; give the factor of the mean loss")
        if self._given and (share is None) != (self._given[0] is None):
            raise ValueError("some micro-batches of a step have a share and others have none; give it for all or none")
        self._given.append(share)
        self._norms += self._increments.take()
        self._rows.append(rows)

    @torch.no_grad()
    def step(self, scale: float | Tensor = 1.0) -> None:
        """Take in a complete step, before gradients are unscaled, clipped or used.

        Args:
            scale: by how much `.grad` is larger than the mean gradient; of a GradScaler its scale at this step. A step
                that overflowed is set aside in the estimate.

        There must be two micro-batches, or ranks, and with hooks no backward pass without `micro_batch`: a ValueError.
        """
        self._increments.end()
        if not self._rows:
            raise ValueError("a step has no micro-batch; call micro_batch after each backward pass, and then step")
        local = torch.stack(self._norms).view(len(self._rows), -1).square()
        shares = [share for share in self._given if share is not None]
        sums, rows, n_batches = self._shares.of(tuple(self._rows), tuple(shares), local)
        whole = torch.stack(norms(self._parameters, [p.grad for p in self._parameters])).square()
        if shares and n_batches > 1:
            concentration = sum(share**2 for share in shares) * len(shares) / n_batches / sum(shares) ** 2
            whole = whole / sum(shares) ** 2
            pair = pair_of_shares(sums[0], sums[1], whole, rows, n_batches, concentration, self._n_examples)
        else:
            pair = unbiased_pair(sums, whole, rows, n_batches, self._n_examples)
            self._note_growth(local.sum(1))
        if self._pairs is None:
            self._pairs = whole.new_empty((self._window, 2, len(whole)))
        torch.stack(pair, out=self._pairs[self._n_steps % self._window])
        if isinstance(scale, Tensor) or scale != 1.0:
            self._pairs[self._n_steps % self._window] /= scale**2
        self._n_steps += 1
        self._begin_step()

    def _note_growth(self, squares: Tensor) -> None:
        """Of a step whose micro-batches differ in rows, of the most and the fewest: log |d|^2 and log rows apart."""
        few, many = min(self._rows), max(self._rows)
        if few < many:
            logs = squares.clamp_min(torch.finfo(squares.dtype).tiny).log()
            rise = logs[self._rows.index(many)] - logs[self._rows.index(few)]
            self._growth = [*self._growth, (rise, math.log(many / few))][-self._window :]

    def _check_shares(self) -> None:
        """Warn where shares cannot have been rows / rows of the step; waits for the device.

        |d_k|^2 = w_k^2 (|G|^2 + tr(Sigma) / b_k) grows as b^1 to b^2 with w_k = b_k / B, and as b^-1 to b^0 with equal
        shares. Told is a power nearer to the latter that is not the former by its own error (one-sided, 99.9 %): by
        eight short micro-batches of 2 rows among 16, and of loops that are right by none of 570 simulated.
        """
        from scipy.special import stdtrit  # as in `fieller`

        if not self._growth:
            return
        told = torch.stack([rise for rise, _ in self._growth]).double().cpu().numpy()
        finite = np.isfinite(told)
        rises, logs = told[finite], np.array([log for _, log in self._growth])[finite]
        if (freedom := len(logs) - 1) < 1:
            return
        growth = rises @ logs / (logs @ logs)
        error = math.sqrt(((rises - growth * logs) ** 2).sum() / freedom / (logs @ logs))
        if growth < 0.5 and growth + stdtrit(freedom, 0.999) * error < 1:
            warnings.warn(
                "micro-batches of more rows do not add more to the gradient, so their mean losses were not multiplied "
                "by rows / rows of the step, and the noise scale is wrong; say by what they were, "
                "micro_batch(rows, share=1 / ACCUM)",
                stacklevel=3,
            )

    def series(self) -> NDArray[np.float64]:
        """The pair (tr_sigma, g_sq) of every step in the window, in order, shape (n_steps, 2); waits for the device.

        Ranks that differed in their rows or micro-batches are a ValueError.
        """
        self._shares.check()
        kept = min(self._n_steps, self._window)
        if self._pairs is None:
            return np.empty((0, 2))
        return np.asarray(torch.roll(self._pairs[:kept], -(self._n_steps % kept), 0).double().cpu().sum(2).numpy())

    def estimate(self, level: float = 0.95) -> SimpleScale:
        """b_simple over the window: mean tr(Sigma) over mean |G|^2, with an interval; waits for the device.

        Args:
            level: of confidence.
        """
        series = self.series()
        self._check_shares()
        return SimpleScale(b_simple(series, level), len(series), self._shares.last_rows)

    def close(self) -> None:
        """Take the hooks away, where there are any; what was seen can still be estimated."""
        self._increments.remove()


_HALF = (torch.float16, torch.bfloat16)


def norms(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The Euclidean norm of each parameter's gradient, 0 where there is none; in single precision if one has half.

    Norms and not their squares, because a norm does not overflow where a loss is scaled up.
    """
    there = [g for g in gradients if g is not None]
    if any(g.dtype in _HALF for g in there):
        found = iter([torch.linalg.vector_norm(g, dtype=torch.float32) for g in there])
    else:
        found = iter(torch._foreach_norm(there))
    return [p.new_zeros(()) if g is None else next(found) for p, g in zip(parameters, gradients, strict=True)]


class Differences:
    """The norms of what each micro-batch adds to `.grad`: `.grad` minus a copy from before.

    It takes three passes over all gradients at once and the memory of one gradient, and autograd is left alone.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._before: list[Tensor] = []
        self.begin()

    def begin(self) -> None:
        """A new step: `.grad` is 0 or None."""
        self._first = True

    @torch.no_grad()
    def take(self) -> list[Tensor]:
        """The norms of what came since the last call, one for each parameter."""
        if not self._before:
            self._before = [torch.zeros_like(p) for p in self._parameters]
        pairs = [(b, p.grad) for b, p in zip(self._before, self._parameters, strict=True) if p.grad is not None]
        if not pairs:
            raise ValueError("no parameter has a gradient; call micro_batch after each backward pass, and then step")
        if self._first and len(pairs) < len(self._before):
            torch._foreach_zero_(self._before)  # of a parameter whose first gradient comes in a later micro-batch
        before, now = [b for b, _ in pairs], [g for _, g in pairs]
        if not self._first:
            torch._foreach_sub_(before, now)
        seen = iter(now if self._first else before)
        found = norms(self._parameters, [None if p.grad is None else next(seen) for p in self._parameters])
        torch._foreach_copy_(before, now)
        self._first = False
        return found

    def end(self) -> None:
        """The step is complete."""

    def remove(self) -> None:
        """Nothing is listened to any more."""


class Hooks:
    """What `Differences` tells, by a hook on every parameter: norms on the way into `.grad`, without a copy.

    Hooks see what a rank computes before it is averaged with the others', for which there is no other way, but each of
    them interrupts the backward pass: with 50 small tensors on a busy CPU they took 5 ms of a step where differences
    took 3. There must be exactly one backward pass between two calls of `take`, and none after the last.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._handles = [p.register_hook(self._hook(i)) for i, p in enumerate(parameters)]  # type: ignore[no-untyped-call]
        self.begin()

    def _hook(self, i: int) -> Callable[[Tensor], None]:
        def seen(gradient: Tensor) -> None:
            self._twice |= self._seen[i] is not None
            # Now, before it is added to .grad; afterwards it is gone.
            self._seen[i] = norms([self._parameters[i]], [gradient.detach()])[0]

        return seen

    def begin(self) -> None:
        """As in `Differences`."""
        self._seen: list[Tensor | None] = [None] * len(self._parameters)
        self._twice = False

    def take(self) -> list[Tensor]:
        """As in `Differences`."""
        if self._twice or all(norm is None for norm in self._seen):
            raise ValueError(
                f"{'a second' if self._twice else 'no'} gradient came since the last micro-batch; call micro_batch "
                "after each backward pass, and make passes that are not training's on a copy of the model"
            )
        nothing = self._parameters[0].new_zeros(())
        found = [nothing if norm is None else norm for norm in self._seen]
        self.begin()
        return found

    def end(self) -> None:
        """As in `Differences`."""
        if any(norm is not None for norm in self._seen):
            raise ValueError("there was a backward pass after the last micro_batch; call it after each")

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()


class Shares:
    """Adds up the norms of what a step's micro-batches added to `.grad`, over the ranks of a data-parallel step.

    Micro-batch k adds d_k = (b_k / B_r) g_k to the gradient of its rank r with B_r rows, and the mean over R ranks of
    B_r rows each takes d_k / R, which is the share b_k / B of B = R B_r rows. So

        sum_k b_k |g_k|^2 = sum_k b_k |B d_k / (R b_k)|^2 = B^2 / R^2 sum_k |d_k|^2 / b_k = B_r^2 sum_k |d_k|^2 / b_k.

    With other shares w_k it adds d_k = w_k g_k, and a second sum is wanted: with W = sum_k w_k of a rank,

        sum_k b_k |d_k|^2 / w_k^2    and    sum_k |d_k|^2 / (R W)^2.

    Ranks must have as many rows and as many micro-batches as each other, for a mean over ranks is else not the mean
    over rows. That is checked when the estimate is read, for a check at every step would wait for the device.
    """

    def __init__(self, group: ProcessGroup | None) -> None:
        self._group = group
        self._n_ranks = 1 if group is None else dist.get_world_size(group)
        self._known: dict[tuple[tuple[int, ...], tuple[float, ...]], Tensor] = {}
        self._unequal: Tensor | None = None
        self.last_rows = 0

    def of(self, rows: tuple[int, ...], shares: tuple[float, ...], squares: Tensor) -> tuple[Tensor, int, int]:
        """Of all ranks the sum of each parameter tensor, B and K, from b_k, w_k (none: b_k / B_r) and |d_k|^2.

        `squares` has shape (n_micro_batches, n_parameters); what comes back (n_parameters,), or with shares both sums,
        (2, n_parameters).
        """
        local = sum(rows)
        weights = self._known.get((rows, shares))
        if weights is None:  # Sizes come again and again, and a tensor made from numbers would wait for the device.
            wanted: list[Any] = [local**2 / b for b in rows]
            if shares:
                own = 1.0 / (self._n_ranks * sum(shares)) ** 2
                wanted = [[b / w**2 for b, w in zip(rows, shares, strict=True)], [own] * len(rows)]
            weights = torch.tensor(wanted, dtype=squares.dtype, device=squares.device)
            self._known[rows, shares] = weights
        weighted = weights @ squares
        if self._group is not None:
            weighted = self._added_up(weighted, local, len(rows))
        self.last_rows = self._n_ranks * local
        return weighted, self.last_rows, self._n_ranks * len(rows)

    def _added_up(self, weighted: Tensor, rows: int, n_batches: int) -> Tensor:
        # Squares beside the numbers: R sum x^2 = (sum x)^2 exactly if x is the same on all ranks.
        numbers = [weighted.new_full((1,), float(x)) for x in (rows, rows**2, n_batches, n_batches**2)]
        message = torch.cat([weighted.flatten(), *numbers])
        dist.all_reduce(message, op=dist.ReduceOp.SUM, group=self._group)
        rows_sum, rows_sq, batches_sum, batches_sq = message[-4:]
        n = self._n_ranks
        # Relative, and more than rounding to single precision makes it: a variance of (1 part in 300)^2.
        unequal = torch.maximum(n * rows_sq / rows_sum**2, n * batches_sq / batches_sum**2) > 1.0 + 1e-5
        self._unequal = unequal if self._unequal is None else self._unequal | unequal
        return message[:-4].view_as(weighted)

    def check(self) -> None:
        """Refuse what no mean over ranks can be right for; waits for the device."""
        if self._unequal is not None and bool(self._unequal):
            raise ValueError(
                "every rank must have as many rows and micro-batches as the others, because their gradients are "
                "averaged with equal weight; drop the incomplete batch at the end of an epoch (drop_last=True)"
            )
