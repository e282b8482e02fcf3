"""The section on the movement of the weights: one line a batch size, on a log axis, and the verdict first."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from bcrit.analysis.report.answer import Plot, Rows
from bcrit.analysis.report.build import build_report
from bcrit.analysis.report.weight_distance_section import weight_distance_section
from bcrit.analysis.run import Run
from tests.analysis.probed_runs import SIZES, probed_run, steps_at


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(probed_run(tmp_path_factory.mktemp("run") / "run"))


def test_one_line_a_batch_size_as_far_as_all_runs_went(analysis: Run) -> None:
    section = weight_distance_section(analysis)
    assert section is not None and analysis.weight_distance is not None
    (plot,) = (part for part in section.parts if isinstance(part, Plot))
    go.Figure(plot.figure)
    assert plot.figure["layout"]["xaxis"]["type"] == "log"
    assert len(plot.figure["data"]) == len(SIZES)
    for trace, batch_size in zip(plot.figure["data"], SIZES, strict=True):
        assert trace["x"][0] == 1 and 29 <= trace["x"][-1] <= steps_at(batch_size)
        assert len(trace["x"]) <= 60
    assert section.sentences == analysis.weight_distance.sentences


def test_the_table_has_a_law_for_every_batch_size(analysis: Run) -> None:
    section = weight_distance_section(analysis)
    assert section is not None
    (rows,) = (part for part in section.parts if isinstance(part, Rows))
    assert [row[1] for row in rows.table.rows] == ["log"] * len(SIZES)


def test_the_page_has_both_sections_where_there_are_probes(analysis: Run) -> None:
    page = build_report(analysis)
    assert "Gradient noise scale" in page and "Distance of the weights from their start" in page
    without = build_report(analysis.but(noise_scale=None, weight_distance=None))
    assert "Gradient noise scale" not in without and "Distance of the weights" not in without


def test_a_run_without_probes_has_no_section(analysis: Run) -> None:
    assert weight_distance_section(analysis.but(weight_distance=None)) is None
