"""How often intervals hold the truth: of b_crit, and of the hours that are recommended; ten minutes each on one core.

    python -m benchmarks.coverage
    python -m benchmarks.coverage hours [STUDIES]

Every cell simulates whole studies, with log-normal errors of S and one run a batch size. The truth is a p-norm
S = s_min (1 + (b / B)^p)^(1/p), of which p = 1 is the hyperbola; or the noisy quadratic model (Zhang et al. 2019:
h_i = c_i = 1/i in 1000 dimensions, risk below 0.01) trained by SGD whose learning rate is the best one at every batch
size, from the exact second moments.

**b_crit**: n batch sizes spread evenly in log B from b_crit / 16 to 8 b_crit. The target is the pseudo-true b_crit: the
hyperbola fitted to the same grid without noise and with all steps reached. "censored" trains at most 6 s_min steps, so
that the smallest batch sizes (below b_crit / 5) are not reached.

**Hours**: n batch sizes a factor apart around b_crit, a step that takes 1 + B / b_crit units of time. `recommend` is
asked as a user would, and its interval of hours at the batch size in its first sentence is compared with the hours of
the curve that the study was made from. Beside it stands the interval of the hyperbola alone at the same batch size, and
the share of new studies there (with the noise of the others) that the interval holds: it is that of the curve, so that
these are fewer. Studies that do not identify b_crit are left out.
"""

import math
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from bcrit.analysis.recommendation import recommend
from bcrit.analysis.recommendation.hardware import fit_step_times
from bcrit.tuner.workloads.noisy_quadratic import MOMENTS

STUDIES = 400  # a cell; Monte-Carlo standard error of a coverage of 0.95: 0.011
LEVEL = 0.95
CAP = 6.0  # in s_min
GOAL, START = 0.01, 1.0  # of the noisy quadratic model: risk, and E x_i(0)^2
SPECTRUM = 1 / np.arange(1.0, 1001.0)
QUADRATIC = (690.0, 664.0)  # its s_min and b_crit, only to place the grid and the cap
Floats = npt.NDArray[np.float64]

STUDIES_OF_HOURS = 200  # a cell; 0.015
TRUTHS_OF_HOURS = ("0.6", "0.8", "1", "1.2", "1.3", "1.4", "2", "noisy quadratic")
GRIDS = {"6 x2": (6, 2), "6 x4": (6, 4), "8 x2": (8, 2), "8 x4": (8, 4), "10 x2": (10, 2), "12 x2": (12, 2)}
NOISES = (0.02, 0.05, 0.1)
B_CRIT, S_MIN = 200.0, 1000.0


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


def of_b_crit() -> None:
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


@cache
def study(name: str, grid: str) -> tuple[Floats, Floats]:
    """The batch sizes of a grid, and S(B) of a truth there."""
    n, factor = GRIDS[grid]
    batch = np.rint(B_CRIT * float(factor) ** (np.arange(n) - n // 2))
    if name == "noisy quadratic":
        return batch, S_MIN * quadratic_curve(batch / B_CRIT)
    return batch, PNorm(S_MIN, B_CRIT, float(name), 0.0).steps(batch)


def cell_of_hours(name: str, grid: str, noise: float, studies: int) -> dict[str, float]:
    """Simulate one cell: coverage and width of both intervals, as ratios of their ends."""
    # Errors of a cell are its own: were they those of all cells of as many sizes, these would miss together.
    rng, (batch, truth) = np.random.default_rng(zlib.crc32(f"{name}, {grid}, {noise}".encode())), study(name, grid)
    times = fit_step_times(pd.DataFrame({"batch_size": batch, "step_seconds": 1 + batch / B_CRIT}))
    rows = []
    for _ in range(studies):
        table = pd.DataFrame({"batch_size": batch, "steps": truth * np.exp(rng.normal(0, noise, len(batch)))})
        fit = fit_hyperbola(table)
        found = recommend(fit, times)
        point = found.choices[found.advised or ""]
        if not fit.identified["b_crit"] or point.steps_low is None or point.steps_high is None:
            continue
        true = float(truth[batch == point.batch_size][0])
        old = fit.predict([point.batch_size]).iloc[0]
        again = true * math.exp(rng.normal(0, noise))
        rows.append(
            {
                "coverage": point.steps_low <= true <= point.steps_high,
                "high/low": point.steps_high / point.steps_low,
                "error": math.log(point.steps / true),
                "of the hyperbola": old["steps_low"] <= true <= old["steps_high"],
                "its high/low": old["steps_high"] / old["steps_low"],
                "its error": math.log(old["steps"] / true),
                "a new study": point.steps_low <= again <= point.steps_high,
            }
        )
    found_rows = pd.DataFrame(rows)
    means = found_rows.drop(columns=["error", "its error"]).mean().to_dict()
    rms = {name: math.sqrt(float((found_rows[name] ** 2).mean())) for name in ("error", "its error")}
    return {**{str(key): float(value) for key, value in means.items()}, **rms, "identified": len(rows) / studies}


def of_hours(studies: int) -> None:
    """Print coverage and width by truth, and by grid and noise."""
    cells = list(product(TRUTHS_OF_HOURS, GRIDS, NOISES))
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(cell_of_hours, *zip(*cells, strict=True), [studies] * len(cells)))
    table = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(cells, names=["p", "sizes", "noise"]))
    shown = "{:.3f}".format
    print(f"Nominal 95 %, {studies} studies a cell.\n\n{table.to_string(float_format=shown)}\n")
    print(table.groupby("p", sort=False).mean().to_string(float_format=shown))
    print(f"\nleast and most of a cell: {shown(table['coverage'].min())} and {shown(table['coverage'].max())}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["hours"]:
        of_hours(int(sys.argv[2]) if len(sys.argv) > 2 else STUDIES_OF_HOURS)
    else:
        of_b_crit()
