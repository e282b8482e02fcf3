"""How long one step takes at each batch size: measured where it was measured, modelled beyond."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize

from analysis.number_table import LARGEST, as_numbers, read_numbers
from search_spaces import InputError

Floats = npt.NDArray[np.float64]
Source = Literal["measured", "interpolated", "extrapolated"]
_COLUMNS = ("batch_size", "step_seconds")


@dataclass(frozen=True)
class StepTimes:
    """Seconds a step as a function of the batch size, on the hardware they were measured on.

    Between measured batch sizes the time is linear in B. Beyond them it follows the model t(B) = c0 + c1 B, scaled to
    go on from the last measured time.

    Attributes:
        batch_sizes: where it was measured, rising; at least two.
        step_seconds: median time of one step there, in seconds.
        c0: seconds of a step that do not depend on the batch size.
        c1: seconds an example.
        rms_relative_residual: root mean square of (c0 + c1 B) / t - 1 over the measured batch sizes.
    """

    batch_sizes: tuple[float, ...]
    step_seconds: tuple[float, ...]
    c0: float
    c1: float
    rms_relative_residual: float

    def seconds(self, batch_size: npt.ArrayLike) -> Floats:
        """t(B), in seconds; shape of `batch_size`."""
        batch = np.asarray(batch_size, dtype=float)
        inside = np.clip(batch, self.batch_sizes[0], self.batch_sizes[-1])
        beyond = (self.c0 + self.c1 * batch) / (self.c0 + self.c1 * inside)
        return np.asarray(np.interp(inside, self.batch_sizes, self.step_seconds) * beyond)

    def source(self, batch_size: float) -> Source:
        """Where the time at one batch size comes from."""
        if batch_size in self.batch_sizes:
            return "measured"
        return "interpolated" if self.batch_sizes[0] < batch_size < self.batch_sizes[-1] else "extrapolated"


def read_step_times(path: str | PathLike[str]) -> StepTimes:
    """Read a CSV table with the columns `batch_size` (examples) and `step_seconds` (time of one optimizer update).

    Args:
        path: the file. Rows at one batch size are repeats.

    Returns:
        The step times, fitted.

    Raises:
        InputError: names everything that is wrong with the file.
    """  # noqa: DOC502  (raised below)
    return fit_step_times(read_numbers(path, _COLUMNS), where=str(path))


def fit_step_times(table: pd.DataFrame, where: str = "table of step times") -> StepTimes:
    """Fit t(B) = c0 + c1 B with c0, c1 >= 0 by least squares of the relative error (c0 + c1 B) / t - 1.

    Relative, because times at large batch sizes would otherwise decide alone. Repeats enter as their median; rows
    without a time are passed over (an experiment records none where nothing was trained).

    Args:
        table: columns `batch_size` and `step_seconds`.
        where: its name for messages.

    Returns:
        The measured times and the model.

    Raises:
        InputError: a value is not a positive number, or fewer than two batch sizes have a time.
    """
    numbers = as_numbers(table, where, _COLUMNS).dropna(subset=["step_seconds"])
    problems = [
        f"'{name}' must be a positive number below {LARGEST:g}, but row {row} has {value:g}; mend or remove the row"
        for name in _COLUMNS
        for row, value in numbers[name].items()
        if not 0 < value < LARGEST
    ]
    times = numbers.groupby("batch_size")["step_seconds"].median()
    if len(times) < 2:
        problems.append(f"step times at 2 batch sizes or more are needed, but there are {len(times)}; measure another")
    if problems:
        raise InputError(where, problems)
    batch, seconds = times.index.to_numpy(dtype=float), times.to_numpy(dtype=float)
    # The batch size is scaled to order one, so that the solver's tolerance does not depend on the unit.
    scale = float(batch.max())
    relative = np.stack([1 / seconds, batch / scale / seconds], axis=-1)
    (c0, c1), _ = optimize.nnls(relative, np.ones(len(batch)))
    return StepTimes(
        batch_sizes=tuple(batch.tolist()),
        step_seconds=tuple(seconds.tolist()),
        c0=float(c0),
        c1=float(c1) / scale,
        rms_relative_residual=float(np.sqrt(((relative @ [c0, c1] - 1) ** 2).mean())),
    )
