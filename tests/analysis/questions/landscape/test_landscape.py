"""A landscape and its warm starts: figures, tables, what is stored, and when it is old."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.questions.landscape import ask, network_table, summary_table
from bcrit.analysis.questions.landscape.result import Landscape, WarmStarts, warm_parts
from bcrit.analysis.records.run_folder import LANDSCAPE
from bcrit.analysis.report import Answer, Plot, Rows
from bcrit.analysis.run import Run
from tests.analysis.questions.landscape.made_up import landscape, network, warm_starts
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return runs.stored(landscape(), LANDSCAPE, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def answer(run: Run) -> Answer:
    return runs.answered(ask, run)


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


def test_a_network_without_numbers_keeps_its_row_and_its_reason() -> None:
    bare = {"rises": (), "top_eigenvalue": None, "train_loss": None, "trace": None, "outcome": "diverged"}
    broken = network(256, False, 0, 1.0, problem="loss became nan", **bare)
    rows = network_table(replace(landscape(), networks=(*landscape().networks[:-2], broken))).rows
    assert rows[-1][3] == "diverged" and rows[-1][-1] == "loss became nan"


def test_a_winner_that_changed_since_is_said(run: Run, answer: Answer, tmp_path: Path) -> None:
    assert "the winner has changed at batch size 8, 64, 256" in answer.sentences[-1]  # made-up names
    best = {int(row["batch_size"]): row["best_trial"] for row in run.studies.to_dict("records")}
    networks = tuple(replace(n, point=best[n.batch_size]) if n.tuned else n for n in landscape().networks)
    fresh = runs.answered(ask, runs.stored(landscape(networks=networks), LANDSCAPE, tmp_path))
    assert not any("has changed" in sentence for sentence in fresh.sentences)


def test_tables_are_there_and_the_terminal_has_the_largest_boxes(answer: Answer) -> None:
    assert [part.folded for part in answer.parts if isinstance(part, Rows)] == [False, True]
    (short,) = (part.table for part in answer.terminal if isinstance(part, Rows))
    boxes = [name for name in short.head if name.startswith("sharpness")]
    assert boxes == ["sharpness (%), eps 0.001, full space", "sharpness (%), eps 0.001, 100 directions"]
    assert "reached" not in short.head and "|w − w₀|" in short.head


def test_warm_starts_and_the_metric_of_the_networks_are_shown_where_there_are_some(tmp_path: Path) -> None:
    networks = tuple(replace(n, metrics={"val_accuracy": 0.9}) for n in landscape().networks)
    more = landscape(networks=networks, metric="val_accuracy", warm_starts=warm_starts())
    found = runs.answered(ask, runs.stored(more, LANDSCAPE, tmp_path))
    names = [part.name for part in found.parts if isinstance(part, Plot)]
    assert {"landscape-metric", "landscape-warm", "landscape-warm-sharpness"} <= set(names)
    assert any(sentence.startswith("The val_accuracy of the tuned winners") for sentence in found.sentences)
    tables = [part.table for part in found.parts if isinstance(part, Rows)]
    assert sum("val_accuracy" in table.head for table in tables) == 2


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    networks = tuple(replace(n, metrics={"val_accuracy": 0.9, "val_loss": None}) for n in landscape().networks)
    found = landscape(networks=networks, metric="val_accuracy", warm_starts=warm_starts())
    assert runs.stored(found, LANDSCAPE, tmp_path).folder.read_result(LANDSCAPE, Landscape) == found


def test_boxes_are_the_full_space_first_and_larger_ones_first() -> None:
    assert landscape().boxes == [(1e-3, None), (5e-4, None), (1e-3, 100), (5e-4, 100)]


def test_a_sharpness_is_found_by_its_box() -> None:
    first = landscape().of(8, True)[0]
    assert first.rise(5e-4, None) == 0.5 and first.rise(2e-3, None) is None
    assert [n.number for n in landscape().of(256, False)] == [0, 1] and landscape().of(8, False) == []


# --- warm starts ---


def plots(warm: WarmStarts) -> dict[str, Plot]:
    return {part.name: part for part in warm_parts(warm) if isinstance(part, Plot)}


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


def test_epochs_are_the_small_batch_s_examples_over_the_training_set() -> None:
    warm = warm_starts()
    assert [warm.epochs(warm.of("un-tuned", steps)[0]) for steps in warm.starts] == [0, 1.25, 12.5]
