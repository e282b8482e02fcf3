"""The first screen: what the choice takes, its settings to copy, the zones of the curve; prices kept in a run."""

from __future__ import annotations

import ast
import shlex
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bcrit.analysis.report.build import Decision, decision, zoned
from bcrit.analysis.run import Run
from tests.analysis.report import runs
from tests.bcrit.command import ROOT, bcrit, refused


def advised(**limits: Any) -> Run:
    usual = runs.usual()
    return usual.but(recommendation=runs.recommended(usual, **limits))


def test_a_training_is_paid_in_steps_examples_time_and_money() -> None:
    priced = {name: (value, told) for name, value, told in decision(advised(price_per_device_hour=2.0)).taken}
    assert list(priced) == ["steps", "examples", "time", "cost"]
    assert priced["steps"][0] == "41" and priced["cost"][1].startswith("95 %: ")
    free = {name: (value, told) for name, value, told in decision(advised()).taken}
    assert free["cost"] == (f"{free['time'][0]} of a device", "no price given")


def test_the_settings_to_copy_are_the_same_in_every_language() -> None:
    copies = decision(advised()).copies
    values = yaml.safe_load(copies["YAML"])
    assert values == ast.literal_eval(copies["Python"]) and list(values) == ["batch_size", "lr", "momentum"]
    flags = shlex.split(copies["flags"])
    assert flags[::2] == ["--batch-size", "--lr", "--momentum"]
    assert [float(value) for value in flags[1::2]] == list(values.values())


def test_the_zones_meet_where_the_regimes_do_and_the_figure_given_stays_as_it_is() -> None:
    run = advised()
    assert run.fit is not None
    ends = run.fit.regimes()
    steps: Any = next(part for part in run.ask("steps").parts if part.kind == "plot")
    before = deepcopy(steps.figure)
    drawn = zoned(steps.figure, run)
    areas = drawn["layout"]["shapes"][-3:]
    assert [areas[0]["x1"], areas[1]["x1"]] == [ends.perfect_scaling_ends.value, ends.plateau_begins.value]
    assert [areas[1]["x0"], areas[2]["x0"]] == [areas[0]["x1"], areas[1]["x1"]]
    assert drawn["data"][-1]["x"] == [64] and drawn["data"][-1]["name"] == "advised: batch size 64"
    assert steps.figure == before


@pytest.mark.parametrize("given", [lambda: runs.partly(()), lambda: advised(max_steps=1)], ids=["no fit", "infeasible"])
def test_where_nothing_is_advised_nothing_is_taken_or_copied(given: Any) -> None:
    found = decision(given())
    assert found.taken == () and found.sure == () and found.copies == Decision().copies


def test_prices_that_are_kept_stand_on_the_page_until_they_are_forgotten(tmp_path: Path) -> None:
    run = shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "digits")
    assert bcrit("recommend", run, "--price-per-device-hour", 7200, "--devices", 2, "--write").returncode == 0
    assert "no price given" not in (run / "report.html").read_text()
    assert "on 2 devices" in bcrit("recommend", run).stdout and "cost (currency)" in bcrit("recommend", run).stdout
    assert bcrit("recommend", run, "--write").returncode == 0
    assert "no price given" in (run / "report.html").read_text()
    assert "device-hours" in bcrit("recommend", run).stdout


def test_prices_are_not_kept_where_they_are_wrong_or_there_is_no_run(tmp_path: Path) -> None:
    run = shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "digits")
    assert "price_per_device_hour" in refused(bcrit("recommend", run, "--price-per-device-hour", -1, "--write"))
    assert not (run / "report.html").exists() and not (run / "analysis").exists()
    (tmp_path / "steps.csv").write_text("batch_size,steps\n8,900\n32,300\n128,150\n")
    assert "--write keeps prices" in refused(bcrit("recommend", tmp_path / "steps.csv", "--write"))
