"""Tables hold every study, outcome and edge."""

from __future__ import annotations

from bcrit.analysis.questions.studies import EDGES, ask
from bcrit.analysis.report.answer import Rows, Table
from bcrit.analysis.run import Run
from tests.analysis.report import runs


def tables(run: Run) -> dict[str, Table]:
    return {part.heading: part.table for part in ask(run).parts if isinstance(part, Rows)}


def column(table: Table, name: str) -> list[str]:
    return [row[table.head.index(name)] for row in table.rows]


def test_a_study_that_was_not_reached_says_how_far_it_was_trained() -> None:
    table = tables(runs.partly((32, 64, 128)))["Results"]
    assert column(table, "steps to target")[0] == "more than 90"
    assert column(table, "steps to target")[2] == "61 (60 to 62)"
    assert column(table, "seeds reached") == ["0 of 0", "0 of 0", "3 of 3", "3 of 3", "3 of 3", "0 of 0"]


def test_points_are_listed_for_studies_that_have_one() -> None:
    table = tables(runs.partly((32, 64)))["Best hyperparameters"]
    assert column(table, "batch size") == ["32", "64"]
    assert {"lr", "momentum", "schedule"} < set(table.head)
    assert "Best hyperparameters" not in tables(runs.partly(()))


def test_outcomes_are_counted_and_those_that_never_occur_left_out() -> None:
    assert "reached" not in tables(runs.partly(()))["How the search trials ended"].head
    assert column(tables(runs.usual())["How the search trials ended"], "reached") == ["2"] * 6


def test_every_edge_is_a_row_with_a_sentence_for_its_kind() -> None:
    analysis = runs.widened()
    table = tables(analysis)["Optima at the edge of their box"]
    assert len(table.rows) == len(analysis.boundary) > 0
    assert set(column(table, "kind")) <= set(EDGES)
    assert EDGES["box"] in str(ask(analysis).parts[-1])
