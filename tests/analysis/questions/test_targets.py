"""Other targets: what is drawn, what a cell says, and what the command makes of its options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.questions.targets import _cell, ask
from bcrit.analysis.report.answer import Plot
from bcrit.analysis.run import Run
from tests.analysis.folders import Made, experiment, write_run
from tests.analysis.report.runs import answered
from tests.analysis.targets.test_grid import SIZES, stopping


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    spec = experiment(SIZES, "loss < 1")
    made = stopping(spec) | {"b8-pruned": Made(8, [(10, 3.99)], "pruned")}
    return Run(write_run(tmp_path_factory.mktemp("run") / "run", spec, made))


def test_a_law_is_drawn_only_where_there_is_one(run: Run) -> None:
    assert run.targets is not None
    for grid in (run.targets, replace(run.targets, power_law=None, no_power_law="Too few.")):
        (plot,) = [
            p for p in answered(ask, run.but(targets=grid)).parts if isinstance(p, Plot) and p.name == "targets-b-crit"
        ]
        drawn = [trace["name"] for trace in plot.figure["data"]]
        assert ("power law" in drawn) == (grid.power_law is not None)


def test_one_target_is_no_section_of_the_report(tmp_path: Path) -> None:
    one = write_run(tmp_path / "run", experiment([8], "loss < 1"), {"a": Made(8, [(1, 0.5)])})
    assert not answered(ask, Run(one)).on_page


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"status": "valid", "steps": 55.0, "fits": True}, "55"),
        ({"status": "upper", "steps": 55.0, "fits": True}, "55*"),
        ({"status": "upper", "steps": 55.0, "fits": False}, "≤ 55"),
        ({"status": "lower", "steps": 3000.0, "fits": True}, "> 3,000"),
        ({"status": "missing", "steps": float("nan"), "fits": False}, "–"),
    ],
)
def test_a_cell_says_what_it_is(row: dict[str, object], text: str) -> None:
    assert _cell(row) == text
