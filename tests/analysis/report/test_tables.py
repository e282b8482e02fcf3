"""Tables hold every study, edge and choice, and as many cells as names."""

from __future__ import annotations

from bcrit.analysis.report import tables
from bcrit.analysis.report.answer import Table
from tests.analysis.report import runs


def column(table: Table, name: str) -> list[str]:
    return [row[table.head.index(name)] for row in table.rows]


def test_a_study_that_was_not_reached_says_how_far_it_was_trained() -> None:
    table = tables.study_table(runs.partly((32, 64, 128)))
    assert column(table, "steps to target")[0] == "more than 90"
    assert column(table, "steps to target")[2] == "61 (60 to 62)"
    assert column(table, "seeds reached") == ["0 of 0", "0 of 0", "3 of 3", "3 of 3", "3 of 3", "0 of 0"]


def test_points_are_listed_for_studies_that_have_one() -> None:
    table = tables.point_table(runs.partly((32, 64)))
    assert column(table, "batch size") == ["32", "64"]
    assert {"lr", "momentum", "schedule"} < set(table.head)


def test_outcomes_are_counted_and_those_that_never_occur_left_out() -> None:
    assert "reached" not in tables.outcome_table(runs.partly(())).head
    assert column(tables.outcome_table(runs.usual()), "reached") == ["2"] * 6


def test_every_edge_is_a_row_with_a_sentence_for_its_kind() -> None:
    analysis = runs.widened()
    table = tables.boundary_table(analysis)
    assert len(table.rows) == len(analysis.boundary) > 0
    assert set(column(table, "kind")) <= set(tables.EDGES)


def test_nested_facts_of_the_environment_stand_on_one_line() -> None:
    table = tables.environment_table([{"packages": {"ray": "2.60.0", "own": None}, "devices": [], "seed": 0}])
    assert table.rows == (("packages", "ray 2.60.0, own –"), ("devices", "none"), ("seed", "0"))


def test_what_differs_between_sessions_stands_side_by_side() -> None:
    table = tables.environment_table([{"host": "a", "seed": 0}, {"host": "b", "seed": 0}])
    assert table.rows == (("host", "a; then b"), ("seed", "0"))


def test_no_rows_make_no_table() -> None:
    assert tables.environment_table([]) == Table((), ())
