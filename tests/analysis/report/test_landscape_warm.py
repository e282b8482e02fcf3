"""Figures and table of warm starts."""

from __future__ import annotations

import math
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from bcrit.analysis.landscape.warm_start import WarmStarts
from bcrit.analysis.report.answer import Plot, Rows
from bcrit.analysis.report.landscape_section import landscape_section
from bcrit.analysis.report.landscape_warm import warm_parts
from tests.analysis.landscape.made_up import landscape, warm_starts
from tests.analysis.report import runs


def plots(warm: WarmStarts) -> dict[str, Plot]:
    return {part.name: part for part in warm_parts(warm) if isinstance(part, Plot)}


def test_metric_and_sharpness_are_drawn_for_all_three_kinds() -> None:
    found = plots(warm_starts())
    assert list(found) == ["landscape-warm", "landscape-warm-sharpness"]
    for plot in found.values():
        go.Figure(plot.figure)
        names = [trace["name"] for trace in plot.figure["data"] if trace.get("showlegend", True)]
        assert names == ["batch size 8 itself", "then 256, tuned", "then 256, un-tuned"]


def test_lines_go_through_the_medians_and_marks_are_seeds() -> None:
    line, marks = plots(warm_starts())["landscape-warm"].figure["data"][2:4]
    assert line["y"] == pytest.approx([0.865, 0.865, 0.905]) and len(line["x"]) == 3
    assert marks["y"] == pytest.approx([0.86, 0.86, 0.9, 0.87, 0.87, 0.91])
    assert "epochs before: 1.25" in marks["hovertext"][1]


def test_the_initialisation_is_no_trained_network_and_not_drawn() -> None:
    line, marks = plots(warm_starts())["landscape-warm"].figure["data"][:2]
    assert line["x"] == [1.25, 12.5] and marks["y"] == pytest.approx([0.5, 0.9, 0.51, 0.91])


def test_no_epochs_stand_in_equal_distance_before_the_first() -> None:
    figure = plots(warm_starts())["landscape-warm"].figure
    axis = figure["layout"]["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == ([0.125, 1.25, 12.5], ["0", "1.2", "12"])
    assert axis["range"][0] < math.log10(0.125) and math.log10(12.5) < axis["range"][1]


def test_both_ends_alone_can_be_drawn() -> None:
    warm = warm_starts()
    ends = replace(warm, states=tuple(state for state in warm.states if state.small_steps != 10))
    assert plots(ends)["landscape-warm"].figure["layout"]["xaxis"]["tickvals"] == [1.25, 12.5]


def test_a_quantity_that_is_nowhere_has_no_figure() -> None:
    warm = warm_starts()
    bare = replace(warm, states=tuple(replace(state, sharpness=None) for state in warm.states))
    assert list(plots(bare)) == ["landscape-warm"]


def test_the_table_has_a_row_for_each_iterate_and_kind() -> None:
    [table] = [part.table for part in warm_parts(warm_starts()) if isinstance(part, Rows)]
    row = dict(zip(table.head, table.rows[-1], strict=True))
    assert len(table.rows) == 9
    assert (row["epochs of 8"], row["network"], row["seeds"]) == ("12.5", "then 256, un-tuned", "2")
    assert (row["val_accuracy, last"], row["val_accuracy, best"], row["f"]) == ("0.885", "0.95", "0.01")


def test_the_section_shows_them_and_the_metric_of_the_networks() -> None:
    networks = tuple(replace(n, metrics={"val_accuracy": 0.9}) for n in landscape().networks)
    found = landscape(networks=networks, metric="val_accuracy", warm_starts=warm_starts())
    section = landscape_section(runs.usual().but(landscape=found))
    assert section is not None
    names = [part.name for part in section.parts if isinstance(part, Plot)]
    assert {"landscape-metric", "landscape-warm", "landscape-warm-sharpness"} <= set(names)
    assert any(sentence.startswith("The val_accuracy of the tuned winners") for sentence in section.sentences)
    tables = [part.table for part in section.parts if isinstance(part, Rows)]
    assert sum("val_accuracy" in table.head for table in tables) == 2
