"""The tables' cells say what the comparison found."""

from __future__ import annotations

from dataclasses import replace

from bcrit.analysis.comparison import compare
from bcrit.analysis.comparison.source import Estimate
from bcrit.analysis.report.comparison import tables
from tests.analysis.comparison.made_up import run, table

FOUND = compare([run("a"), run("b", "momentum", s_min=80, b_crit=90, seed=1)])
SCALING = compare([table("t", 100, 64, noise=0.03, seed=1), table("scaling", 1, 1e6, noise=0.03, seed=3)])


def test_a_run_has_its_numbers_effort_and_target() -> None:
    shown = tables.run_table(FOUND.runs)
    row = dict(zip(shown.head, shown.rows[0], strict=True))
    assert (row["run"], row["target"], row["batch sizes"]) == ("sgd", "loss < 1", "4 to 1,024")
    assert (row["reached"], row["trials"], row["lack of fit"]) == ("9 of 9", "45", "no")
    assert tables.run_row(SCALING.runs[0])["target"] == "not stated"


def test_an_estimate_is_written_with_its_interval_or_why_there_is_none() -> None:
    assert tables.estimate_text(None) == "–"
    assert tables.estimate_text(Estimate(10.0, 9.0, 11.0, True)) == "10 (9 to 11)"
    assert tables.estimate_text(Estimate(10.0, 9.0, None, False)) == "not identified (above 9)"
    assert tables.estimate_text(Estimate(None, None, None, False)) == "not identified"


def test_a_ratio_has_its_verdict_and_its_reason() -> None:
    shown = tables.ratio_table(SCALING.ratios)
    rows = {row[1]: dict(zip(shown.head, row, strict=True)) for row in shown.rows}
    assert rows["b_crit"]["ratio (interval)"].startswith("above ") and rows["b_crit"]["verdict"] == "differs"
    assert rows["s_min"]["ratio (interval)"] == "–" and "not identified" in rows["s_min"]["why"]


def test_batch_sizes_and_stretches_have_a_row_each() -> None:
    assert len(tables.batch_size_table(FOUND.at_batch_sizes).rows) == 9
    shown = tables.advantage_table(FOUND.advantages)
    assert len(shown.rows) == len(FOUND.advantages[0].stretches)
    assert shown.rows[-1][2] == "momentum"


def test_a_run_that_did_not_reach_keeps_the_bound_on_its_ratio() -> None:
    lower = replace(FOUND.at_batch_sizes[0], ratio=None, low=2.5, high=None)
    (row,) = tables.batch_size_table([lower]).rows
    assert row[4] == "above 2.5"


def test_the_fastest_come_first() -> None:
    shown = tables.fastest_table(FOUND)
    assert [row[0] for row in shown.rows] == ["momentum", "sgd"]


def test_hyperparameters_that_a_run_lacks_are_a_dash() -> None:
    shown = tables.point_table(FOUND.runs)
    assert len(shown.rows) == 18 and shown.head[:2] == ("run", "batch size")
    place = shown.head.index("momentum")
    assert {row[place] for row in shown.rows if row[0] == "sgd"} == {"–"}
    assert "–" not in {row[place] for row in shown.rows if row[0] == "momentum"}


def test_small_p_values_are_bounds() -> None:
    assert [tables.p_text(p) for p in (None, 0.0, 0.00012, 0.046, 1.0)] == ["–", "< 0.0001", "0.00012", "0.046", "1"]
