"""What was run stands on one line each."""

from __future__ import annotations

from bcrit.analysis.questions.about import environment_table
from bcrit.analysis.report.answer import Table


def test_nested_facts_of_the_environment_stand_on_one_line() -> None:
    table = environment_table([{"packages": {"ray": "2.60.0", "own": None}, "devices": [], "seed": 0}])
    assert table.rows == (("packages", "ray 2.60.0, own –"), ("devices", "none"), ("seed", "0"))


def test_what_differs_between_sessions_stands_side_by_side() -> None:
    table = environment_table([{"host": "a", "seed": 0}, {"host": "b", "seed": 0}])
    assert table.rows == (("host", "a; then b"), ("seed", "0"))


def test_no_rows_make_no_table() -> None:
    assert environment_table([]) == Table((), ())
