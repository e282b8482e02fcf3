"""What a training may run on: devices of a kind, how many of them, what an hour of one costs, how long a step takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bcrit.analysis.recommendation.step_time import StepTimes


@dataclass(frozen=True)
class Hardware:
    """One thing that a training may run on. Two numbers of devices are two of these: no law of scaling is assumed.

    Attributes:
        step_times: seconds a step on all the devices together.
        device: their kind, such as h100; None where only one kind is there and has no name.
        devices: how many are paid for while it trains.
        price_per_device_hour: in the user's currency; None = cost is counted in device-hours.
    """

    step_times: StepTimes
    device: str | None = None
    devices: int = 1
    price_per_device_hour: float | None = None

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


__all__ = ["Hardware", "hardware_problems", "title", "value_problems"]
