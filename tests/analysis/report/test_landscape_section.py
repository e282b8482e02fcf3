"""The section on sharpness and curvature: what it draws, what stands in its tables, when there is none."""

from __future__ import annotations

from dataclasses import replace

import plotly.graph_objects as go
import pytest

from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.build import build_report
from bcrit.analysis.report.landscape_section import landscape_section, network_table, summary_table
from bcrit.analysis.run import Run
from tests.analysis.landscape.made_up import landscape, network
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def analysis() -> Run:
    return runs.usual().but(landscape=landscape())


@pytest.fixture(scope="module")
def section(analysis: Run) -> Answer:
    found = landscape_section(analysis)
    assert found is not None
    return found


def test_every_figure_is_one_that_plotly_draws(section: Answer) -> None:
    plots = {part.name: part for part in section.parts if isinstance(part, Plot)}
    names = ["sharpness", "loss", "eigenvalue", "line", "curve"]
    assert list(plots) == [f"landscape-{name}" for name in names]
    for plot in plots.values():
        go.Figure(plot.figure)
    legend = [t["name"] for t in plots["landscape-sharpness"].figure["data"] if t.get("showlegend", True)]
    assert legend == ["tuned at each batch size", "un-tuned"]
    losses = [t["x"] for t in plots["landscape-loss"].figure["data"]]
    assert losses == [[n.train_loss for n in landscape().networks if n.tuned is kind] for kind in (True, False)]


def test_lines_go_through_the_medians(section: Answer) -> None:
    [plot] = [part for part in section.parts if isinstance(part, Plot) and part.name == "landscape-sharpness"]
    line = plot.figure["data"][0]
    assert (line["x"], line["y"]) == ([8, 64, 256], [1.25, 1.25, 1.25])


def test_tuned_and_un_tuned_stand_side_by_side_with_their_loss() -> None:
    table = summary_table(landscape())
    assert [row[:2] for row in table.rows] == [
        ("8", "tuned"),
        ("64", "tuned"),
        ("64", "un-tuned"),
        ("256", "tuned"),
        ("256", "un-tuned"),
    ]
    row = dict(zip(table.head, table.rows[-1], strict=True))
    assert row["sharpness (%), eps 0.001, full space"] == "10.2" and row["f"] == "0.11"
    assert row["reached"] == "2 of 2" and row["top eigenvalue"] == "20.5"


def test_every_network_has_its_errors_and_its_budget() -> None:
    table = network_table(landscape())
    row = dict(zip(table.head, table.rows[0], strict=True))
    assert row["searches x iterations"] == "5 x 10" and row["searches ended by themselves"] == "4 of 4"
    assert row["top eigenvalue ± residual"] == "2 ± 1e-06" and row["trace ± standard error"] == "9 ± 0.5"
    assert row["as recorded"] == "yes" and len(table.rows) == 10


def test_a_network_without_numbers_keeps_its_row_and_its_reason() -> None:
    bare = {"rises": (), "top_eigenvalue": None, "train_loss": None, "trace": None, "outcome": "diverged"}
    broken = network(256, False, 0, 1.0, problem="loss became nan", **bare)
    rows = network_table(replace(landscape(), networks=(*landscape().networks[:-2], broken))).rows
    assert rows[-1][3] == "diverged" and rows[-1][-1] == "loss became nan"


def test_a_winner_that_changed_since_is_said(analysis: Run, section: Answer) -> None:
    assert "the winner has changed at batch size 8, 64, 256" in section.sentences[-1]  # made-up names
    best = {int(row["batch_size"]): row["best_trial"] for row in analysis.studies.to_dict("records")}
    networks = tuple(replace(n, point=best[n.batch_size]) if n.tuned else n for n in landscape().networks)
    fresh = landscape_section(analysis.but(landscape=landscape(networks=networks)))
    assert fresh is not None and not any("has changed" in sentence for sentence in fresh.sentences)


def test_tables_are_there_and_the_long_one_is_folded(section: Answer) -> None:
    assert [part.folded for part in section.parts if isinstance(part, Rows)] == [False, True]


def test_a_run_that_was_not_measured_has_no_section() -> None:
    assert landscape_section(runs.usual()) is None


def test_the_page_holds_the_section(analysis: Run) -> None:
    page = build_report(analysis)
    assert 'id="landscape"' in page and "Sharpness and curvature" in page and 'data-figure="landscape-line"' in page
