"""What Linux does with a process, and with those below it, when a parent ends; elsewhere nothing is done."""

import ctypes
import sys
from signal import Signals

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def die_with_parent(number: Signals) -> None:
    """Have this process sent a signal when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Have what is left behind by those that this process starts become its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
