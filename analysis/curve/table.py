"""The input of a fit: a table of steps to target, and how its rows become one study a batch size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.records.number_table import LARGEST, NO_COLUMNS, as_numbers, read_numbers
from bcrit.search_spaces.experiment import MOST_BATCH_SIZES
from bcrit.search_spaces.problems import InputError

COARSE = 0.2
"""Where a crossing is known to no better than this share of its steps, studies are fitted as the intervals between two
evaluations, and not as points. With s_min = 50, b_crit = 256, 8 batch sizes and 5 % noise, evaluated every 20, 40, 60
or 100 steps, or every 10,000 examples, 95 % intervals of b_crit from points covered 90, 25, 92, 55 and 17 %, from
intervals 88, 98, 100, 100 and 98 % (60 simulations each)."""


def is_coarse(resolution: float, steps: float) -> bool:
    """Whether the steps between the evaluations around a crossing are many; one step is as few as there can be."""
    return math.isfinite(steps) and resolution > max(1.0, COARSE * steps)


CONTRADICTED = 1.2
"""A batch size that did not reach in so many times the steps of a smaller one that did is no bound of the curve, on
which steps only fall: its search failed, or training does there. As a bound it took b_crit from 200 to 120 where the
largest two of nine batch sizes failed in 1.6 times their steps (5 % noise; its 95 % intervals covered 63 %). Equal
steps that scatter by 10 % differ by less in nine of ten cases. Chosen, not studied."""

_FIRST = 1e-6  # of a step, in place of 0: far below any curve

_REQUIRED = ("batch_size", "steps")
_OPTIONAL = ("max_steps", "step_seconds")


Known = TypeVar("Known", bound="Study")


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

    @property
    def coarse(self) -> bool:
        """Whether the steps are only known to lie between two evaluations."""
        return self.steps is not None and is_coarse(self.resolution or 0.0, self.steps)


def lower_ends(studies: Sequence[Study]) -> npt.NDArray[np.float64] | None:
    """Log of the evaluation before every crossing, (n_studies,); None where none is coarse, and all are points.

    Where one is coarse, all that are known to more than one step are intervals: a point would stand at the upper end of
    its own, and pull the curve up. Where the first evaluation crossed, nothing bounds the steps from below.
    """
    if not any(study.coarse for study in studies):
        return None
    steps = np.array([study.steps or study.max_steps or math.nan for study in studies])
    widths = np.array([(study.resolution or 0.0) if study.steps is not None else 0.0 for study in studies])
    return np.asarray(np.log(np.maximum(steps - np.where(widths > 1, widths, 0.0), _FIRST)))


def fewest_below(studies: Sequence[Known]) -> list[Known | None]:
    """For each study, by rising batch size, the one below it that reached the target in the fewest steps."""
    found: list[Known | None] = []
    best: Known | None = None
    for study in studies:
        found.append(best)
        if study.steps is not None and (best is None or study.steps < (best.steps or 0.0)):
            best = study
    return found


def read_table(path: str | PathLike[str], columns: Mapping[str, str] = NO_COLUMNS) -> pd.DataFrame:
    """Read a table of steps to target: CSV, also divided by tabs or semicolons, also gzipped.

    Columns: `batch_size` (examples), `steps` (empty, nan or inf = target not reached), and where there are any
    `max_steps` (how far an unreached row was trained) and `step_seconds` (time of one step); `columns` says what they
    are called in the file. Rows at one batch size are repeats. Other columns, such as `seed`, are not needed. The
    columns come as floats, their index is the line in the file, and rows are judged later, by `studies`. An InputError
    names everything that is wrong with the file.
    """
    found = read_numbers(path, _REQUIRED, _OPTIONAL, columns=columns)
    found.attrs["where"] = str(path)
    return found


def name_of(table: pd.DataFrame) -> str:
    """What messages call a table: its file, where it was read from one."""
    return str(table.attrs.get("where", "table of steps to target"))


def censored_median(steps: npt.NDArray[np.float64], trained: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The median of repeats of which some did not reach.

    An unreached repeat counts as infinite (AlgoPerf's rule, reference section 8, item 8). For an even number of repeats
    the median is the mean of the middle two, so it is infinite already when half are unreached. It is then at least the
    median with every unreached repeat replaced by how far it was trained: a median never falls when one of its
    arguments grows. (The largest of these lengths would claim too much, the smallest too little.)
    """
    return float(np.median(steps)), float(np.median(np.where(np.isfinite(steps), steps, trained)))


