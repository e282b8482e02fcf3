"""At which price another kind of device would be the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bcrit.analysis.recommendation.choices import Place, optimum, without
from bcrit.analysis.recommendation.terms import Terms


@dataclass(frozen=True)
class BreakEven:
    """Another kind of device, and what it would have to cost.

    Attributes:
        device: its kind.
        devices: how many would be used then.
        batch_size: the batch size then.
        price_per_device_hour: what one costs now.
        chosen_below: below this price it would be the choice; None where it cannot be at any price, because it does
            not keep the other limits or is not faster, or because the choice costs nothing.
    """

    device: str
    devices: int | None
    batch_size: float | None
    price_per_device_hour: float
    chosen_below: float | None


def break_even(
    offers: Sequence[Terms], objective: str, limits: Mapping[str, float], chosen: Place
) -> tuple[BreakEven, ...]:
    """Find the price at which each other kind of device draws level with the choice, all other prices as they are.

    What is minimised, cost or hours x cost, is proportional to the price, so the other kind draws level at its price
    times the ratio of the two values. Where hours are minimised within a budget, the other kind wins as soon as the
    budget pays for a training on it that is shorter.

    Args:
        offers: what a training may run on, with prices.
        objective: what was minimised.
        limits: under which.
        chosen: the choice.

    Returns:
        One entry a kind; empty where there is one kind, no price, or where prices do not enter the choice.
    """
    hardware = chosen.terms.hardware
    if hardware is None or hardware.price_per_device_hour is None:
        return ()
    if objective == "hours" and "max_cost" not in limits:
        return ()
    others: dict[str, list[Terms]] = {}
    for terms in offers:
        assert terms.hardware is not None  # the choice has hardware, so all have
        if terms.hardware.device != hardware.device:
            others.setdefault(str(terms.hardware.device), []).append(terms)
    found = [_of_kind(own, objective, without(limits, ["max_cost"]), limits, chosen) for own in others.values()]
    return tuple(entry for entry in found if entry.price_per_device_hour > 0)


def _of_kind(
    own: Sequence[Terms], objective: str, kept: Mapping[str, float], limits: Mapping[str, float], chosen: Place
) -> BreakEven:
    hardware = own[0].hardware
    assert hardware is not None and hardware.price_per_device_hour is not None
    price, prices = hardware.price_per_device_hour, []
    for terms in own:
        place = optimum([terms], objective, kept)
        if place is None or terms.hardware is None:
            continue
        if objective == "hours":
            if place.takes["hours"] < chosen.takes["hours"]:
                prices.append((limits["max_cost"] / place.takes["hours"] / terms.hardware.devices, place))
        elif place.takes[objective] > 0:
            prices.append((price * chosen.takes[objective] / place.takes[objective], place))
    prices = [entry for entry in prices if entry[0] > 0]  # below 0 there is no price: the choice costs nothing
    if not prices:
        return BreakEven(str(hardware.device), None, None, price, None)
    below, place = max(prices, key=lambda entry: entry[0])
    assert place.terms.hardware is not None
    return BreakEven(str(hardware.device), place.terms.hardware.devices, place.batch_size, price, below)


__all__ = ["BreakEven", "break_even"]
