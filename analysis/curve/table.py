"""The input of a fit: a table of steps to target, and how its rows become one study a batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.records.number_table import LARGEST, as_numbers, read_numbers

_REQUIRED = ("batch_size", "steps")
_OPTIONAL = ("max_steps", "step_seconds")


@dataclass(frozen=True)
class RowSetAside:
    """A row that did not enter the fit."""

    row: int  # its label in the table's index; for a file, its line (the header is line 1)
    reason: str  # why


@dataclass(frozen=True)
class Study:
    """All rows at one batch size, as one observation."""

    batch_size: float  # examples a step
    steps: float | None  # median steps to target; None where the median run did not reach it
    max_steps: float | None  # for an unreached study a lower bound on its steps to target; None where reached
    n_repeats: int  # rows
    n_reached: int  # rows that reached the target
    resolution: float | None  # steps between the evaluations around the crossing; None where the table does not say


def read_table(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a CSV table of steps to target.

    Columns: `batch_size` (examples), `steps` (empty, nan or inf = target not reached), and where there are any
        `max_steps` (how far an unreached row was trained) and `step_seconds` (time of one step). Rows at one batch
        size are repeats. Other columns, such as `seed`, are not needed.

    Args:
        path: the file.

    Returns:
        These columns as floats; the index is the line in the file. Rows are judged later, by `studies`.

    Raises:
        InputError: names everything that is wrong with the file.
    """  # noqa: DOC502  (raised by read_numbers)
    return read_numbers(path, _REQUIRED, _OPTIONAL)


def censored_median(steps: npt.NDArray[np.float64], trained: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The median of repeats of which some did not reach.

    An unreached repeat counts as infinite (AlgoPerf's rule, reference section 8, item 8). For an even number of repeats
    the median is the mean of the middle two, so it is infinite already when half are unreached. It is then at least the
    median with every unreached repeat replaced by how far it was trained: a median never falls when one of its
    arguments grows. (The largest of these lengths would claim too much, the smallest too little.)
    """
    return float(np.median(steps)), float(np.median(np.where(np.isfinite(steps), steps, trained)))


def studies(table: pd.DataFrame) -> tuple[tuple[Study, ...], tuple[RowSetAside, ...]]:
    """Turn rows into one study a batch size, and say which rows cannot be used.

    Repeats enter as their median (`censored_median`); a study whose median is infinite is right-censored at its bound.

    Raises:
        InputError: a column is missing or not numeric.
    """  # noqa: DOC502  (raised by as_numbers)
    numbers = as_numbers(table, "table of steps to target", _REQUIRED, ["max_steps", "steps_resolution"])
    labels = list(numbers.index)  # of the caller, who may have used one twice
    numbers = numbers.reset_index(drop=True)
    for name in {"max_steps", "steps_resolution"} - set(numbers):
        numbers[name] = math.nan
    aside: dict[int, str] = {}
    for row, batch_size, steps in zip(numbers.index, numbers["batch_size"], numbers["steps"], strict=True):
        if not 1 / LARGEST < batch_size < LARGEST:
            aside[row] = f"batch_size must be a positive number below {LARGEST:g}, but it is {batch_size:g}"
        elif steps < 1 / LARGEST or LARGEST < steps < math.inf:
            aside[row] = f"steps must be a positive number below {LARGEST:g} (inf = not reached), but it is {steps:g}"
    found = []
    for batch_size, rows in numbers.drop(index=list(aside)).groupby("batch_size"):
        steps = rows["steps"].fillna(math.inf).to_numpy()
        # An unreached repeat of unknown length bounds its own steps by 0 only.
        trained = rows["max_steps"].where(rows["max_steps"].between(0, math.inf, inclusive="neither"), 0.0).to_numpy()
        reached = np.isfinite(steps)
        median, bound = censored_median(steps, trained)
        if median == math.inf and bound == 0:
            reason = "not reached, and max_steps does not say how far it was trained; add it"
            aside.update(dict.fromkeys(rows.index, reason))
            continue
        censored = median == math.inf
        resolution = rows["steps_resolution"].median()
        found.append(
            Study(
                batch_size=float(batch_size),  # type: ignore[arg-type]  # a group's key is typed as any label
                steps=None if censored else median,
                max_steps=bound if censored else None,
                n_repeats=len(rows),
                n_reached=int(reached.sum()),
                resolution=float(resolution) if resolution > 0 else None,
            )
        )
    order = [row for row in numbers.index if row in aside]
    return tuple(found), tuple(RowSetAside(labels[row], aside[row]) for row in order)
