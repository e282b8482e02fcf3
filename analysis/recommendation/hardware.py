"""What a training may run on: devices of a kind, how many, what an hour of one costs, how long a step takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize

from bcrit.analysis.numbers import Floats, t_quantile
from bcrit.analysis.records.number_table import LARGEST, as_numbers, read_numbers
from bcrit.search_spaces import InputError
from bcrit.search_spaces.resources import Resources

Source = Literal["measured", "interpolated", "extrapolated"]
_COLUMNS = ("batch_size", "step_seconds")
_TIMES = ("step_seconds", "examples_per_second", "throughput")
_FEWEST = 2  # batch sizes, for a line through them
_SEVERAL = 2  # numbers of devices, where there is a choice


@dataclass(frozen=True)
class StepTimes:
    """Seconds a step as a function of the batch size, on the hardware they were measured on.

    Between measured batch sizes the time is linear in B. Beyond them it follows the model t(B) = c0 + c1 B, scaled to
    go on from the last measured time. A table of one batch size says nothing of any other: there the time is infinite.
    """

    batch_sizes: tuple[float, ...]  # where it was measured, rising
    step_seconds: tuple[float, ...]  # median time of one step there
    c0: float  # seconds of a step that do not depend on the batch size
    c1: float  # seconds an example; with c0, of the model, which one batch size does not determine
    rms_relative_residual: float  # root mean square of (c0 + c1 B) / t - 1 over the measured batch sizes
    repeats: tuple[int, ...] = ()  # rows at each batch size
    log_sigma: float | None = None  # of the log of one measured time, pooled over batch sizes; None without repeats
    degrees_of_freedom: int = 0  # of `log_sigma`: rows - batch sizes

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
        """Half the width of the interval of log t(B) with this confidence; shape of `batch_size`, 0 without repeats.

        The standard error of a median of n normal values is sqrt(pi / 2) sigma / sqrt(n) for many values, and sigma /
        sqrt(n) for one or two, where median and mean are the same. It is multiplied by Student's t with the pooled
        degrees of freedom. Between measured batch sizes it is interpolated; beyond them the nearest is taken, which
        leaves out the error of the model.
        """
        batch = np.asarray(batch_size, dtype=float)
        if self.log_sigma is None:
            return np.zeros(batch.shape)
        n = np.array(self.repeats, dtype=float)
        error = np.where(n > 2, math.sqrt(math.pi / 2), 1.0) * self.log_sigma / np.sqrt(n)
        return np.asarray(t_quantile(self.degrees_of_freedom, level) * np.interp(batch, self.batch_sizes, error))

    def source(self, batch_size: float) -> Source:
        """Where the time at one batch size comes from."""
        if batch_size in self.batch_sizes:
            return "measured"
        return "interpolated" if self.batch_sizes[0] < batch_size < self.batch_sizes[-1] else "extrapolated"


@dataclass(frozen=True)
class Hardware:
    """One thing that a training may run on. Two numbers of devices are two of these: no law of scaling is assumed."""

    step_times: StepTimes  # on all the devices together
    device: str | None = None  # their kind, such as h100; None where only one kind is there and has no name
    devices: int = 1  # how many are paid for while it trains
    price_per_device_hour: float | None = None  # in the user's currency; None = cost is counted in device-hours

    @property
    def title(self) -> str:
        """As sentences and tables name it: 8 x h100; empty where there is nothing to tell apart."""
        return title(self.device, self.devices)


def title(device: str | None, devices: int | None) -> str:
    """`8 x h100`, or `8 devices` without a kind; empty for one device without a kind, or where nothing is known."""
    if device is None:
        return "" if devices in (None, 1) else f"{devices} devices"
    return f"{devices} x {device}"


def value_problems(devices: int, price: float | None) -> list[str]:
    """What is wrong with a number of devices and the price of one, in sentences."""
    found = []
    if devices < 1:
        found.append(f"'devices' must be 1 or more, but it is {devices}; give how many devices are paid for")
    if price is not None and not 0 <= price < math.inf:
        found.append(
            f"'price_per_device_hour' must be 0 or more, but it is {price:g}; give what one device costs an hour"
        )
    return found


def hardware_problems(hardware: Sequence[Hardware]) -> list[str]:
    """Why a list of hardware cannot be compared: a value out of range, one thing twice, or a price for some only."""
    found = [problem for item in hardware for problem in value_problems(item.devices, item.price_per_device_hour)]
    if not hardware:
        found.append("at least one device with its step times is needed; or give none for no hours and no cost")
    for (device, devices), count in Counter((item.device, item.devices) for item in hardware).items():
        if count > 1:
            found.append(f"'{title(device, devices) or 'device'}' stands {count} times; join its step times")
    bare = list(dict.fromkeys(str(item.device) for item in hardware if item.price_per_device_hour is None))
    if bare and any(item.price_per_device_hour is not None for item in hardware):
        found.append(
            f"every kind of device must have a price or none, but {', '.join(bare)} has none; add --price {bare[0]}=..."
        )
    return found


def read_step_times(path: str | PathLike[str]) -> StepTimes:
    """Read a CSV table with the columns `batch_size` (examples) and `step_seconds` (time of one optimizer update).

    Rows at one batch size are repeats. An InputError names everything that is wrong with the file.
    """
    return fit_step_times(read_numbers(path, _COLUMNS), where=str(path))


def trial_step_times(trials: pd.DataFrame) -> StepTimes | None:
    """The step times that a run's own trials took, every trial a repeat; evaluation is not in them.

    None where fewer than two batch sizes have any.
    """
    return known_step_times(_timed(trials))


def trial_hardware(trials: pd.DataFrame, resources: Resources, price: float | None) -> tuple[Hardware, ...] | None:
    """The numbers of devices that a run's own trials took, with their step times; None where it is but one."""
    timed = _timed(trials)
    devices = devices_of(timed, resources).clip(lower=1).astype(int)
    if devices.nunique() < _SEVERAL:
        return None
    return tuple(Hardware(fit_step_times(of, fewest=1), None, int(n), price) for n, of in timed.groupby(devices))


