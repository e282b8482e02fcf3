"""The noise scale along training, from the gradients that training computes anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from bcrit.tuner.training.noise_scale.blocks import Series, b_simple, moving_average
from bcrit.tuner.training.noise_scale.increments import Differences, Hooks, Increments, norms
from bcrit.tuner.training.noise_scale.pair import unbiased_pair
from bcrit.tuner.training.noise_scale.ranks import Shares
from bcrit.tuner.training.noise_scale.ratio import SimpleScale

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
      micro-batch adds its share, its mean loss times rows / rows of the step. (If K mean losses of equal micro-batches
      are added without that factor, `step(scale=K)`.)
    - Examples are independent given the weights. With batch norm in training mode, or a loss across examples, the
      scale is that of the micro-batch as the unit of noise: with ghost batch norm micro-batches of whole ghost batches
      are right, with plain batch norm nothing is, because the gradient's mean depends on the micro-batch's size.
    - The learning rate is tuned, or the scale says little (see `temperature`).

    In a data-parallel step every rank has a `NoiseScale` with the `process_group` that gradients are averaged over, for
    example `torch.distributed.group.WORLD` under DistributedDataParallel. A hook on every parameter sees what the rank
    computed before it is averaged, without a copy; `step` adds one number for each parameter tensor up over the ranks,
    in one all-reduce. One micro-batch a rank is then enough. Sharded parameters (FSDP) have no whole gradient to see
    and are not supported.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Mapping[str, Iterable[nn.Parameter]],
        *,
        n_examples: int | None = None,
        window: int = _WINDOW,
        process_group: ProcessGroup | None = None,
    ) -> None:
        """See no step yet.

        Args:
            parameters: what is trained, or named groups of it that get estimates of their own, such as `{name:
                child.parameters() for name, child in model.named_children()}`; what needs no gradient is left out.
            n_examples: rows of the data set, if steps draw from it without replacement and G is to be that of the data
                set; None: G of the population (see `pair`).
            window: steps that an estimate looks back at most.
            process_group: of the ranks whose gradients are averaged.

        Raises:
            ValueError: there is nothing to train, a parameter is in two groups, or the window is empty.
        """
        named = parameters if isinstance(parameters, Mapping) else {"all": parameters}
        members = {name: [p for p in group if p.requires_grad] for name, group in named.items()}
        self._parameters = [p for group in members.values() for p in group]
        if not self._parameters:
            raise ValueError(
                "no parameter needs a gradient; a generator, such as model.parameters(), is used up by one loop"
            )
        if len({id(p) for p in self._parameters}) < len(self._parameters):
            raise ValueError("a parameter is in two groups; a tied weight belongs to one of them")
        if window < 1:
            raise ValueError(f"window >= 1 must hold, but window={window}; 1000 steps, say")
        ends = torch.tensor([0, *(len(group) for group in members.values())]).cumsum(0).tolist()
        self._groups = {name: slice(*ends[k : k + 2]) for k, name in enumerate(members)}
        self._n_examples, self._window = n_examples, window
        self._shares = Shares(process_group)
        self._hooks = None if process_group is None else Hooks(self._parameters)
        self._increments: Increments = Differences(self._parameters) if self._hooks is None else self._hooks
        self.forget()

    def forget(self) -> None:
        """Begin anew: drop all steps, and the micro-batches of the step that is not complete."""
        self._pairs: Tensor | None = None
        self._n_steps = 0
        self._begin_step()

    def _begin_step(self) -> None:
        self._rows: list[int] = []
        self._norms: list[Tensor] = []  # of every parameter for every micro-batch in turn
        self._increments.begin()

    def micro_batch(self, rows: int) -> None:
        """Say that a backward pass is done; one for each call.

        Args:
            rows: examples (or tokens) that its gradient is a mean over, on this rank.

        Raises:
            ValueError: `rows` is not positive. With hooks (`process_group`) also where there was not one backward pass.
        """
        if rows < 1:
            raise ValueError(f"rows >= 1 must hold, but rows={rows}; count the examples of the micro-batch")
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
        local = torch.stack(self._norms).view(len(self._rows), -1).square() if self._rows else None
        shares = self._shares.of(tuple(self._rows), local)
        whole = torch.stack(self._norms_now()).square()
        pair = unbiased_pair(shares.weighted, whole, shares.rows, shares.n_batches, self._n_examples)
        if self._pairs is None:
            self._pairs = whole.new_empty((self._window, 2, len(whole)))
        torch.stack(pair, out=self._pairs[self._n_steps % self._window])
        if isinstance(scale, Tensor) or scale != 1.0:
            self._pairs[self._n_steps % self._window] /= scale**2
        self._n_steps += 1
        self._begin_step()

    def _norms_now(self) -> list[Tensor]:
        found = iter(norms([p.grad for p in self._parameters if p.grad is not None]))
        return [p.new_zeros(()) if p.grad is None else next(found) for p in self._parameters]

    def series(self) -> dict[str, Series]:
        """The pair of every step in the window, in order, of each group and of `total`; waits for the device.

        Ranks that differed in their rows or micro-batches are a ValueError.
        """
        self._shares.check()
        kept = min(self._n_steps, self._window)
        if self._pairs is None:
            table = torch.empty((0, 2, len(self._parameters)), dtype=torch.float64)
        else:
            table = torch.roll(self._pairs[:kept], -(self._n_steps % kept), 0).double().cpu()
        named = {name: table[:, :, part].sum(2).numpy() for name, part in self._groups.items()}
        return {**named, "total": table.sum(2).numpy()}

    def estimate(self, level: float = 0.95) -> SimpleScale:
        """b_simple over the window: mean tr(Sigma) over mean |G|^2, with an interval; waits for the device.

        Args:
            level: of confidence.
        """
        series = self.series()
        total = series.pop("total")
        groups = {name: b_simple(values, level) for name, values in series.items()}
        return SimpleScale(b_simple(total, level), groups, len(total), self._shares.last_rows)

    def smoothed(self, decay: float = 0.99) -> Series:
        """The moving averages of tr(Sigma) and |G|^2 after every step in the window: see `moving_average`.

        Args:
            decay: of one step.
        """
        return moving_average(self.series()["total"], decay)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For backward passes that are not training's, which hooks (`process_group`) would hear."""
        if self._hooks is None:
            yield
            return
        self._hooks.listening = False
        try:
            yield
        finally:
            self._hooks.listening = True

    def close(self) -> None:
        """Take the hooks away, where there are any; what was seen can still be estimated."""
        if self._hooks is not None:
            self._hooks.remove()
