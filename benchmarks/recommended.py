"""How often the interval of recommended hours holds the truth: `python -m benchmarks.recommended`, ten minutes.

Every cell simulates whole studies: n batch sizes a factor apart around b_crit, log-normal errors of S, one run a batch
size, a step that takes 1 + B / b_crit units of time. `recommend` is asked as a user would, and its interval of hours at
the batch size in its first sentence is compared with the hours of the curve that the study was made from. Beside it
stands the interval of the hyperbola alone at the same batch size, and the share of new studies there (with the noise of
the others) that the interval holds: it is that of the curve, so that these are fewer. The truth is the p-norm S = s_min
(1 + (b / B)^p)^(1/p), or the noisy quadratic of `benchmarks.coverage`. Studies that do not
identify b_crit are left out.
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

from bcrit.analysis.curve import fit_hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from bcrit.analysis.recommendation import recommend
from bcrit.analysis.recommendation.hardware import fit_step_times
from benchmarks.coverage import quadratic_curve

STUDIES = 200  # a cell; Monte-Carlo standard error of a coverage of 0.95: 0.015
TRUTHS = ("0.6", "0.8", "1", "1.2", "1.3", "1.4", "2", "noisy quadratic")
GRIDS = {"6 x2": (6, 2), "6 x4": (6, 4), "8 x2": (8, 2), "8 x4": (8, 4), "10 x2": (10, 2), "12 x2": (12, 2)}
NOISES = (0.02, 0.05, 0.1)
B_CRIT, S_MIN = 200.0, 1000.0
Floats = npt.NDArray[np.float64]


@cache
def study(name: str, grid: str) -> tuple[Floats, Floats]:
    """The batch sizes of a grid, and S(B) of a truth there."""
    n, factor = GRIDS[grid]
    batch = np.rint(B_CRIT * float(factor) ** (np.arange(n) - n // 2))
    if name == "noisy quadratic":
        return batch, S_MIN * quadratic_curve(batch / B_CRIT)
    return batch, PNorm(S_MIN, B_CRIT, float(name), 0.0).steps(batch)


def cell(name: str, grid: str, noise: float, studies: int) -> dict[str, float]:
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


def main(studies: int) -> None:
    """Print coverage and width by truth, and by grid and noise."""
    cells = list(product(TRUTHS, GRIDS, NOISES))
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(cell, *zip(*cells, strict=True), [studies] * len(cells)))
    table = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(cells, names=["p", "sizes", "noise"]))
    shown = "{:.3f}".format
    print(f"Nominal 95 %, {studies} studies a cell.\n\n{table.to_string(float_format=shown)}\n")
    print(table.groupby("p", sort=False).mean().to_string(float_format=shown))
    print(f"\nleast and most of a cell: {shown(table['coverage'].min())} and {shown(table['coverage'].max())}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES)