def devices_of(trials: pd.DataFrame, resources: Resources) -> pd.Series[float]:
    """The devices of each trial of a run."""
    known = {size: resources.at(int(size)).devices for size in trials["batch_size"].unique()}
    return trials["batch_size"].map(known).astype(float)


def _timed(trials: pd.DataFrame) -> pd.DataFrame:
    timed = trials[(trials["steps"] > 0) & (trials["train_seconds"] > 0)]
    return timed.assign(step_seconds=timed["train_seconds"] / timed["steps"])


def known_step_times(table: pd.DataFrame) -> StepTimes | None:
    """Of a table that may have the column `step_seconds`; None where fewer than two batch sizes have any."""
    timed = table.dropna(subset=["step_seconds"]) if "step_seconds" in table else table.iloc[:0]
    return fit_step_times(timed) if timed["batch_size"].nunique() >= _FEWEST else None


def fit_step_times(table: pd.DataFrame, where: str = "table of step times", fewest: int = _FEWEST) -> StepTimes:
    """Fit t(B) = c0 + c1 B with c0, c1 >= 0 by least squares of the relative error (c0 + c1 B) / t - 1.

    Relative, because times at large batch sizes would otherwise decide alone. Repeats enter as their median; rows
    without a time are passed over (an experiment records none where nothing was trained).

    The table, whose name for messages is `where`, has the columns `batch_size` and `step_seconds`. With `fewest` = 1 a
    single batch size is taken as it is. A value that is not a positive number, and fewer batch sizes with a time, are
    an InputError.
    """
    numbers = as_numbers(table, where, _COLUMNS).dropna(subset=["step_seconds"])
    problems = [problem for name in _COLUMNS for problem in _not_positive(numbers[name])]
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


def _wrong_rows(values: pd.Series[float], good: pd.Series[bool], rule: str, remedy: str) -> list[str]:
    return [
        f"'{values.name}' must be {rule}, but row {row} has {value:g}; {remedy}" for row, value in values[~good].items()
    ]


def _not_positive(values: pd.Series[float]) -> list[str]:
    good = (values > 1 / LARGEST) & (values < LARGEST)
    return _wrong_rows(values, good, f"a positive number below {LARGEST:g}", "mend or remove the row")


def read_prices(given: Sequence[str]) -> dict[str, float]:
    """Prices a device-hour by kind, from texts such as `h100=2.5`; an InputError names every text that is wrong."""
    found: dict[str, float] = {}
    problems = []
    for text in given:
        kind, mark, number = (part.strip() for part in text.rpartition("="))
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        if not mark or not kind or not 0 <= price < LARGEST:
            problems.append(f"a price must be NUMBER, or KIND=NUMBER, with a number of 0 or more, but it is {text!r}")
        elif kind in found:
            problems.append(f"'{kind}' has two prices; keep one")
        found[kind] = price
    if problems:
        raise InputError("--price", problems)
    return found


