"""How often the interval of b_crit holds the truth: `python -m benchmarks.coverage`, about ten minutes on one core.

Every cell simulates whole studies: n batch sizes spread evenly in log B from b_crit / 16 to 8 b_crit, log-normal errors
of S, one run a batch size. The truth is a hyperbola; the p-norm with p = 1.4; or the noisy quadratic model (Zhang et
al. 2019: h_i = c_i = 1/i in 1000 dimensions, risk below 0.01) trained by SGD whose learning rate is the best one at
every batch size, from the exact second moments. The target is the pseudo-true b_crit: the hyperbola fitted to the same
grid without noise and with all steps reached. "censored" trains at most 6 s_min steps, so that the smallest batch sizes
(below b_crit / 5) are not reached.
"""

import math
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from bcrit.tuner.workloads.noisy_quadratic import MOMENTS

STUDIES = 400  # a cell; Monte-Carlo standard error of a coverage of 0.95: 0.011
LEVEL = 0.95
CAP = 6.0  # in s_min
GOAL, START = 0.01, 1.0  # of the noisy quadratic model: risk, and E x_i(0)^2
SPECTRUM = 1 / np.arange(1.0, 1001.0)
QUADRATIC = (690.0, 664.0)  # its s_min and b_crit, only to place the grid and the cap
Floats = npt.NDArray[np.float64]


def quadratic_steps(log_lr: float, batch_size: float) -> float:
    """Log of the steps of SGD on the noisy quadratic to `GOAL`, a real number; 100 where it is never reached."""
    matrix, noise = MOMENTS["sgd"](math.exp(log_lr), 0.0, SPECTRUM, SPECTRUM / batch_size)
    factor, floor = matrix[0, 0], noise[0] / (1 - matrix[0, 0])

    def above(log_steps: float) -> float:
        return float(0.5 * SPECTRUM @ (floor + factor ** math.exp(log_steps) * (START - floor)) - GOAL)

    return float(optimize.brentq(above, -5.0, 20.0)) if above(20.0) < 0 else 100.0


def quadratic_curve(batch: Floats) -> Floats:
    """S(B) at the best learning rate, in units of s_min; `batch` in units of b_crit."""
    s_min, b_crit = QUADRATIC
    rates = np.linspace(math.log(1e-5), math.log(1.99), 100)  # the stable ones
    found = []
    for size in batch * b_crit:
        scan = [quadratic_steps(rate, size) for rate in rates]
        i = int(np.clip(np.argmin(scan), 1, len(rates) - 2))
        best = optimize.minimize_scalar(
            quadratic_steps, bounds=(rates[i - 1], rates[i + 1]), args=(size,), method="bounded"
        )
        found.append(math.exp(min(best.fun, scan[i])))
    return np.array(found) / s_min


TRUTHS = {
    "hyperbola": PNorm(1.0, 1.0, 1.0, 0.0).steps,
    "p-norm 1.4": PNorm(1.0, 1.0, 1.4, 0.0).steps,
    "noisy quadratic": quadratic_curve,
}


def fit_one(batch: Floats, steps: Floats, censored: bool) -> HyperbolaFit:
    """Fit one simulated study."""
    observed = np.where(steps > CAP, math.nan, steps) if censored else steps
    return fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": observed, "max_steps": CAP}), level=LEVEL)


def cell(name: str, noise: float, n: int, censored: bool) -> dict[str, float]:
    """Simulate one cell of the table."""
    rng = np.random.default_rng(2024)
    batch = 2.0 ** np.linspace(-4, 3, n)
    truth = TRUTHS[name](batch)
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
        "reached": float(np.mean([len(fit.reached) for fit in fits])),
    }


def main() -> None:
    """Print the table."""
    cells = [
        (name, noise, n, censored)
        for name in TRUTHS
        for censored in (False, True)
        for noise in (0.03, 0.1)
        for n in (5, 8, 11)
    ]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(cell, *zip(*cells, strict=True)))
    index = [(name, "censored" if cut else "all reached", f"{noise:.0%}", n) for name, noise, n, cut in cells]
    table = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(index, names=["truth", "steps", "noise", "n"]))
    print(f"Nominal {LEVEL:.0%}, {STUDIES} studies a cell; `open` = share of intervals without an end.\n")
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
