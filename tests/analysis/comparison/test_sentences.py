"""The findings come out in words that hold for the numbers."""

from __future__ import annotations

from dataclasses import replace

from bcrit.analysis.comparison import StepsTable, compare
from bcrit.analysis.comparison.sentences import MOST_OTHERS
from tests.analysis.comparison.made_up import run, steps_table, table


def sentences(*tables: StepsTable) -> str:
    return " ".join(compare(tables).sentences)


SGD = table("sgd", 3500, 16, noise=0.03, seed=1)
MOMENTUM = table("momentum", 850, 66, noise=0.03, seed=2)
SCHEDULE = table("schedule", 850, 13, noise=0.03, seed=3)
SLOWER = table("slower", 1700, 66, noise=0.03, seed=4)


def test_momentum_against_sgd_reads_as_shallue_found_it() -> None:
    text = sentences(SGD, MOMENTUM)
    assert text.startswith("momentum against sgd: s_min is 0.2")
    assert (
        "b_crit is 3.94 times as large (3.53 to 4.39)" in text and "no difference is seen in e_min (ratio 0.9" in text
    )
    assert "momentum extends perfect scaling: it still profits from batch sizes at which sgd no longer does" in text
    assert "fewer steps by the curves" in text and "momentum (at 1,024 it takes 0.2" in text
    assert "hours" not in text  # a table without step times


def test_the_same_is_said_whichever_run_comes_first() -> None:
    assert "momentum extends perfect scaling" in sentences(MOMENTUM, SGD)
    assert "momentum (at 1,024 it takes 0.2" in sentences(MOMENTUM, SGD)


def test_a_smaller_b_crit_is_not_called_worse() -> None:
    text = sentences(MOMENTUM, SCHEDULE)
    assert "So schedule saves at small batch sizes, and no difference is seen at very large ones." in text
    assert "Its b_crit is smaller for that reason, not because it scales worse than momentum." in text


def test_a_constant_factor_is_called_one() -> None:
    assert "So momentum needs fewer steps at every batch size, by about the same factor." in sentences(SLOWER, MOMENTUM)


def test_equal_runs_are_not_called_the_same() -> None:
    text = sentences(SGD, table("again", 3500, 16, noise=0.03, seed=11))
    assert "no difference is seen in s_min" in text
    assert (
        "So none of the three numbers tells them apart; the intervals say how large a difference may still be." in text
    )
    assert "the two are not told apart" in text
    twice = compare([run("a"), run("b", seed=7)]).sentences
    assert "hours" not in " ".join(twice)


def test_a_bound_is_given_where_a_knee_is_out_of_sight() -> None:
    text = sentences(SGD, table("scaling", 1, 5.6e4, noise=0.03, seed=3))
    assert "b_crit is at least " in text
    assert "s_min cannot be compared, because s_min of scaling is not identified" in text
    assert "scaling extends perfect scaling" in text
    assert "b_crit is at most 0.0" in sentences(table("scaling", 1, 5.6e4, noise=0.03, seed=3), SGD)


def test_what_cannot_be_compared_is_one_sentence() -> None:
    found = compare([SGD, replace(SGD, location="tokens.csv", unit="tokens")]).sentences
    assert found == ("tokens and sgd cannot be compared: their batch sizes count different things (tokens, examples).",)


def test_pairs_without_the_first_run_are_told_while_they_are_few() -> None:
    three = compare([SGD, MOMENTUM, SCHEDULE]).sentences
    assert any(sentence.startswith("schedule against momentum: ") for sentence in three)
    many = [table(f"t{k}", 100 * 3**k, 64, noise=0.02, seed=k) for k in range(4)]
    found = compare([SGD, *many]).sentences
    assert 6 > MOST_OTHERS
    assert "Of the other pairs, 6 differ in at least one number; the table of ratios has them." in found


def test_hours_are_told_with_the_fastest_training_first() -> None:
    found = compare([run("a"), run("b", s_min=100)]).sentences
    assert "Fewer hours, with each run's own step times taken as exact: b throughout." in " ".join(found)
    last = found[-1]
    assert last.startswith("Shortest training within what was measured") and last.index("b at") < last.index("a at")


def test_an_interval_that_leaves_out_1_by_chance_is_called_so() -> None:
    tables = [StepsTable(f"{k}.csv", steps_table(100, 64, 0.05, 100 + k)) for k in (1, 2, 0)]
    assert "not beyond chance among so many ratios" in " ".join(compare(tables).sentences)
