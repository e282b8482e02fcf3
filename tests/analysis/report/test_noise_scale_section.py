"""The section on gradient noise: what it draws beside the fitted b_crit, and when there is none."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from bcrit.analysis.report.answer import Plot, Rows
from bcrit.analysis.report.noise_scale_section import noise_scale_section
from bcrit.analysis.run import Run
from tests.analysis.probed_runs import SIZES, probed_run


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(probed_run(tmp_path_factory.mktemp("run") / "run"))


def test_both_scales_are_drawn_against_the_loss_and_one_line_a_batch_size_against_the_step(
    analysis: Run,
) -> None:
    section = noise_scale_section(analysis)
    assert section is not None
    value, step = (part.figure for part in section.parts if isinstance(part, Plot))
    for figure in (value, step):
        go.Figure(figure)
    assert [trace["name"] for trace in value["data"]] == ["B_simple", "B_noise"]
    assert [trace["name"] for trace in step["data"]] == [
        "batch size 16",
        "batch size 64",
        "batch size 256",
        "batch size 1,024",
    ]
    assert all(min(trace["x"]) >= 1 for trace in step["data"])


def test_the_band_is_the_fitted_b_crit_and_goes_with_it(analysis: Run) -> None:
    assert analysis.fit is not None

    def bands(shown: Run) -> list[tuple[float, float]]:
        section = noise_scale_section(shown)
        assert section is not None
        figures = [part.figure for part in section.parts if isinstance(part, Plot)]
        assert all(
            ("Band: the fitted" in part.caption) == bool(shown.fit) for part in section.parts if isinstance(part, Plot)
        )
        return [(s["y0"], s["y1"]) for f in figures for s in f["layout"]["shapes"] if s["type"] == "rect"]

    assert bands(analysis) == [(analysis.fit.b_crit_low, analysis.fit.b_crit_high)] * 2
    assert bands(analysis.but(fit=None)) == []


def test_the_table_has_every_batch_size_and_all_together(analysis: Run) -> None:
    section = noise_scale_section(analysis)
    assert section is not None
    at_target, along = (part for part in section.parts if isinstance(part, Rows))
    assert [row[0] for row in at_target.table.rows] == ["16", "64", "256", "1,024", "all"]
    assert not at_target.folded and along.folded
    assert len(along.table.rows) > 5 * len(SIZES)


def test_a_run_without_probes_has_no_section(analysis: Run) -> None:
    assert noise_scale_section(analysis.but(noise_scale=None)) is None
