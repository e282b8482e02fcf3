"""What the micro-batches of a step add up to, over the ranks of a data-parallel step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class Step:
    """A step's micro-batches on all ranks.

    Attributes:
        weighted: sum_k b_k |g_k|^2 of each parameter tensor, shape (n_parameters,).
        rows: B, of all ranks.
        n_batches: K, of all ranks.
    """

    weighted: Tensor
    rows: int
    n_batches: int


class Shares:
    """Adds up the norms of what micro-batches added to `.grad`.

    Micro-batch k adds d_k = (b_k / B_r) g_k to the gradient of its rank r with B_r rows, and the mean over R ranks of
    B_r rows each takes d_k / R, which is the share b_k / B of B = R B_r rows. So

        sum_k b_k |g_k|^2 = sum_k b_k |B d_k / (R b_k)|^2 = B^2 / R^2 sum_k |d_k|^2 / b_k = B_r^2 sum_k |d_k|^2 / b_k.

    Ranks must have as many rows and as many micro-batches as each other, for a mean over ranks is else not the mean
    over rows. That is checked when the estimate is read, for a check at every step would wait for the device.
    """

    def __init__(self, group: ProcessGroup | None) -> None:
        """Remember the ranks.

        Args:
            group: whose gradients are averaged; None: one process.
        """
        self._group = group
        self._n_ranks = 1 if group is None else dist.get_world_size(group)
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._unequal: Tensor | None = None
        self.last_rows = 0

    def of(self, rows: tuple[int, ...], squares: Tensor | None) -> Step:
        """One step.

        Args:
            rows: b_k of this rank's micro-batches.
            squares: |d_k|^2, shape (n_micro_batches, n_parameters).

        Raises:
            ValueError: there was no micro-batch.
        """
        if squares is None:
            raise ValueError("a step has no micro-batch; call micro_batch after each backward pass, and then step")
        local = sum(rows)
        weights = self._known.get(rows)
        if weights is None:  # Sizes come again and again, and a tensor made from numbers would wait for the device.
            weights = torch.tensor([local**2 / b for b in rows], dtype=squares.dtype, device=squares.device)
            self._known[rows] = weights
        weighted = weights @ squares
        if self._group is not None:
            weighted = self._added_up(weighted, local, len(rows))
        self.last_rows = self._n_ranks * local
        return Step(weighted, self.last_rows, self._n_ranks * len(rows))

    def _added_up(self, weighted: Tensor, rows: int, n_batches: int) -> Tensor:
        # Squares beside the numbers: R sum x^2 = (sum x)^2 exactly if x is the same on all ranks.
        numbers = [weighted.new_full((1,), float(x)) for x in (rows, rows**2, n_batches, n_batches**2)]
        message = torch.cat([weighted, *numbers])
        dist.all_reduce(message, op=dist.ReduceOp.SUM, group=self._group)
        rows_sum, rows_sq, batches_sum, batches_sq = message[-4:]
        n = self._n_ranks
        # Relative, and more than rounding to single precision makes it: a variance of (1 part in 300)^2.
        unequal = torch.maximum(n * rows_sq / rows_sum**2, n * batches_sq / batches_sum**2) > 1.0 + 1e-5
        self._unequal = unequal if self._unequal is None else self._unequal | unequal
        return message[:-4]

    def check(self) -> None:
        """Refuse what no mean over ranks can be right for; waits for the device.

        Raises:
            ValueError: ranks differed in their rows or in the number of their micro-batches.
        """
        if self._unequal is not None and bool(self._unequal):
            raise ValueError(
                "every rank must have as many rows and micro-batches as the others, because their gradients are "
                "averaged with equal weight; drop the incomplete batch at the end of an epoch (drop_last=True)"
            )
