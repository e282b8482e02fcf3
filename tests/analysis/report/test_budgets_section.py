"""The section on budgets: what it draws, and when there is none."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from bcrit.analysis.analyze import RunAnalysis, analyze
from bcrit.analysis.report.budgets_section import budgets_section, value_cell
from bcrit.analysis.report.section import Plot, Rows
from tests.analysis.budgets.test_tables import falling
from tests.analysis.folders import Run, experiment, write_run
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> RunAnalysis:
    made = {f"b{b}-{n}": falling(b, 1 + 0.1 * n) for b in (4, 16, 64) for n in range(4)}
    made["b64-pruned"] = Run(64, falling(64, 3, until=10).curve, "pruned")
    spec = experiment([4, 16, 64], "loss < 0.0001", unit="tokens")
    return analyze(write_run(tmp_path_factory.mktemp("run") / "run", spec, made))


def test_every_resource_has_its_figure_and_its_table(analysis: RunAnalysis) -> None:
    section = budgets_section(analysis)
    assert section is not None and analysis.budgets is not None
    plots = [part for part in section.parts if isinstance(part, Plot)]
    assert [plot.name for plot in plots] == ["budgets-steps", "budgets-examples", "budgets-hours"]
    for plot in plots:
        go.Figure(plot.figure)
    tables = [part.table for part in section.parts if isinstance(part, Rows)]
    assert tables[0].head == ("budget", "B = 4", "B = 16", "B = 64", "clear winner")
    assert tables[0].rows[-1][-1] == "64 (96%)" and tables[0].rows[-1][3].endswith(" *")
    assert "tokens" in tables[1].rows[0][0]
    assert section.sentences[0].startswith("Steps: batch size 64 clearly wins")


def test_symbols_tell_covered_cells_from_others(analysis: RunAnalysis) -> None:
    section = budgets_section(analysis)
    assert section is not None
    plot = next(part for part in section.parts if isinstance(part, Plot))
    assert plot.figure["data"][-1]["marker"]["symbol"] == ["circle", "circle", "circle-open"]


def test_without_measurements_there_is_no_section() -> None:
    assert budgets_section(runs.usual()) is None


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"status": "covered", "value": 0.1234}, "0.123"),
        ({"status": "cut", "value": 0.5}, "0.5 *"),
        ({"status": "stopped", "value": 0.5}, "0.5 +"),
        ({"status": "missing", "value": float("nan")}, "–"),
        (None, "–"),
    ],
)
def test_a_cell_says_what_it_is(row: dict[str, object] | None, text: str) -> None:
    assert value_cell(row) == text


def test_markup_from_users_is_text_in_the_figures(tmp_path: Path) -> None:
    target = {"metric": runs.EVIL, "threshold": 0.0001, "direction": "minimize"}
    made = {f"<b>b{b}-{n}": falling(b, 1 + 0.1 * n) for b in (4, 16) for n in range(3)}
    spec = experiment([4, 16], target, unit=runs.EVIL)  # type: ignore[arg-type]
    section = budgets_section(analyze(write_run(tmp_path / "run", spec, made)))
    assert section is not None
    for plot in (part for part in section.parts if isinstance(part, Plot)):
        assert "<script" not in str(plot.figure) and "<b>" not in str(plot.figure)
