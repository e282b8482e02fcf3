"""A landscape says what the numbers are, how far training went, and whether the record came back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.questions.landscape import ask, network_table, sentences, summary_table
from bcrit.analysis.questions.landscape.result import Landscape
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import LANDSCAPE, RunFolder
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.build import build_report
from bcrit.analysis.run import Run
from tests.analysis.questions.landscape.made_up import landscape, network, warm_starts
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return runs.stored(landscape(), LANDSCAPE, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def answer(run: Run) -> Answer:
    return runs.answered(ask, run)


def said(found: Landscape) -> str:
    return "\n".join(sentences(found))


def test_the_first_sentence_compares_the_ends_tuned_and_un_tuned() -> None:
    first = sentences(landscape())[0]
    assert first == (
        "Sharpness (the full space, eps 0.001) of the tuned winners goes from 1.25 at batch size 8 to 1.25 at 256 "
        "(the seeds' ranges overlap); with the hyperparameters of batch size 8 kept it is 10.2 at 256 (the seeds' "
        "ranges are apart) (medians of up to 2 seeds)."
    )


def test_the_eigenvalue_is_compared_likewise() -> None:
    assert "The top eigenvalue of the Hessian of the tuned winners goes from 2.5 at batch size 8" in said(landscape())


def test_how_far_networks_were_trained_stands_beside_f() -> None:
    text = said(landscape())
    assert "trained to loss < 1" in text and "10 of 10 reached it" in text
    assert "f is the loss on 48 rows of the training set (of 64) and lies between 0.101 and 0.111" in text
    assert "(all of them)" in said(landscape(n_examples=64))


def test_a_barrier_on_the_line_is_told_from_none() -> None:
    lines = [sentence for sentence in sentences(landscape()) if sentence.startswith("On the straight line")]
    assert "to the tuned network at 256 the training loss rises to 0.7; at the ends it is 0.1 and 0.2." in lines[0]
    assert "stays below the higher of them; at the ends it is 0.1 and 0.2, and lower between them." in lines[1]


def test_a_faithful_record_and_another_one_are_told_apart() -> None:
    assert "The 6 confirmation runs, trained again for their weights, have the recorded curves" in said(landscape())
    networks = landscape().networks
    other = (replace(networks[0], same_curve=False, curve_difference=0.02), *networks[1:])
    assert "1 of the 6 confirmation runs" in said(landscape(networks=other))
    assert "(by up to 2 % of the metric)" in said(landscape(networks=other))
    lost = (replace(networks[0], same_curve=False, curve_difference=None), *networks[1:])
    assert "(beyond measure of the metric)" in said(landscape(networks=lost))


def test_one_batch_size_has_a_value_and_no_trend() -> None:
    networks = tuple(n for n in landscape().networks if n.batch_size == 8)
    assert "of the winner at batch size 8 is 1.25." in sentences(landscape(networks=networks, paths=()))[0]


def test_one_seed_is_said_and_nothing_of_ranges() -> None:
    networks = tuple(n for n in landscape().networks if n.number == 0)
    first = sentences(landscape(networks=networks))[0]
    assert "(one seed)" in first and "ranges" not in first


def test_networks_without_numbers_leave_their_sentences_out() -> None:
    empty = tuple(replace(n, rises=(), top_eigenvalue=None, train_loss=None) for n in landscape().networks)
    text = said(landscape(networks=empty, paths=()))
    assert "All networks were trained" in text and "goes from" not in text and "lies between" not in text


def test_notes_are_said_last() -> None:
    assert sentences(landscape())[-1] == "one note"


def test_every_figure_is_one_that_plotly_draws(answer: Answer) -> None:
    plots = {part.name: part for part in answer.parts if isinstance(part, Plot)}
    names = ["sharpness", "loss", "eigenvalue", "line", "curve"]
    assert list(plots) == [f"landscape-{name}" for name in names]
    legend = [t["name"] for t in plots["landscape-sharpness"].figure["data"] if t.get("showlegend", True)]
    assert legend == ["tuned at each batch size", "un-tuned"]
    losses = [t["x"] for t in plots["landscape-loss"].figure["data"]]
    assert losses == [[n.train_loss for n in landscape().networks if n.tuned is kind] for kind in (True, False)]


def test_lines_go_through_the_medians(answer: Answer) -> None:
    [plot] = [part for part in answer.parts if isinstance(part, Plot) and part.name == "landscape-sharpness"]
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


def test_the_page_holds_it(run: Run) -> None:
    page = build_report(run)
    assert 'id="landscape"' in page and "Sharpness and curvature" in page and 'data-figure="landscape-line"' in page


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    networks = tuple(replace(n, metrics={"val_accuracy": 0.9, "val_loss": None}) for n in landscape().networks)
    found = landscape(networks=networks, metric="val_accuracy", warm_starts=warm_starts())
    assert runs.stored(found, LANDSCAPE, tmp_path).folder.read_result(LANDSCAPE, Landscape) == found


def test_a_result_of_before_there_were_warm_starts_is_read(tmp_path: Path) -> None:
    kept, folder = {"format": 1, **plain(landscape())}, RunFolder.at(tmp_path)
    for name in ("metric", "warm_starts"):
        del kept[name]
    for each in kept["networks"]:
        del each["metrics"]
    folder.write_json(LANDSCAPE, kept)
    assert folder.read_result(LANDSCAPE, Landscape) == landscape()


def test_boxes_are_the_full_space_first_and_larger_ones_first() -> None:
    assert landscape().boxes == [(1e-3, None), (5e-4, None), (1e-3, 100), (5e-4, 100)]


def test_a_sharpness_is_found_by_its_box() -> None:
    first = landscape().of(8, True)[0]
    assert first.rise(5e-4, None) == 0.5 and first.rise(2e-3, None) is None
    assert [n.number for n in landscape().of(256, False)] == [0, 1] and landscape().of(8, False) == []
