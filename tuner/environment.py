"""What a run's numbers may depend on: versions, host, devices, commit."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("bcrit", "ray", "torch", "optuna", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn")


def describe_environment(seed: int) -> dict[str, Any]:
    """Collect the facts for `environment.json`.

    Args:
        seed: the experiment's seed.

    Returns:
        Plain data; entries that do not apply are null.
    """
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": seed,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "devices": devices,
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the working directory, if it is in a git repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
