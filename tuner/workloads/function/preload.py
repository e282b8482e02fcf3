"""Imported once by the process that trials are forked from: what the user's module loads is then there for all."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from typing import Final

VARIABLE: Final = "BCRIT_FUNCTION"
"""The environment variable that names the function: a JSON list of name and folder."""


# Libraries whose own threads do not survive a fork, though Python does not see them.
_NOT_FORKED = ("jax", "tensorflow")


def _load() -> bool:
    """Import the user's module; returns whether a fork is safe afterwards."""
    import torch  # survives a fork

    from bcrit.tuner.workloads.function.child import load

    torch.optim.SGD([torch.zeros(1)], lr=0.0)  # the first optimizer of a process loads much more of PyTorch: 1.5 s
    if VARIABLE in os.environ:
        # Every trial meets the error again, and says so.
        with suppress(BaseException):
            load(*json.loads(os.environ[VARIABLE]))
    return threading.active_count() == 1 and not any(name in sys.modules for name in _NOT_FORKED)


fork_is_safe: Final = _load()
"""Whether the import left nothing running; otherwise trials begin afresh."""
