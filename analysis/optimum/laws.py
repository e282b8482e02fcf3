"""Laws by which an optimum may move with the batch size.

Every law is log y = a + g x(log B; u): a level a, an exponent g that is fixed, bounded or free, and where the law has a
knee its place u = log B_n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes:
        name: its key in tables and JSON.
        formula: in words of the glossary, y standing for the hyperparameter.
        shape: x(log B; u): `power`, `saturating` or `surge`.
        exponents: (lowest, highest) g; equal where it is fixed, infinite where it is free.
        source: who proposed it.
    """

    name: str
    formula: str
    shape: str
    exponents: tuple[float, float]
    source: str

    @property
    def has_knee(self) -> bool:
        """Whether it has a B_n."""
        return self.shape != "power"

    @property
    def free_exponent(self) -> bool:
        """Whether the exponent is fitted."""
        return self.exponents[0] < self.exponents[1]

    @property
    def n_parameters(self) -> int:
        """Level, exponent and knee, as far as they are fitted."""
        return 1 + self.has_knee + self.free_exponent

    def x(self, log_batch: npt.ArrayLike, u: npt.ArrayLike) -> Floats:
        """What the exponent multiplies; shapes broadcast."""
        log_b, knee = np.asarray(log_batch, dtype=float), np.asarray(u, dtype=float)
        if self.shape == "saturating":
            return np.asarray(-np.logaddexp(0, knee - log_b))
        if self.shape == "surge":
            return np.asarray(-np.log(np.cosh((knee - log_b) / 2)))
        return np.asarray(log_b + 0 * knee)


_MCCANDLISH = "McCandlish et al. 2018, eq. 2.5"
LAWS: Final = (
    Law("none", "y = a", "power", (0.0, 0.0), "no scaling"),
    Law("sqrt", "y = a B^0.5", "power", (0.5, 0.5), "square-root scaling (Krizhevsky 2014; Adam: Malladi et al. 2022)"),
    Law("linear", "y = a B", "power", (1.0, 1.0), "linear scaling (Goyal et al. 2017)"),
    Law("power", "y = a B^g", "power", (-math.inf, math.inf), "any power"),
    Law("saturating", "y = y_max / (1 + B_n / B)", "saturating", (1.0, 1.0), f"{_MCCANDLISH}; SGD and momentum"),
    Law(
        "saturating_sqrt", "y = y_max / (1 + B_n / B)^0.5", "saturating", (0.5, 0.5), f"{_MCCANDLISH} with Adam's root"
    ),
    Law("saturating_free", "y = y_max / (1 + B_n / B)^g", "saturating", (0.5, 1.0), "McCandlish et al. 2018, eq. A.3"),
    Law("surge", "y = 2 y_max / ((B_n / B)^0.5 + (B / B_n)^0.5)", "surge", (1.0, 1.0), "Li et al. 2024, for Adam"),
)
"""All laws for learning rates. The surge law rises like B^0.5 up to B_n and falls likewise beyond."""

PLAIN_LAWS: Final = tuple(law for law in LAWS if law.name in ("none", "power"))
"""Those for other hyperparameters."""


__all__ = ["LAWS", "PLAIN_LAWS", "Law"]