def read_hardware(
    path: str | PathLike[str],
    *,
    prices: Mapping[str, float] | None = None,
    price_per_device_hour: float | None = None,
    devices: int | None = None,
) -> tuple[Hardware, ...]:
    """Read what a training may run on from one CSV table.

    Columns: `batch_size` (examples); either `step_seconds` (time of one optimizer update) or `examples_per_second` (or
    `throughput`, the same: what all devices together train on in a second); and where there are any `device` (kind),
    `devices` (how many trained together) and `price_per_device_hour` (of the row's kind). Rows that agree in device,
    devices and batch size are repeats. Only combinations that stand in the table are offered. Where a number of
    devices was timed at one batch size only, only that batch size is offered for it. They come in the order of the
    table. An InputError names everything that is wrong with the file, or where it contradicts what else was given:
    `prices` by kind of device, or the price of the only kind, and how many devices, where the table does not say.
    """
    where = str(path)
    table = read_numbers(path, ("batch_size",), (*_TIMES, "devices", "price_per_device_hour"), texts=("device",))
    if problems := [*_contradictions(table, prices or {}, price_per_device_hour, devices), *_out_of_range(table)]:
        raise InputError(where, problems)
    if "step_seconds" not in table:
        rate = table["examples_per_second"] if "examples_per_second" in table else table["throughput"]
        table["step_seconds"] = table["batch_size"] / rate
    kinds = table["device"] if "device" in table else pd.Series("", index=table.index)
    counts = table["devices"] if "devices" in table else pd.Series(float(devices or 1), index=table.index)
    found = []
    for kind, count in dict.fromkeys(zip(kinds, counts, strict=True)):
        price = (prices or {}).get(kind, price_per_device_hour)
        if "price_per_device_hour" in table and len(own := table["price_per_device_hour"][kinds == kind].dropna()):
            price = float(own.iloc[0])
        rows = table[(kinds == kind) & (counts == count)]
        # A single batch size is enough where the table compares devices; a table of one device needs a line.
        name = title(str(kind) or None, int(count))
        times = fit_step_times(rows, f"{where}, {name}" if name else where, fewest=1 if "devices" in table else 2)
        found.append(Hardware(times, str(kind) or None, int(count), price))
    if problems := hardware_problems(found):
        raise InputError(where, problems)
    return tuple(found)


def _contradictions(
    table: pd.DataFrame, prices: Mapping[str, float], price: float | None, devices: int | None
) -> Iterator[str]:
    times = [name for name in _TIMES if name in table]
    kinds = list(dict.fromkeys(table["device"])) if "device" in table else []
    if len(times) != 1:
        yield f"exactly one of the columns {', '.join(_TIMES)} is needed, but there are {len(times)}"
    if devices is not None and "devices" in table:
        yield "the column 'devices' and --devices both say how many devices there are; leave one out"
    yield from value_problems(1 if devices is None else devices, price)
    if price is not None and "price_per_device_hour" in table:
        yield "the price is in the table and in --price-per-device-hour; leave one out"
    if price is not None and prices:
        yield "the price is given by --price and by --price-per-device-hour; leave one out"
    if price is not None and len(kinds) > 1:
        yield f"one price cannot be that of {len(kinds)} kinds of device; give --price {kinds[0]}=... for each"
    if prices and not kinds:
        yield "--price names kinds of device, but the table has no column 'device'; add it"
    elif unknown := sorted(set(prices) - set(kinds)):
        yield f"--price names {', '.join(unknown)}, but the devices of the table are {', '.join(kinds)}"
    if "price_per_device_hour" in table and kinds:
        priced = set(table["device"][table["price_per_device_hour"].notna()])
        yield from (
            f"'{kind}' has a price in the table and by --price; leave one out" for kind in prices if kind in priced
        )


def _out_of_range(table: pd.DataFrame) -> Iterator[str]:
    yield from _not_positive(table["batch_size"])
    for name in (name for name in _TIMES if name in table):
        yield from _not_positive(table[name].dropna())
    if "devices" in table:
        counts = table["devices"]
        whole = (counts >= 1) & (counts < LARGEST) & (counts == counts.round())
        yield from _wrong_rows(counts, whole, "a whole number of 1 or more", "mend or remove the row")
    if "device" in table:
        for row in table.index[table["device"] == ""]:
            yield f"'device' is empty in row {row}; name the kind of device"
    if "price_per_device_hour" in table:
        prices = table["price_per_device_hour"].dropna()
        yield from _wrong_rows(prices, (prices >= 0) & (prices < LARGEST), "0 or more", "mend the row")
        kinds = table["device"] if "device" in table else pd.Series("device", index=table.index)
        for kind, own in prices.groupby(kinds):
            if own.nunique() > 1:
                each = ", ".join(f"{price:g}" for price in sorted(set(own)))
                yield f"'{kind}' has several prices an hour ({each}); keep one"
