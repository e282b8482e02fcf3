"""The coordinates in which steps-to-target is simple: log(lr/(1 - momentum)) in the place of log(lr).

At small batch sizes only the effective learning rate lr/(1 - momentum) matters, which makes a diagonal valley in
(lr, momentum) and a straight one here. On the noisy quadratic model the change halved TPE's error at 100 trials. It
holds for optimizers whose velocity is a sum (`has_effective_lr`), and only for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bcrit.search_spaces.dimensions import Log, ReverseLog
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.space_rules import has_effective_lr


def couples(space: SearchSpace, optimizer: str) -> bool:
    """Whether lr and momentum are both searched, on the scales on which the change of coordinates is a shift."""
    searched = isinstance(space.root.get("lr"), Log) and isinstance(space.root.get("momentum"), ReverseLog)
    return searched and has_effective_lr(optimizer)


def shift(address: str, point: Mapping[str, Any], coupled: bool) -> float:
    """Scaled coordinate of an axis minus its search coordinate: log(1 - momentum) for a coupled lr, else 0."""
    return math.log1p(-float(point["momentum"])) if address == "lr" and coupled else 0.0
