"""How long one step takes at each batch size: measured where it was measured, modelled beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special

from bcrit.analysis.records.number_table import LARGEST, as_numbers, read_numbers
from bcrit.search_spaces import InputError

Floats = npt.NDArray[np.float64]
Source = Literal["measured", "interpolated", "extrapolated"]
_COLUMNS = ("batch_size", "step_seconds")
_FEWEST = 2  # batch sizes, for a line through them


@dataclass(frozen=True)
class StepTimes:
    """Seconds a step as a function of the batch size, on the hardware they were measured on.

    Between measured batch sizes the time is linear in B. Beyond them it follows the model t(B) = c0 + c1 B, scaled to
    go on from the last measured time. A table of one batch size says nothing of any other: there the time is infinite.

    Attributes:
        batch_sizes: where it was measured, rising.
        step_seconds: median time of one step there, in seconds.
        c0: seconds of a step that do not depend on the batch size.
        c1: seconds an example; with c0, of the model, which one batch size does not determine.
        rms_relative_residual: root mean square of (c0 + c1 B) / t - 1 over the measured batch sizes.
        repeats: rows at each batch size.
        log_sigma: standard deviation of the log of one measured time, pooled over the batch sizes; None without
            repeats.
        degrees_of_freedom: of `log_sigma`: rows - batch sizes.
    """

    batch_sizes: tuple[float, ...]
    step_seconds: tuple[float, ...]
    c0: float
    c1: float
    rms_relative_residual: float
    repeats: tuple[int, ...] = ()
    log_sigma: float | None = None
    degrees_of_freedom: int = 0

    @property
    def fixed(self) -> bool:
        """Whether only one batch size was timed, so that no other can be offered."""
        return len(self.batch_sizes) == 1

    def seconds(self, batch_size: npt.ArrayLike) -> Floats:
        """t(B), in seconds; shape of `batch_size`."""
        batch = np.asarray(batch_size, dtype=float)
        if self.fixed:
            return np.where(batch == self.batch_sizes[0], self.step_seconds[0], math.inf)
        inside = np.clip(batch, self.batch_sizes[0], self.batch_sizes[-1])
        beyond = (self.c0 + self.c1 * batch) / (self.c0 + self.c1 * inside)
        return np.asarray(np.interp(inside, self.batch_sizes, self.step_seconds) * beyond)

    def log_half_width(self, batch_size: npt.ArrayLike, level: float) -> Floats:
        """Half the width of the interval of log t(B); shape of `batch_size`, zeros without repeats.

        The standard error of a median of n normal values is sqrt(pi / 2) sigma / sqrt(n) for many values, and sigma /
        sqrt(n) for one or two, where median and mean are the same. It is multiplied by Student's t with the pooled
        degrees of freedom. Between measured batch sizes it is interpolated; beyond them the nearest is taken, which
        leaves out the error of the model.

        Args:
            batch_size: where.
            level: confidence.
        """
        batch = np.asarray(batch_size, dtype=float)
        if self.log_sigma is None:
            return np.zeros(batch.shape)
        n = np.array(self.repeats, dtype=float)
        error = np.where(n > 2, math.sqrt(math.pi / 2), 1.0) * self.log_sigma / np.sqrt(n)
        quantile = float(special.stdtrit(self.degrees_of_freedom, (1 + level) / 2))
        return np.asarray(quantile * np.interp(batch, self.batch_sizes, error))

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


def trial_step_times(trials: pd.DataFrame) -> StepTimes | None:
    """The step times that a run's own trials took, every trial a repeat; evaluation is not in them.

    Args:
        trials: columns `batch_size`, `steps` and `train_seconds` of the trials table.

    Returns:
        The step times; None where fewer than two batch sizes have any.
    """
    timed = trials[(trials["steps"] > 0) & (trials["train_seconds"] > 0)]
    table = timed.assign(step_seconds=timed["train_seconds"] / timed["steps"])
    return fit_step_times(table, "trials") if table["batch_size"].nunique() >= _FEWEST else None


def fit_step_times(table: pd.DataFrame, where: str = "table of step times", fewest: int = _FEWEST) -> StepTimes:
    """Fit t(B) = c0 + c1 B with c0, c1 >= 0 by least squares of the relative error (c0 + c1 B) / t - 1.

    Relative, because times at large batch sizes would otherwise decide alone. Repeats enter as their median; rows
    without a time are passed over (an experiment records none where nothing was trained).

    Args:
        table: columns `batch_size` and `step_seconds`.
        where: its name for messages.
        fewest: batch sizes that must have a time; with 1, a single one is taken as it is.

    Returns:
        The measured times and the model.

    Raises:
        InputError: a value is not a positive number, or too few batch sizes have a time.
    """
    numbers = as_numbers(table, where, _COLUMNS).dropna(subset=["step_seconds"])
    problems = [
        f"'{name}' must be a positive number below {LARGEST:g}, but row {row} has {value:g}; mend or remove the row"
        for name in _COLUMNS
        for row, value in numbers[name].items()
        if not 0 < value < LARGEST
    ]
    groups = numbers.groupby("batch_size")["step_seconds"]
    times = groups.median()
    if len(times) < fewest:
        problems.append(
            f"step times at {fewest} batch sizes or more are needed, but there are {len(times)}; measure another"
        )
    if problems:
        raise InputError(where, problems)
    batch, seconds = times.index.to_numpy(dtype=float), times.to_numpy(dtype=float)
    # The batch size is scaled to order one, so that the solver's tolerance does not depend on the unit.
    scale = float(batch.max())
    relative = np.stack([1 / seconds, batch / scale / seconds], axis=-1)
    (c0, c1), _ = optimize.nnls(relative, np.ones(len(batch)))
    freedom = len(numbers) - len(batch)
    logs = np.log(numbers["step_seconds"])
    squares = float(((logs - logs.groupby(numbers["batch_size"]).transform("mean")) ** 2).sum())
    return StepTimes(
        batch_sizes=tuple(batch.tolist()),
        step_seconds=tuple(seconds.tolist()),
        c0=float(c0),
        c1=float(c1) / scale,
        rms_relative_residual=float(np.sqrt(((relative @ [c0, c1] - 1) ** 2).mean())),
        repeats=tuple(int(count) for count in groups.count()),
        log_sigma=math.sqrt(squares / freedom) if freedom else None,
        degrees_of_freedom=freedom,
    )
