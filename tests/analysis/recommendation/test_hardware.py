from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.recommendation.hardware import (
    fit_step_times,
    read_hardware,
    read_prices,
    read_step_times,
    trial_hardware,
    trial_step_times,
)
from bcrit.search_spaces import InputError
from bcrit.search_spaces.resources import Resources

B = np.array([8.0, 16, 32, 64])


def table(batch: object, seconds: object) -> pd.DataFrame:
    return pd.DataFrame({"batch_size": batch, "step_seconds": seconds})


def test_a_linear_step_time_is_recovered_and_extrapolated_with_coefficients_that_are_never_negative() -> None:
    times = fit_step_times(table(B, 0.01 + 0.002 * B))
    assert (times.c0, times.c1) == pytest.approx((0.01, 0.002))
    assert times.rms_relative_residual < 1e-12
    assert times.seconds([1, 24, 1000]) == pytest.approx([0.012, 0.058, 2.01])
    assert fit_step_times(table(B, 0.002 * B - 0.01)).c0 == fit_step_times(table(B, 1 / B)).c1 == 0


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_measured_times_are_kept_and_joined_continuously_in_any_unit_of_the_batch_size(unit: float) -> None:
    seconds = np.array([0.03, 0.03, 0.05, 0.2])
    times = fit_step_times(table(B * unit, seconds))
    assert times.seconds(B * unit) == pytest.approx(seconds)
    assert times.seconds(24 * unit) == pytest.approx(0.04)
    assert times.seconds([7.999999 * unit, 64.000001 * unit]) == pytest.approx([0.03, 0.2], rel=1e-6)
    sources = [times.source(b * unit) for b in (8, 24, 7, 65)]
    assert sources == ["measured", "interpolated", "extrapolated", "extrapolated"]
    assert times.c1 * unit == pytest.approx(fit_step_times(table(B, seconds)).c1)


