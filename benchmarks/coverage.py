"""How often the interval of b_crit holds the truth: `python -m benchmarks.coverage`, about 90 s on one core.

Every cell simulates whole studies: n batch sizes spread evenly in log B from b_crit / 16 to 8 b_crit, log-normal errors
of S, one run a batch size. The truth is a hyperbola, or the p-norm with p = 1.4 (what the noisy quadratic model shows),
for which the target is the pseudo-true b_crit: the hyperbola fitted to the same grid without noise. "censored" trains
at most 6 s_min steps, so that the smallest batch sizes (below b_crit / 5) are not reached.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import HyperbolaFit, PNorm, fit_hyperbola

STUDIES = 200  # a cell; Monte-Carlo standard error of a coverage of 0.95: 0.015
LEVEL = 0.95
CAP = 6.0  # in s_min
TRUTHS = {"hyperbola": 1.0, "p-norm 1.4": 1.4}
Floats = npt.NDArray[np.float64]


def fit_one(batch: Floats, steps: Floats, censored: bool) -> HyperbolaFit:
    """Fit one simulated study."""
    observed = np.where(steps > CAP, math.nan, steps) if censored else steps
    return fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": observed, "max_steps": CAP}), level=LEVEL)


def cell(p: float, noise: float, n: int, censored: bool, rng: np.random.Generator) -> dict[str, float]:
    """Simulate one cell of the table."""
    batch = 2.0 ** np.linspace(-4, 3, n)
    truth = PNorm(s_min=1.0, b_crit=1.0, p=p, rms_log_residual=0.0).steps(batch)
    target = fit_one(batch, truth, censored=False).b_crit
    fits = [fit_one(batch, truth * np.exp(rng.normal(0, noise, n)), censored) for _ in range(STUDIES)]
    low, high = np.array([[fit.b_crit_low, fit.b_crit_high] for fit in fits]).T
    closed = (low > 0) & np.isfinite(high)
    logs = np.log([fit.b_crit for fit in fits if 0 < fit.b_crit < math.inf]) - math.log(target)
    return {
        "coverage": float(((low <= target) & (target <= high)).mean()),
        "high/low": float(np.median(high[closed] / low[closed])),
        "open": float(1 - closed.mean()),
        "median error": float(np.median(logs)),
        "identified": float(np.mean([fit.identified["b_crit"] for fit in fits])),
        "lack of fit": float(np.mean([fit.lack_of_fit for fit in fits])),
        "reached": float(np.mean([fit.degrees_of_freedom + 2 for fit in fits])),
    }


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(2024)
    rows = {
        (name, "censored" if censored else "all reached", f"{noise:.0%}", n): cell(p, noise, n, censored, rng)
        for name, p in TRUTHS.items()
        for censored in (False, True)
        for noise in (0.03, 0.1)
        for n in (5, 8, 11)
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.names = ["truth", "steps", "noise", "n"]
    print(f"Nominal {LEVEL:.0%}, {STUDIES} studies a cell; `open` = share of intervals without an end.\n")
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
