"""How far the weights have moved from where they started, along a run (Hoffer, Hubara and Soudry 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.surface import Floats

PER_DECADE = 10
"""Measurements a decade of updates. Chosen: 40 points over the 10,000 updates of a run."""


@dataclass(frozen=True)
class WeightDistances:
    """The distances of a run.

    Attributes:
        steps: optimizer updates, shape (m,).
        names: of the tensors that train.
        by_tensor: |w_t - w_0| of each, shape (m, len(names)).
        total: of all weights together, sqrt(sum over tensors of |w_t - w_0|^2), shape (m,).
        start_norm: |w_0| of all weights together: what a distance may be compared with.
    """

    steps: tuple[int, ...]
    names: tuple[str, ...]
    by_tensor: Floats
    total: Floats
    start_norm: float


class WeightDistance:
    """Measures |w_t - w_0| in anybody's loop; t counts updates, not epochs.

    It keeps one copy of w_0, and a measurement makes another for a moment. The device is not waited for before `read`:
    a measurement leaves one number a tensor there.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> distance = WeightDistance(model)
        >>> with torch.no_grad():
        ...     _ = model.weight.add_(torch.tensor([[3.0, 4.0]]))
        >>> distance.measure(step=1)
        >>> round(float(distance.read().total[0]), 4)
        5.0
    """

    def __init__(self, model: nn.Module) -> None:
        """Remember the weights that train as they are now: w_0.

        Args:
            model: what is trained. A later `load_state_dict` into it is a movement like any other.
        """
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._names = tuple(name for name, _ in named)
        self._now = [p.detach() for _, p in named]
        self._start = [p.clone() for p in self._now]
        self._steps: list[int] = []
        self._norms: list[Tensor] = []

    @torch.no_grad()
    def measure(self, step: int) -> None:
        """Measure now, after `step` updates."""
        self._norms.append(self._moved())
        self._steps.append(step)

    @torch.no_grad()
    def now(self) -> float:
        """|w_t - w_0| of all weights together, now; nothing is kept, and the device is waited for."""
        return float(self._moved().double().norm())

    def _moved(self) -> Tensor:
        """The distance of each tensor."""
        moved = torch._foreach_sub(self._now, self._start)
        # In float32 at least: the squares of a large bfloat16 tensor do not sum up in bfloat16.
        wide = [m if m.element_size() >= 4 else m.float() for m in moved]
        return torch.stack(torch._foreach_norm(wide))

    def read(self) -> WeightDistances:
        """All measurements so far; waits for the device once."""
        norms = torch.stack(self._norms) if self._norms else torch.zeros(0, len(self._names))
        by_tensor = np.asarray(norms.double().cpu().numpy())
        start = torch.stack([norm.double() for norm in torch._foreach_norm(self._start)])
        total = np.asarray(np.sqrt((by_tensor**2).sum(axis=1)))
        return WeightDistances(tuple(self._steps), self._names, by_tensor, total, float(start.norm()))


def log_spaced(max_steps: int, per_decade: int = PER_DECADE) -> tuple[int, ...]:
    """The updates after which to measure: 1 to `max_steps`, evenly in log t as far as whole numbers allow.

    Args:
        max_steps: last update, at least 1; always among them.
        per_decade: measurements a decade, at least 1.

    Returns:
        Rising whole numbers.

    Raises:
        ValueError: either is below 1.

    Example:
        >>> log_spaced(100, per_decade=4)
        (1, 2, 3, 6, 10, 18, 32, 56, 100)
    """
    if max_steps < 1 or per_decade < 1:
        raise ValueError(
            f"'max_steps' and 'per_decade' must be at least 1, but max_steps={max_steps} and per_decade={per_decade}"
        )
    points = int(np.floor(per_decade * np.log10(max_steps) + 1e-9)) + 1
    powers = np.rint(10.0 ** (np.arange(points) / per_decade)).astype(int)
    return tuple(sorted({*(int(t) for t in powers if t <= max_steps), max_steps}))


__all__ = ["PER_DECADE", "WeightDistance", "WeightDistances", "log_spaced"]
