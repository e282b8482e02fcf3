"""Reading step times or throughput of several devices from one CSV table, and prices beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike

import pandas as pd

from bcrit.analysis.recommendation.hardware import Hardware, hardware_problems, title, value_problems
from bcrit.analysis.recommendation.step_time import fit_step_times
from bcrit.analysis.records.number_table import LARGEST, read_numbers
from bcrit.search_spaces import InputError

_TIMES = ("step_seconds", "examples_per_second", "throughput")


def read_prices(given: Sequence[str]) -> dict[str, float]:
    """Read prices a device-hour from texts such as `h100=2.5`.

    Args:
        given: one text a kind of device.

    Returns:
        Price by kind.

    Raises:
        InputError: a text has another form, a price is not a number of 0 or more, or a kind stands twice.
    """
    found: dict[str, float] = {}
    problems = []
    for text in given:
        kind, mark, number = (part.strip() for part in text.rpartition("="))
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        if not mark or not kind or not 0 <= price < LARGEST:
            problems.append(f"a price must have the form KIND=NUMBER with a number of 0 or more, but it is {text!r}")
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
    devices was timed at one batch size only, only that batch size is offered for it.

    Args:
        path: the file.
        prices: by kind of device; for kinds that have no price in the table.
        price_per_device_hour: of the only kind.
        devices: how many, where the table does not say.

    Returns:
        One entry a kind and number of devices, in the order of the table.

    Raises:
        InputError: names everything that is wrong with the file, or where it contradicts what else was given.
    """
    where = str(path)
    table = read_numbers(path, ("batch_size",), (*_TIMES, "devices", "price_per_device_hour"), texts=("device",))
    problems = _contradictions(table, prices or {}, price_per_device_hour, devices)
    problems += _out_of_range(table)
    if problems:
        raise InputError(where, problems)
    table["step_seconds"] = _seconds(table)
    kinds = table["device"] if "device" in table else pd.Series("", index=table.index)
    counts = table["devices"] if "devices" in table else pd.Series(float(devices or 1), index=table.index)
    price_of = _price_by_kind(table, kinds, prices or {}, price_per_device_hour)
    groups = list(dict.fromkeys(zip(kinds, counts, strict=True)))
    found = []
    for kind, count in groups:
        rows = table[(kinds == kind) & (counts == count)]
        # A single batch size is enough where the table compares devices; a table of one device needs a line.
        name = title(str(kind) or None, int(count))
        times = fit_step_times(rows, f"{where}, {name}" if name else where, fewest=1 if "devices" in table else 2)
        found.append(Hardware(times, str(kind) or None, int(count), price_of[kind]))
    if problems := hardware_problems(found):
        raise InputError(where, problems)
    return tuple(found)


def _contradictions(
    table: pd.DataFrame, prices: Mapping[str, float], price: float | None, devices: int | None
) -> list[str]:
    found = []
    times = [name for name in _TIMES if name in table]
    if len(times) != 1:
        found.append(f"exactly one of the columns {', '.join(_TIMES)} is needed, but there are {len(times)}")
    kinds = list(dict.fromkeys(table["device"])) if "device" in table else []
    if devices is not None and "devices" in table:
        found.append("the column 'devices' and --devices both say how many devices there are; leave one out")
    found += value_problems(1 if devices is None else devices, price)
    if price is not None and "price_per_device_hour" in table:
        found.append("the price is in the table and in --price-per-device-hour; leave one out")
    if price is not None and prices:
        found.append("the price is given by --price and by --price-per-device-hour; leave one out")
    if price is not None and len(kinds) > 1:
        found.append(f"one price cannot be that of {len(kinds)} kinds of device; give --price {kinds[0]}=... for each")
    if prices and not kinds:
        found.append("--price names kinds of device, but the table has no column 'device'; add it")
    elif unknown := sorted(set(prices) - set(kinds)):
        found.append(f"--price names {', '.join(unknown)}, but the devices of the table are {', '.join(kinds)}")
    if "price_per_device_hour" in table and kinds:
        priced = set(table["device"][table["price_per_device_hour"].notna()])
        found += [f"'{k}' has a price in the table and by --price; leave one out" for k in prices if k in priced]
    return found


def _out_of_range(table: pd.DataFrame) -> list[str]:
    found = [
        f"'{name}' must be a positive number below {LARGEST:g}, but row {row} has {value:g}; mend or remove the row"
        for name in ("batch_size", *_TIMES)
        if name in table
        for row, value in (table[name] if name == "batch_size" else table[name].dropna()).items()
        if not 0 < value < LARGEST
    ]
    if "devices" in table:
        found += [
            f"'devices' must be a whole number of 1 or more, but row {row} has {value:g}; mend or remove the row"
            for row, value in table["devices"].items()
            if not (1 <= value < LARGEST and value == round(value))
        ]
    if "device" in table:
        found += [
            f"'device' is empty in row {row}; name the kind of device" for row, k in table["device"].items() if not k
        ]
    if "price_per_device_hour" in table:
        found += [
            f"'price_per_device_hour' must be 0 or more, but row {row} has {value:g}; mend the row"
            for row, value in table["price_per_device_hour"].dropna().items()
            if not 0 <= value < LARGEST
        ]
        kinds = table["device"] if "device" in table else pd.Series("device", index=table.index)
        found += [
            f"'{kind}' has several prices an hour ({', '.join(f'{p:g}' for p in sorted(set(own.dropna())))}); keep one"
            for kind, own in table["price_per_device_hour"].groupby(kinds)
            if own.dropna().nunique() > 1
        ]
    return found


def _seconds(table: pd.DataFrame) -> pd.Series:
    if "step_seconds" in table:
        return table["step_seconds"]
    rate = table["examples_per_second"] if "examples_per_second" in table else table["throughput"]
    return table["batch_size"] / rate


def _price_by_kind(
    table: pd.DataFrame, kinds: pd.Series, prices: Mapping[str, float], price: float | None
) -> dict[str, float | None]:
    """The price of each kind: from the table, else by name, else the one for all."""
    found: dict[str, float | None] = {}
    for kind in dict.fromkeys(kinds):
        found[kind] = prices.get(kind, price)
        if "price_per_device_hour" in table and len(own := table["price_per_device_hour"][kinds == kind].dropna()):
            found[kind] = float(own.iloc[0])
    return found


__all__ = ["read_hardware", "read_prices"]
