"""Imported once by the process that trials are forked from: what the user's module loads is then there for all."""

import json
import os
import sys
import threading
from contextlib import suppress
from typing import Final

import torch  # survives a fork

from bcrit.tuner.workloads.child import VARIABLE, load

# Libraries whose own threads do not survive a fork, though Python does not see them.
_NOT_FORKED = ("jax", "tensorflow")

torch.optim.SGD([torch.zeros(1)], lr=0.0)  # the first optimizer of a process loads much more of PyTorch: 1.5 s
if VARIABLE in os.environ:
    with suppress(BaseException):  # every trial meets the error again, and says so
        load(*json.loads(os.environ[VARIABLE]))

fork_is_safe: Final = threading.active_count() == 1 and not any(name in sys.modules for name in _NOT_FORKED)
"""Whether the import left nothing running; otherwise trials begin afresh."""
