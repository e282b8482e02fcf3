"""The section on other targets: what it draws, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest

from bcrit.analysis.analyze import RunAnalysis, analyze
from bcrit.analysis.report.section import Plot, Rows, Section
from bcrit.analysis.report.targets_section import cell_text, targets_section
from tests.analysis.folders import Run, experiment, write_run
from tests.analysis.report import runs
from tests.analysis.targets.test_grid import SIZES, stopping


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> RunAnalysis:
    spec = experiment(SIZES, "loss < 1")
    made = stopping(spec)
    made |= {"b8-pruned": Run(8, [(10, 3.99)], "pruned")}
    return analyze(write_run(tmp_path_factory.mktemp("run") / "run", spec, made))


def section_of(analysis: RunAnalysis) -> Section:
    section = targets_section(analysis)
    assert section is not None
    return section


def test_it_has_both_figures_and_both_tables(analysis: RunAnalysis) -> None:
    section = section_of(analysis)
    plots = [part for part in section.parts if isinstance(part, Plot)]
    assert [plot.name for plot in plots] == ["targets-steps", "targets-b-crit"]
    for plot in plots:
        go.Figure(plot.figure)
        assert plot.caption.endswith(".")
    b_crit, steps = (part.table for part in section.parts if isinstance(part, Rows))
    assert analysis.targets is not None
    assert len(b_crit.rows) == len(steps.rows) == len(analysis.targets.curves)
    assert b_crit.rows[-1][0] == "loss < 1 (the run's own)"
    assert steps.head == ("target", *(f"B = {b}" for b in SIZES))


def test_every_target_has_its_points_and_its_curve(analysis: RunAnalysis) -> None:
    assert analysis.targets is not None
    figure = next(p.figure for p in section_of(analysis).parts if isinstance(p, Plot))
    points = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines"]
    assert len(points) == len(lines) == len(analysis.targets.curves)
    assert all(trace["x"] == list(SIZES) for trace in points)


def test_a_law_is_drawn_only_where_there_is_one(analysis: RunAnalysis) -> None:
    assert analysis.targets is not None
    for grid in (analysis.targets, replace(analysis.targets, power_law=None, no_power_law="Too few.")):
        section = section_of(replace(analysis, targets=grid))
        (plot,) = [p for p in section.parts if isinstance(p, Plot) and p.name == "targets-b-crit"]
        drawn = [trace["name"] for trace in plot.figure["data"]]
        assert ("power law" in drawn) == (grid.power_law is not None)


def test_without_measurements_or_with_one_target_there_is_no_section(tmp_path: Path) -> None:
    assert targets_section(runs.usual()) is None
    one = write_run(tmp_path / "run", experiment([8], "loss < 1"), {"a": Run(8, [(1, 0.5)])})
    assert targets_section(analyze(one)) is None


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
    assert cell_text(row) == text


def test_markup_from_users_is_text_in_the_figures(tmp_path: Path) -> None:
    target = {"metric": runs.EVIL, "threshold": 1, "direction": "minimize"}
    spec = experiment(SIZES, target, unit=runs.EVIL)  # type: ignore[arg-type]
    made = stopping(spec)
    section = section_of(analyze(write_run(tmp_path / "run", spec, made)))
    for plot in (part for part in section.parts if isinstance(part, Plot)):
        assert "<script" not in str(plot.figure) and "<b>" not in str(plot.figure)