def test_wrong_tables_are_refused_with_every_problem(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 2 has 0") as caught:
        read_step_times(file(tmp_path, "batch_size,step_seconds\n8,0\n-16,1\n"))
    assert "row 3 has -16" in str(caught.value)
    with pytest.raises(InputError, match="at 2 batch sizes or more are needed, but there are 1"):
        fit_step_times(table([8], [1.0]))


def test_repeats_enter_as_their_median_and_give_the_scatter_of_a_time_pooled_over_batch_sizes() -> None:
    """Golden: rows e^(+-0.1) about two times: pooled variance (2 x 0.01 + 2 x 0.01) / (4 - 2) = 0.02, t(2) = 4.303."""
    assert fit_step_times(table([8, 8, 8, 16, 32], [1, 2, 9, 3, None])).step_seconds == (2, 3)
    around = np.exp([0.1, -0.1, 0.1, -0.1])
    times = fit_step_times(table([8, 8, 16, 16], around * [1, 1, 2, 2]))
    assert times.log_sigma == pytest.approx(np.sqrt(0.02))
    assert times.degrees_of_freedom == 2
    assert times.log_half_width([8, 12, 99], 0.95) == pytest.approx(4.3027 * np.sqrt(0.02 / 2), rel=1e-4)
    without = fit_step_times(table(B, 0.01 + 0.002 * B))
    assert without.log_sigma is None and without.log_half_width(B, 0.95).tolist() == [0, 0, 0, 0]


def test_the_interval_of_a_time_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(5), 0
    for _ in range(400):
        times = fit_step_times(table(np.repeat(B, 4), np.exp(0.1 * rng.standard_normal(16))))
        hits += abs(np.log(times.step_seconds[1])) <= times.log_half_width(B[1], 0.9)
    assert 0.87 < hits / 400 < 0.96  # of the median of four, whose exact error is a little smaller than the formula's


def test_a_runs_own_trials_are_the_repeats() -> None:
    trials = pd.DataFrame({"batch_size": [8, 8, 8, 16, 16], "steps": [10, 20, 0, 10, 10]})
    times = trial_step_times(trials.assign(train_seconds=[1.0, 4.0, 0.0, 3.0, 3.0]))
    assert times is not None
    assert times.step_seconds == pytest.approx((0.15, 0.3))
    assert times.repeats == (2, 2)
    assert trial_step_times(trials.assign(train_seconds=[1.0, 4.0, 0.0, 0.0, 0.0])) is None


BOTH = """device,devices,batch_size,step_seconds
h100,1,8,0.1
h100,1,64,0.3
h100,8,64,0.1
a100,1,8,0.2
a100,1,64,0.6
"""


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "times.csv"
    path.write_text(text)
    return path


def test_every_kind_and_number_of_devices_is_one_offer_with_its_price(tmp_path: Path) -> None:
    found = read_hardware(file(tmp_path, BOTH), prices={"h100": 2.5, "a100": 0.0})
    assert [item.title for item in found] == ["1 x h100", "8 x h100", "1 x a100"]
    assert [item.price_per_device_hour for item in found] == [2.5, 2.5, 0.0]
    assert found[1].step_times.fixed and found[1].step_times.seconds([64, 65]).tolist() == [0.1, float("inf")]


@pytest.mark.parametrize("column", ["throughput", "examples_per_second"])
def test_throughput_is_examples_a_second_of_all_devices_together(tmp_path: Path, column: str) -> None:
    (found,) = read_hardware(file(tmp_path, f"batch_size,{column}\n8,80\n64,320\n64,320\n"), devices=4)
    assert found.step_times.step_seconds == pytest.approx((0.1, 0.2))
    assert (found.title, found.step_times.repeats) == ("4 devices", (1, 2))


def test_prices_may_stand_in_the_table(tmp_path: Path) -> None:
    text = "device,batch_size,step_seconds,price_per_device_hour\nx,1,1,2\nx,2,1,\ny,1,1,0.5\ny,2,1,0.5\n"
    assert [item.price_per_device_hour for item in read_hardware(file(tmp_path, text))] == [2, 0.5]


def test_a_plain_table_of_step_times_is_one_device_without_a_name(tmp_path: Path) -> None:
    (found,) = read_hardware(file(tmp_path, "batch_size,step_seconds\n8,1\n16,\n64,2\n"), price_per_device_hour=2)
    assert (found.title, found.device, found.devices, found.price_per_device_hour) == ("", None, 1, 2)
    assert found.step_times.batch_sizes == (8, 64)


PLAIN = "batch_size,step_seconds\n1,1\n2,1\n"
PRICED = "device,batch_size,step_seconds,price_per_device_hour\nx,1,1,2\nx,2,1,2\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (BOTH, {"devices": 2}, "the column 'devices' and --devices both say"),
        (BOTH, {"prices": {"h100": 1, "b200": 1}}, "--price names b200, but the devices of the table are h100, a100"),
        (BOTH, {"prices": {"h100": 1}}, "but a100 has none; add --price a100="),
        (BOTH, {"price_per_device_hour": 1}, "one price cannot be that of 2 kinds of device"),
        (BOTH, {"price_per_device_hour": 1, "prices": {"h100": 1}}, "by --price and by --price-per-device-hour"),
        (PLAIN, {"prices": {"h100": 1}}, "the table has no column 'device'"),
        (PLAIN, {"devices": 0}, "'devices' must be 1 or more, but it is 0"),
        (PLAIN, {"price_per_device_hour": -1}, "must be 0 or more, but it is -1"),
        (PLAIN[:-4], {}, "at 2 batch sizes or more are needed, but there are 1"),
        ("batch_size,step_seconds,throughput\n1,1,1\n2,1,2\n", {}, "exactly one of the columns step_seconds,"),
        ("batch_size\n1\n", {}, "but there are 0"),
        ("batch_size,throughput\n1,0\n2,-3\n", {}, "'throughput' must be a positive number below 1e\\+100, but row 2"),
        ("batch_size,step_seconds\n1,1e-320\n2,1\n", {}, "'step_seconds' must be a positive number"),
        ("devices,batch_size,step_seconds\n1.5,1,1\n", {}, "'devices' must be a whole number of 1 or more, but row 2"),
        ("device,batch_size,step_seconds\n,1,1\nx,2,1\n", {}, "'device' is empty in row 2"),
        (PRICED[:-2] + "3\n", {}, r"'x' has several prices an hour \(2, 3\); keep one"),
        (PRICED[:-2] + "-3\n", {}, "'price_per_device_hour' must be 0 or more, but row 3 has -3; mend the row"),
        (PRICED, {"prices": {"x": 1}}, "'x' has a price in the table and by --price"),
        (PRICED, {"price_per_device_hour": 1}, "the price is in the table and in --price-per-device-hour"),
    ],
)
def test_a_contradiction_is_refused_with_its_remedy(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_hardware(file(tmp_path, text), **options)


def test_prices_are_read_from_texts() -> None:
    assert read_prices(["h100=2.5", " a=b = 0"]) == {"h100": 2.5, "a=b": 0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["h100"], "must be NUMBER, or KIND=NUMBER"),
        (["=3"], "must be NUMBER, or KIND=NUMBER"),
        (["h100=-1"], "with a number of 0 or more, but it is 'h100=-1'"),
        (["h100=nan"], "with a number of 0 or more"),
        (["h100=1", "h100=2"], "'h100' has two prices; keep one"),
    ],
)
def test_a_wrong_price_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prices(given)


def test_a_run_whose_large_batches_had_more_devices_knows_the_times_of_each_number() -> None:
    seconds = np.array([2.0, 4.0, 8.0, 4.0])  # at 64 on four devices
    trials = pd.DataFrame({"batch_size": B, "steps": 10, "train_seconds": 10 * seconds})
    trials.loc[len(trials)] = [64, 0, 0.0]  # failed before it trained
    found = trial_hardware(trials, Resources(devices_by_batch_size={64: 4}), price=2.0)
    assert found is not None and [(of.devices, of.price_per_device_hour) for of in found] == [(1, 2.0), (4, 2.0)]
    assert [of.step_times.batch_sizes for of in found] == [(8, 16, 32), (64,)]
    assert float(found[1].step_times.seconds(64)) == 4 and float(found[0].step_times.seconds(64)) == pytest.approx(16)
    assert trial_hardware(trials, Resources(gpus=4), price=None) is None
