"""Training functions whose processes are to be ended."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = Callable[..., None]


def cleans_up(config: Any, report: Report) -> None:
    try:
        for step in range(100):
            report(step=step, loss=1)
    finally:
        Path(config.file).write_text("clean")


def has_children(config: Any, report: Report) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    for step in range(100):
        report(step=step, loss=1, pid=os.getpid(), child=child.pid)


def has_children_and_sleeps(config: Any, report: Report) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    report(step=0, loss=1, pid=os.getpid(), child=child.pid)
    time.sleep(1000)


def holds_the_interpreter(config: Any, report: Report) -> None:
    report(step=0, loss=1, pid=os.getpid(), child=os.getpid())
    ctypes.PyDLL(None).sleep(1000)


def looks_for_gpus(config: Any, report: Report) -> None:
    report(step=0, loss=1, hidden=float(os.environ.get("CUDA_VISIBLE_DEVICES") == ""))


def sleeps(config: Any, report: Report) -> None:
    time.sleep(1000)