def studies(
    table: pd.DataFrame, at_edge: Mapping[float, str] | None = None
) -> tuple[tuple[Study, ...], tuple[RowSetAside, ...]]:
    """Turn rows into one study a batch size, and say which rows cannot be used.

    Repeats enter as their median (`censored_median`); a study whose median is infinite is right-censored at its bound.
    One that lies at an edge of its box (`at_edge`, by batch size) bounds nothing: a wider box may have reached. Nor
    does one that smaller batch sizes contradict.
    A column that is missing or not numeric, and absurdly many batch sizes, are an InputError.
    """
    numbers = as_numbers(table, name_of(table), _REQUIRED, ["max_steps", "steps_resolution"])
    if (count := numbers["batch_size"].nunique()) > MOST_BATCH_SIZES:
        rule = f"a curve has at most {MOST_BATCH_SIZES:,} batch sizes, but there are {count:,}"
        raise InputError(name_of(table), [f"{rule}; look whether 'batch_size' is the column that you mean"])
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
    numbers["steps"] = numbers["steps"].fillna(math.inf)
    # An unreached repeat of unknown length bounds its own steps by 0 only.
    told = numbers["max_steps"].between(0, math.inf, inclusive="neither")
    numbers["max_steps"] = numbers["max_steps"].where(told, 0.0)
    used = numbers.drop(index=list(aside))
    rows: dict[float, pd.Index[int]] = used.groupby("batch_size").groups  # type: ignore[assignment]
    columns = [numbers[name].to_numpy() for name in ("steps", "max_steps", "steps_resolution")]
    found, edges = [], at_edge or {}
    for size in sorted(rows):
        steps, trained, resolutions = (column[rows[size]] for column in columns)
        reached = np.isfinite(steps)
        median, bound = censored_median(steps, trained)
        if median == math.inf and bound == 0:
            reason = "not reached, and max_steps does not say how far it was trained; add it"
            aside.update(dict.fromkeys(rows[size], reason))
            continue
        censored, edge = median == math.inf, edges.get(size)
        if censored and edge:
            reason = f"not reached at batch size {size:g}, but at the edge of its box ({edge}): that is no bound"
            aside.update(dict.fromkeys(rows[size], reason))
            continue
        known = resolutions[~np.isnan(resolutions)]
        resolution = float(np.median(known)) if len(known) else 0.0
        found.append(
            Study(
                batch_size=size,
                steps=None if censored else median,
                max_steps=bound if censored else None,
                n_repeats=len(steps),
                n_reached=int(reached.sum()),
                resolution=resolution if resolution > 0 else None,
            )
        )
    kept = []
    for study, best in zip(found, fewest_below(found), strict=True):
        if best is None or (study.max_steps or 0.0) <= CONTRADICTED * (best.steps or 0.0):
            kept.append(study)
            continue
        reason = (
            f"not reached in {study.max_steps:g} steps at batch size {study.batch_size:g}, though {best.batch_size:g} "
            f"did in {best.steps:g}: a larger batch that is tuned as well needs no more; look at its search"
        )
        aside.update(dict.fromkeys(rows[study.batch_size], reason))
    order = [row for row in numbers.index if row in aside]
    return tuple(kept), tuple(RowSetAside(labels[row], aside[row]) for row in order)
