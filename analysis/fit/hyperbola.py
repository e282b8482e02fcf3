"""The time/compute hyperbola and everything that follows from it in closed form. The one owner of these formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Hyperbola:
    """Steps and examples to one target as functions of the batch size B.

    S(B) = s_min + e_min / B = s_min (1 + b_crit / B)
    E(B) = B S(B) = e_min (1 + B / b_crit),   so that   (S / s_min - 1) (E / e_min - 1) = 1.

    Assumes that hyperparameters are tuned afresh at every batch size and that the batch size is fixed during training.
    Source: McCandlish et al. 2018 (arXiv 1812.06162), eq. 2.11 and 2.12. The limits s_min = 0 (perfect scaling) and
    e_min = 0 (no gain from larger batches) are allowed, not both at once.

    Attributes:
        s_min: steps that remain at an infinite batch size.
        e_min: examples that remain at a vanishing batch size.
    """

    s_min: float
    e_min: float

    @property
    def b_crit(self) -> float:
        """e_min / s_min, in examples: there S = 2 s_min and E = 2 e_min. Infinite where s_min = 0."""
        return self.e_min / self.s_min if self.s_min > 0 else math.inf

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """S(B), in steps; shape of `batch_size`."""
        return np.asarray(self.s_min + self.e_min / np.asarray(batch_size, dtype=float))

    def examples(self, batch_size: npt.ArrayLike) -> Floats:
        """E(B) = B S(B), in examples; shape of `batch_size`."""
        return np.asarray(self.s_min * np.asarray(batch_size, dtype=float) + self.e_min)

    def efficiency(self, batch_size: npt.ArrayLike) -> Floats:
        """e_min / E(B) = 1 / (1 + B / b_crit): the share of examples that is not wasted, in [0, 1]."""
        return np.asarray(self.e_min / self.examples(batch_size))

    def batch_size_for_steps(self, max_steps: float) -> float | None:
        """Find the smallest B with S(B) <= max_steps: B = e_min / (max_steps - s_min).

        Args:
            max_steps: the budget, in steps.

        Returns:
            The batch size (0 where every one will do), or None if max_steps <= s_min: no batch size is large enough.
        """
        if max_steps > self.s_min:
            return self.e_min / (max_steps - self.s_min)
        return 0.0 if self.e_min == 0 and max_steps == self.s_min else None

    def batch_size_for_examples(self, max_examples: float) -> float | None:
        """Find the largest B with E(B) <= max_examples: B = (max_examples - e_min) / s_min.

        Args:
            max_examples: the budget, in examples.

        Returns:
            The batch size (infinite where every one will do), or None if max_examples <= e_min: none is small enough.
        """
        if self.s_min == 0:
            return math.inf if max_examples >= self.e_min else None
        return (max_examples - self.e_min) / self.s_min if max_examples > self.e_min else None
