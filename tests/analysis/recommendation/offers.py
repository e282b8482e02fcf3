"""Curves, step times and hardware for the tests of the recommendation."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.recommendation.hardware import Hardware, StepTimes, fit_step_times


def fitted(steps: Mapping[float, float], unit: str = "examples") -> HyperbolaFit:
    """Steps by batch size."""
    return fit_hyperbola(pd.DataFrame(list(steps.items()), columns=["batch_size", "steps"]), unit=unit)


B = 2.0 ** np.arange(3, 13)
S_MIN, B_CRIT = 500.0, 200.0
STEPS = S_MIN * (1 + B_CRIT / B)  # e_min = 100,000
EXACT = fitted(dict(zip(B, STEPS, strict=True)))
_WOBBLE = np.exp(0.03 * np.array([1, -1, 1, 1, -1, 1, -1, -1, 1, -1]))
NOISY = fitted(dict(zip(B, STEPS * _WOBBLE, strict=True)))
LEFT_SIDE = fitted(dict(zip(B[:4], 5e5 / B[:4] * np.exp([0.01, -0.01, 0.01, -0.01]), strict=True)))


def step_times(c0: float, c1: float, repeats: int = 1, scatter: float = 0.0) -> StepTimes:
    """t(B) = c0 + c1 B; repeats lie around it by this share, up and down."""
    around = 1 + scatter * np.linspace(-1, 1, repeats) if repeats > 1 else np.ones(1)
    rows = [(size, (c0 + c1 * size) * factor) for size in B for factor in around]
    return fit_step_times(pd.DataFrame(rows, columns=["batch_size", "step_seconds"]))


def only_at(batch_size: float, device: str, price: float, devices: int = 1) -> Hardware:
    """Hardware that was timed at one batch size, where a step takes a second."""
    times = fit_step_times(pd.DataFrame({"batch_size": [batch_size], "step_seconds": [1.0]}), fewest=1)
    return Hardware(times, device, devices, price)


H100 = Hardware(step_times(5, 0.012), "h100", 1, 3.0)
H100_8 = Hardware(step_times(5, 0.002), "h100", 8, 3.0)
A100 = Hardware(step_times(8, 0.03), "a100", 1, 1.0)
A100_8 = Hardware(step_times(8, 0.0045), "a100", 8, 1.0)
ALL = (H100, H100_8, A100, A100_8)
