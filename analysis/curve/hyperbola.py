"""The hyperbola of steps and examples by batch size, and the U that it is where small batches waste examples too."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bcrit.analysis.numbers import Floats


@dataclass(frozen=True)
class Hyperbola:
    """Steps and examples to one target as functions of the batch size B.

    S(B) = s_min + e_min / B = s_min (1 + b_crit / B)
    E(B) = B S(B) = e_min (1 + B / b_crit),   so that   (S / s_min - 1) (E / e_min - 1) = 1.

    Assumes that hyperparameters are tuned afresh at every batch size and that the batch size is fixed during training.
    Source: McCandlish et al. 2018 (arXiv 1812.06162), eq. 2.11 and 2.12. The limits s_min = 0 (perfect scaling) and
    e_min = 0 (no gain from larger batches) are allowed, not both at once.

    With b_opt > 0 it is a U: examples are fewest at b_opt and rise again below it.

    S(B) = s_min (1 - b_opt / B)^2 + e_min / B = s_min + e / B + q / B^2
    E(B) = e_min + s_min (B - b_opt)^2 / B,   e = e_min - 2 s_min b_opt >= 0,   q = s_min b_opt^2
    """

    s_min: float  # steps that remain at an infinite batch size
    e_min: float  # the fewest examples: at b_opt; of the hyperbola, those that remain at a vanishing batch size
    b_opt: float = 0.0  # the batch size with the fewest examples; 0 = the hyperbola

    @property
    def b_crit(self) -> float:
        """The larger batch size with E = 2 e_min, in examples; infinite where s_min = 0.

        Of the hyperbola it is e_min / s_min, where S = 2 s_min too.
        """
        return self.batch_size_for_examples(2 * self.e_min) or 0.0

    def steps(self, batch_size: npt.ArrayLike) -> Floats:
        """S(B), in steps; shape of `batch_size`."""
        batch = np.asarray(batch_size, dtype=float)
        return np.asarray(self.s_min * self._share(batch) + self.e_min / batch)

    def examples(self, batch_size: npt.ArrayLike) -> Floats:
        """E(B) = B S(B), in examples; shape of `batch_size`."""
        batch = np.asarray(batch_size, dtype=float)
        return np.asarray(self.s_min * batch * self._share(batch) + self.e_min)

    def _share(self, batch: Floats) -> Floats | float:
        """Of s_min in S: (1 - b_opt / B)^2, of the hyperbola 1 at B = 0 too."""
        return (1 - self.b_opt / batch) ** 2 if self.b_opt else 1.0

    def efficiency(self, batch_size: npt.ArrayLike) -> Floats:
        """e_min / E(B) = 1 / (1 + B / b_crit): the share of examples that is not wasted, in [0, 1]."""
        return np.asarray(self.e_min / self.examples(batch_size))

    def jacobian(self, batch_size: npt.ArrayLike) -> Floats:
        """D log S / d (log s_min, log e_min) = (1 - w, w) with w = e_min / E(B); (..., 2).

        Of a U also d log S / d log b_opt = -2 (1 - w) b_opt / (B - b_opt); (..., 3).
        """
        share = self.efficiency(batch_size)
        if self.b_opt == 0:
            return np.stack([1 - share, share], axis=-1)
        batch = np.asarray(batch_size, dtype=float)
        of_place = -2 * self.s_min * (1 - self.b_opt / batch) * self.b_opt / batch / self.steps(batch)
        return np.stack([1 - share, share, of_place], axis=-1)

    @property
    def of_b_crit(self) -> Floats:
        """D log b_crit / d (log s_min, log e_min), of a U also by log b_opt; (2,) or (3,).

        (b_crit - b_opt)^2 = h b_crit with h = e_min / s_min, differentiated.
        """
        if self.b_opt == 0:
            return np.array([-1.0, 1.0])
        beyond, h = self.b_crit - self.b_opt, self.e_min / self.s_min
        of_h, of_place = h / (2 * beyond - h), 2 * beyond * self.b_opt / self.b_crit / (2 * beyond - h)
        return np.array([-of_h, of_h, of_place])

    def batch_size_for_steps(self, max_steps: float) -> float | None:
        """The smallest B with S(B) <= max_steps: B = e_min / (max_steps - s_min); 0 where every one will do.

        Of a U the root of (max_steps - s_min) B^2 - e B - q = 0. None if max_steps <= s_min: no batch size is large
        enough.
        """
        if max_steps > self.s_min:
            left, e = max_steps - self.s_min, self.e_min - 2 * self.s_min * self.b_opt
            return (e + math.hypot(e, 2 * self.b_opt * math.sqrt(self.s_min * left))) / (2 * left)
        return 0.0 if self.e_min == 0 and max_steps == self.s_min else None

    def batch_size_for_examples(self, max_examples: float) -> float | None:
        """The largest B with E(B) <= max_examples: B = (max_examples - e_min) / s_min.

        Of a U the larger root of (B - b_opt)^2 = h B with that as h. Infinite where every one will do; None if
        max_examples <= e_min: none needs so few.
        """
        if self.s_min == 0:
            return math.inf if max_examples >= self.e_min else None
        if max_examples <= self.e_min:
            return None
        h = (max_examples - self.e_min) / self.s_min
        return (2 * self.b_opt + h + h * math.sqrt(1 + 4 * self.b_opt / h)) / 2
