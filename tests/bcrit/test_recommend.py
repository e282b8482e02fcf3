"""`bcrit recommend` on tables: several devices, limits, units, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bcrit.command import bcrit, refused

STEPS = "batch_size,steps\n" + "".join(f"{2**k},{500 * (1 + 200 / 2**k)}\n" for k in range(3, 13))
TIMES = """device,devices,batch_size,examples_per_second
h100,1,8,1.6
h100,1,4096,74.4
h100,8,8,1.6
h100,8,4096,310
a100,1,8,0.9
a100,1,4096,31
"""


@pytest.fixture()
def tables(tmp_path: Path) -> Path:
    (tmp_path / "steps.csv").write_text(STEPS)
    (tmp_path / "times.csv").write_text(TIMES)
    return tmp_path


def test_several_devices_are_weighed_in_one_answer(tables: Path) -> None:
    options = ["--step-time", "times.csv", "--price", "h100=3", "--price", "a100=1"]
    found = json.loads(bcrit("recommend", "steps.csv", *options, "--json", cwd=tables).stdout)
    assert {(point["device"], point["devices"]) for point in found["frontier"]} == {
        ("h100", 1),
        ("h100", 8),
        ("a100", 1),
    }
    assert (found["choices"]["fastest"]["device"], found["choices"]["fastest"]["devices"]) == ("h100", 8)
    assert {"efficiency", "efficient"} <= set(found["frontier"][0])
    assert found["cost_unit"] == "currency" and found["balanced_by"] == "hours_x_cost"
    done = bcrit("recommend", "steps.csv", *options, cwd=tables)
    assert done.returncode == 0
    assert done.stdout.startswith(found["paragraph"])


def test_limits_that_cannot_be_kept_end_with_1_and_name_the_device_that_comes_nearest(tables: Path) -> None:
    options = ["--step-time", "times.csv", "--max-hours", "0.01", "--json"]
    done = bcrit("recommend", "steps.csv", *options, cwd=tables)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["paragraph"].startswith("Do not start under these limits")
    assert (found["infeasible"][0]["device"], found["infeasible"][0]["devices"]) == ("h100", 8)


def test_the_unit_and_the_level_of_a_table_can_be_given(tables: Path) -> None:
    options = ["--unit", "tokens", "--level", "0.5", "--max-steps", "620", "--json"]
    found = json.loads(bcrit("recommend", "steps.csv", *options, cwd=tables).stdout)
    assert (found["unit"], found["level"]) == ("tokens", 0.5)
    assert "tokens" in found["paragraph"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step-time", "times.csv", "--devices", "2"], "the column 'devices' and --devices both say"),
        (["--step-time", "times.csv", "--price", "b200=1"], "the devices of the table are h100, a100"),
        (["--price", "h100=1"], "which only a table given by --step-time has"),
        (["--step-time", "times.csv", "--price", "h100"], "must have the form KIND=NUMBER"),
        (["--max-hours", "3"], "'max_hours' needs step times"),
        (["--level", "2"], "level"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_contradiction_is_one_message(tables: Path, options: list[str], message: str) -> None:
    assert message in refused(bcrit("recommend", "steps.csv", *options, cwd=tables))
