"""Tables of several devices: what may stand in them, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.recommendation.hardware_table import read_hardware, read_prices
from bcrit.search_spaces import InputError

BOTH = """device,devices,batch_size,step_seconds
h100,1,8,0.1
h100,1,64,0.3
h100,8,64,0.1
a100,1,8,0.2
a100,1,64,0.6
"""


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "times.csv"
    path.write_text(text)
    return path


def test_every_kind_and_number_of_devices_is_one_offer_with_its_price(tmp_path: Path) -> None:
    found = read_hardware(table(tmp_path, BOTH), prices={"h100": 2.5, "a100": 0.0})
    assert [item.title for item in found] == ["1 x h100", "8 x h100", "1 x a100"]
    assert [item.price_per_device_hour for item in found] == [2.5, 2.5, 0.0]
    assert found[1].step_times.fixed and found[1].step_times.seconds([64, 65]).tolist() == [0.1, float("inf")]


@pytest.mark.parametrize("column", ["throughput", "examples_per_second"])
def test_throughput_is_examples_a_second_of_all_devices_together(tmp_path: Path, column: str) -> None:
    (found,) = read_hardware(table(tmp_path, f"batch_size,{column}\n8,80\n64,320\n64,320\n"), devices=4)
    assert found.step_times.step_seconds == pytest.approx((0.1, 0.2))
    assert (found.title, found.step_times.repeats) == ("4 devices", (1, 2))


def test_prices_may_stand_in_the_table(tmp_path: Path) -> None:
    text = "device,batch_size,step_seconds,price_per_device_hour\nx,1,1,2\nx,2,1,\ny,1,1,0.5\ny,2,1,0.5\n"
    assert [item.price_per_device_hour for item in read_hardware(table(tmp_path, text))] == [2, 0.5]


def test_a_plain_table_of_step_times_is_one_device_without_a_name(tmp_path: Path) -> None:
    (found,) = read_hardware(table(tmp_path, "batch_size,step_seconds\n8,1\n16,\n64,2\n"), price_per_device_hour=2)
    assert (found.title, found.device, found.devices, found.price_per_device_hour) == ("", None, 1, 2)
    assert found.step_times.batch_sizes == (8, 64)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (BOTH, {"devices": 2}, "the column 'devices' and --devices both say"),
        (BOTH, {"prices": {"h100": 1, "b200": 1}}, "--price names b200, but the devices of the table are h100, a100"),
        (BOTH, {"prices": {"h100": 1}}, "but a100 has none; add --price a100="),
        (BOTH, {"price_per_device_hour": 1}, "one price cannot be that of 2 kinds of device"),
        (BOTH, {"price_per_device_hour": 1, "prices": {"h100": 1}}, "by --price and by --price-per-device-hour"),
        ("batch_size,step_seconds\n1,1\n2,1\n", {"prices": {"h100": 1}}, "the table has no column 'device'"),
        ("batch_size,step_seconds\n1,1\n2,1\n", {"devices": 0}, "'devices' must be 1 or more, but it is 0"),
        ("batch_size,step_seconds\n1,1\n2,1\n", {"price_per_device_hour": -1}, "must be 0 or more, but it is -1"),
        ("batch_size,step_seconds\n1,1\n", {}, "at 2 batch sizes or more are needed, but there are 1"),
        ("batch_size,step_seconds,throughput\n1,1,1\n2,1,2\n", {}, "exactly one of the columns step_seconds,"),
        ("batch_size\n1\n", {}, "but there are 0"),
        ("batch_size,throughput\n1,0\n2,-3\n", {}, "'throughput' must be a positive number below 1e\\+100, but row 2"),
        ("devices,batch_size,step_seconds\n1.5,1,1\n", {}, "'devices' must be a whole number of 1 or more, but row 2"),
        ("device,batch_size,step_seconds\n,1,1\nx,2,1\n", {}, "'device' is empty in row 2"),
        (
            "device,batch_size,step_seconds,price_per_device_hour\nx,1,1,2\nx,2,1,3\n",
            {},
            r"'x' has several prices an hour \(2, 3\); keep one",
        ),
        (
            "device,batch_size,step_seconds,price_per_device_hour\nx,1,1,2\nx,2,1,2\n",
            {"prices": {"x": 1}},
            "'x' has a price in the table and by --price",
        ),
        (
            "device,batch_size,step_seconds,price_per_device_hour\nx,1,1,2\nx,2,1,2\n",
            {"price_per_device_hour": 1},
            "the price is in the table and in --price-per-device-hour",
        ),
    ],
)
def test_a_contradiction_is_refused_with_its_remedy(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_hardware(table(tmp_path, text), **options)


def test_prices_are_read_from_texts() -> None:
    assert read_prices(["h100=2.5", " a=b = 0"]) == {"h100": 2.5, "a=b": 0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["h100"], "must have the form KIND=NUMBER"),
        (["=3"], "must have the form KIND=NUMBER"),
        (["h100=-1"], "with a number of 0 or more, but it is 'h100=-1'"),
        (["h100=nan"], "with a number of 0 or more"),
        (["h100=1", "h100=2"], "'h100' has two prices; keep one"),
    ],
)
def test_a_wrong_price_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prices(given)
