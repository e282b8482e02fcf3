"""A module that starts a thread when it is imported, which a fork would not have."""

import threading
from typing import Any

_ASKED, _ANSWERED = threading.Event(), threading.Event()


def _serve() -> None:
    _ASKED.wait()
    _ANSWERED.set()


threading.Thread(target=_serve, daemon=True).start()


def train(config: Any, report: Any) -> None:
    _ASKED.set()
    report(step=0, loss=1, answered=float(_ANSWERED.wait(60)))
