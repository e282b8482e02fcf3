"""A run that ends at a bound: gently, with its own exit code, the answer so far, and resumable."""

import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bcrit.analysis.studies.driver import _ENOUGH
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.pulse import bounds_of
from tests.alike import tables
from tests.bcrit.command import ROOT, bcrit, refused

# A thousand short trials: more than a few seconds of any machine.
MANY = """
name: many
workload: {name: noisy_quadratic, dimensions: 100}
optimizer: sgd
batch_sizes: [8, 32]
target: risk < 0.2
space: {lr: log from 0.05 to 1.9}
budget: {steps: 400, examples: 2000}
search: {protocol: sobol, trials: 400, stopping: none}
confirm: {points: 1, seeds: 2}
"""


def test_the_first_bound_in_time_counts_and_is_said_as_it_was_given() -> None:
    now = time.time()
    soon = (datetime.fromtimestamp(now) + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%S")
    both = bounds_of(2.0, None, soon, None)
    assert both.until == pytest.approx(now + 1800, abs=2) and both.said == f"--until {soon}"
    assert bounds_of(0.1, None, soon, None).said == "--max-hours 0.1"
    tomorrow = bounds_of(None, None, datetime.fromtimestamp(now - 120).strftime("%H:%M"), None)
    assert tomorrow.until is not None and 0 < tomorrow.until - now < 24 * 3600
    assert bounds_of(None, 5.0, None, None, known=2.0).price == 2  # of the session before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0.0, None, None, None), "a positive number is needed, but it is 0"),
        ((None, float("nan"), None, 1.0), "--max-cost"),
        ((None, 5.0, None, None), "a cost needs the price of a device-hour; add --price"),
        ((None, None, "noon", None), "a time is written 18:30"),
        ((None, None, "2020-01-01T00:00", None), "has passed; give a later one"),
    ],
)
def test_a_bound_that_is_none_is_refused(given: tuple[float, float, str, float], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        bounds_of(*given)


def test_a_bad_bound_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    words = ("tune", ROOT / "examples/digits.yaml", "--out", tmp_path / "run", "--max-cost", 3)
    assert "a cost needs the price" in refused(bcrit(*words)) and not (tmp_path / "run").exists()
    assert "add --plan" in refused(bcrit(*words[:2], "--step-time", "times.csv"))


AUTO = "{processes: 4, cpus: 4, devices_by_batch_size: auto}"


def test_a_plan_says_hours_and_money_where_step_times_are_known(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    table.write_text("batch_size,step_seconds\n4,0.5\n1024,0.5\n")
    words = ("tune", ROOT / "examples/digits.yaml", "--plan", "--step-time", table, "--price", 3)
    totals = json.loads(bcrit(*words, "--json").stdout)["totals"]
    assert totals["device_hours"] == pytest.approx(totals["steps"] / 7200)
    assert totals["most_cost"] == pytest.approx(3 * totals["most_steps"] / 7200)
    shown = bcrit(*words, "--workers", 4).stdout
    assert "of devices" in shown and "on 4 workers" in shown and "which cost" in shown
    assert "cannot be read" in refused(bcrit(*words[:3], "--step-time", tmp_path / "none.csv"))
    many = tmp_path / "many.yaml"
    many.write_text((ROOT / "examples/digits.yaml").read_text() + "resources: {devices_by_batch_size: {256: 4}}")
    found = json.loads(bcrit("tune", many, *words[2:], "--json").stdout)
    hours = {study["batch_size"]: study["device_hours"] / study["steps"] * 7200 for study in found["studies"]}
    assert hours == pytest.approx({size: 4 if size >= 256 else 1 for size in hours})
    assert found["totals"]["cost"] == pytest.approx(3 * sum(study["device_hours"] for study in found["studies"]))
    many.write_text(many.read_text().replace("{devices_by_batch_size: {256: 4}}", AUTO))
    found = json.loads(bcrit("tune", many, "--plan", "--json").stdout)
    devices = {study["batch_size"]: study["devices"] for study in found["studies"]}
    assert (devices[256], devices[512], devices[1024]) == (1, 2, 4)
    assert found["experiment"]["resources"]["devices_by_batch_size"] == {"1": 1, "512": 2, "1024": 4}
    assert "devices" in bcrit("tune", many, "--plan").stdout


@pytest.mark.usefixtures("one_ray")
def test_a_run_ends_at_its_bound_and_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, path = tmp_path / "run", tmp_path / "many.yaml"
    path.write_text(MANY)
    words = ("--out", folder, "--workers", 1, "--price", 3600, "--max-cost", 2)  # 2 s of a worker
    first = bcrit("tune", path, *words, "--json")
    assert first.returncode == 5, first.stderr
    status = json.loads(first.stdout)["status"]
    assert status["state"] == "stopped" and status["driver"]["ended"].startswith("at its bound, --max-cost 2 (")
    assert 0 < status["finished"] < status["expected"] == 804 and status["cost"] >= 2
    before = tables(folder)[0]
    assert len(before) == status["finished"] and (folder / "report.html").exists()
    assert "Stopped" in first.stderr and "`bcrit resume" in first.stderr and "trials are left" in first.stderr
    assert re.search(r"\d+ of about 804 trials done", first.stderr), first.stderr
    told = bcrit("status", folder)
    assert told.returncode == 1 and "at its bound, --max-cost 2" in told.stdout
    again = bcrit("resume", folder, "--workers", 1, "--max-cost", status["cost"] + 2)  # the price is known
    after = tables(folder)[0]
    assert again.returncode == 5 and "trials are left" in again.stdout, again.stderr
    assert ("They take about" in again.stdout) is (len(after) >= _ENOUGH * 804), again.stdout
    assert len(after) > len(before) and set(before["trial_id"]) < set(after["trial_id"])
    assert not after["trial_id"].duplicated().any()
