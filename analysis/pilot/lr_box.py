"""Where the learning rate's box should stand at every batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.options import Centre
from bcrit.search_spaces.space_rules import has_effective_lr

Rule = Literal["none", "linear", "sqrt"]
_SIDE: Final = 10.0  # a decade on each side of the centre; chosen, not studied
_BESIDE_MOMENTUM: Final = math.sqrt(10.0)  # beyond what momentum takes; chosen, not studied
_DIRECT: Final = {"sgd", "momentum", "nesterov", "lars", "extrap_sgd", "extrap_momentum"}


@dataclass(frozen=True)
class LrBox:
    """The box to write, and the law behind it.

    Attributes:
        low: lower end, at the batch size where `rule` leaves the box as it is.
        high: upper end.
        rule: of `centre` in the experiment; the one of three that needs the narrowest box.
        batch_size: where the box is as written.
        alpha: exponent of the law.
        scale: B* of the law.
    """

    low: float
    high: float
    rule: Rule
    batch_size: int
    alpha: float
    scale: float

    def at(self, batch_size: int) -> tuple[float, float]:
        """The box at a batch size."""
        factor = Centre(rule=self.rule, batch_size=self.batch_size).factor(batch_size)
        return self.low * factor, self.high * factor


def alpha_of(optimizer: str) -> float:
    """Exponent of the law: 1 for SGD's relatives, 0.75 (between 0.5 and 1) for those that normalise by a second moment.

    Source: McCandlish et al. 2018, app. E.2.
    """
    return 1.0 if optimizer in _DIRECT else 0.75


def lr_at(batch_size: float, lr: float, measured_at: float, scale: float, alpha: float) -> float:
    """The law lr*(B) = lr_max / (1 + B*/B)^alpha (McCandlish et al. 2018, eq. A.3) through one measured point.

    Example:
        >>> round(lr_at(192, lr=0.1, measured_at=64, scale=64, alpha=1.0), 12)
        0.15

    Args:
        batch_size: where it is wanted.
        lr: best at `measured_at`.
        measured_at: a batch size.
        scale: B*.
        alpha: see `alpha_of`.
    """
    return lr * math.pow((1.0 + scale / measured_at) / (1.0 + scale / batch_size), alpha)


def lr_box(
    lr: float,
    measured_at: int,
    scale: float,
    optimizer: str,
    batch_sizes: Sequence[int],
    space_lr: Box,
    momentum: Slack,
) -> LrBox:
    """One box for all batch sizes: around the law's centre at each, with the rule that makes it narrowest.

    Args:
        lr: best at `measured_at`.
        measured_at: the pilot's batch size.
        scale: B* of the law.
        optimizer: of the experiment.
        batch_sizes: to be studied.
        space_lr: the experiment's box, whose hard limits hold.
        momentum: what searching momentum beside lr asks for.

    Returns:
        The box; it holds `lr` at `measured_at`.
    """
    alpha = alpha_of(optimizer)
    found: list[LrBox] = []
    for rule in ("none", "sqrt", "linear"):
        centre = Centre(rule=rule, batch_size=measured_at)
        moved = [lr_at(b, lr, measured_at, scale, alpha) / centre.factor(b) for b in batch_sizes]
        low, high = min(moved) / max(_SIDE, momentum.down), max(moved) * max(_SIDE, momentum.up)
        found.append(LrBox(_rounded(low), _rounded(high), rule, measured_at, alpha, scale))
    least, most = space_lr.hard_low or 0.0, space_lr.hard_high or math.inf
    # Cut to the limits at every batch size, a box that moves may lose its own centre: then one that stays is cut.
    inside = [box for box in found if all(least <= box.at(b)[0] and box.at(b)[1] <= most for b in batch_sizes)]
    if inside:
        return min(inside, key=lambda box: box.high / box.low)
    return replace(found[0], low=max(found[0].low, least), high=min(found[0].high, most))


@dataclass(frozen=True)
class Slack:
    """By which factors lr must reach down and up because momentum is searched: lr / (1 - momentum) is what matters."""

    down: float = 1.0
    up: float = 1.0


def momentum_slack(optimizer: str, momentum: object, used: float) -> Slack:
    """What a searched momentum asks of the box: lr / (1 - momentum) kept at both of its ends, and half a decade.

    Args:
        optimizer: of the experiment.
        momentum: its dimension.
        used: the pilot's momentum.
    """
    if not isinstance(momentum, Box) or not has_effective_lr(optimizer):
        return Slack()
    down, up = (1.0 - used) / (1.0 - momentum.high), (1.0 - momentum.low) / (1.0 - used)
    return Slack(down * _BESIDE_MOMENTUM, up * _BESIDE_MOMENTUM)


def _rounded(number: float) -> float:
    return float(f"{number:.2g}")


__all__ = ["LrBox", "Slack", "alpha_of", "lr_at", "lr_box", "momentum_slack"]
