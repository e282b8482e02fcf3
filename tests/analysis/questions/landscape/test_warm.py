"""Warm starts: what they say, with and without numbers, their figures and their table."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from bcrit.analysis.questions.landscape import sentences
from bcrit.analysis.questions.landscape.result import WarmStarts
from bcrit.analysis.questions.landscape.warm import warm_parts, warm_sentences
from bcrit.analysis.report.answer import Plot, Rows
from tests.analysis.questions.landscape.made_up import landscape, warm_starts


def plots(warm: WarmStarts) -> dict[str, Plot]:
    return {part.name: part for part in warm_parts(warm) if isinstance(part, Plot)}


def test_metric_and_sharpness_are_drawn_for_all_three_kinds() -> None:
    found = plots(warm_starts())
    assert list(found) == ["landscape-warm", "landscape-warm-sharpness"]
    for plot in found.values():
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


def test_what_was_trained_comes_first() -> None:
    assert warm_sentences(warm_starts())[0] == (
        "Warm starts (Keskar et al. 2016, Figure 5): batch size 8 trains for 12.5 epochs; from 3 of its iterates, the "
        "initialisation among them, batch size 256 goes on for 100 epochs; 2 seeds. The target ends none of these "
        "runs, so their training losses differ."
    )


def test_both_ends_are_compared_with_the_small_batch_itself() -> None:
    _, accuracy, sharpness = warm_sentences(warm_starts())
    assert accuracy == (
        "From no warm start to one after all the epochs of the small batch, val_accuracy of batch size 256 goes from "
        "0.865 (0.86 to 0.87) to 0.905 (0.9 to 0.91) tuned, from 0.805 (0.8 to 0.81) to 0.885 (0.88 to 0.89) un-tuned; "
        "batch size 8 itself ends at 0.905 (0.9 to 0.91)."
    )
    assert "sharpness (the full space, eps 0.001) of batch size 256 goes from 1.9 (1.4 to 2.4) to 1.5" in sharpness


def test_one_seed_has_no_range() -> None:
    warm = warm_starts()
    one = replace(warm, states=tuple(state for state in warm.states if state.number == 0))
    text = " ".join(warm_sentences(one))
    assert "; 1 seed." in text and "goes from 0.86 to 0.9 tuned" in text


def test_a_kind_that_is_not_there_is_not_spoken_of() -> None:
    warm = warm_starts()
    only = replace(warm, states=tuple(state for state in warm.states if state.kind != "un-tuned"))
    assert "un-tuned" not in " ".join(warm_sentences(only))


def test_networks_without_numbers_are_counted() -> None:
    warm = warm_starts()
    bare: dict[str, Any] = {"last": {}, "sharpness": None, "problem": "its weights are not finite"}
    lost = replace(warm, states=tuple(replace(state, **bare) for state in warm.states))
    assert warm_sentences(lost)[1:] == ["18 of 18 of these networks could not be measured."]


def test_the_landscape_says_it_only_where_there_are_warm_starts() -> None:
    assert warm_sentences(warm_starts())[1] in sentences(landscape(warm_starts=warm_starts()))
    assert not any("Warm starts" in sentence for sentence in sentences(landscape()))


def test_states_are_found_by_kind_and_iterate_in_order_of_seeds() -> None:
    warm = warm_starts()
    assert warm.starts == [0, 10, 100]
    assert [state.number for state in warm.of("tuned", 10)] == [0, 1] and warm.of("tuned", 11) == []
    assert [state.large_steps for state in warm.of("small", 10)] == [0, 0]


def test_epochs_are_the_small_batch_s_examples_over_the_training_set() -> None:
    warm = warm_starts()
    assert [warm.epochs(warm.of("un-tuned", steps)[0]) for steps in warm.starts] == [0, 1.25, 12.5]
