"""The findings come out in words that hold for the numbers, and what speaks against a comparison has its sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bcrit.analysis.questions.compare import ask
from bcrit.analysis.questions.compare.sides import Side, StepsTable
from bcrit.analysis.questions.compare.words import MOST_OTHERS, cautions
from bcrit.analysis.report.answer import Answer
from bcrit.analysis.run import Run
from tests.analysis.questions.compare import made_up
from tests.analysis.questions.compare.made_up import labelled, run, steps_table, table


def said(*sources: Run | StepsTable) -> tuple[str, ...]:
    answer = ask(sources)
    assert isinstance(answer, Answer)
    return answer.sentences


def sentences(*tables: StepsTable) -> str:
    return " ".join(said(*tables))


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
    twice = said(run("a"), run("b", seed=7))
    assert "hours" not in " ".join(twice)


def test_a_bound_is_given_where_a_knee_is_out_of_sight() -> None:
    text = sentences(SGD, table("scaling", 1, 5.6e4, noise=0.03, seed=3))
    assert "b_crit is at least " in text
    assert "s_min cannot be compared, because s_min of scaling is not identified" in text
    assert "scaling extends perfect scaling" in text
    assert "b_crit is at most 0.0" in sentences(table("scaling", 1, 5.6e4, noise=0.03, seed=3), SGD)


def test_what_cannot_be_compared_is_one_sentence() -> None:
    found = said(SGD, StepsTable("tokens.csv", SGD.table, "tokens"))
    assert found == ("tokens and sgd cannot be compared: their batch sizes count different things (tokens, examples).",)


def test_pairs_without_the_first_run_are_told_while_they_are_few() -> None:
    three = said(SGD, MOMENTUM, SCHEDULE)
    assert any(sentence.startswith("schedule against momentum: ") for sentence in three)
    many = [table(f"t{k}", 100 * 3**k, 64, noise=0.02, seed=k) for k in range(4)]
    found = said(SGD, *many)
    assert 6 > MOST_OTHERS
    assert "Of the other pairs, 6 differ in at least one number; the table of ratios has them." in found


def test_hours_are_told_with_the_fastest_training_first() -> None:
    found = said(run("a"), run("b", s_min=100))
    assert "Fewer hours, with each run's own step times taken as exact: b throughout." in " ".join(found)
    last = found[-1]
    assert last.startswith("Shortest training within what was measured") and last.index("b at") < last.index("a at")


def test_an_interval_that_leaves_out_1_by_chance_is_called_so() -> None:
    tables = [StepsTable(f"{k}.csv", steps_table(100, 64, 0.05, 100 + k)) for k in (1, 2, 0)]
    assert "not beyond chance among so many ratios" in sentences(*tables)


# Batch sizes from 4 to 1024 reach from b_crit / 32 to 8 b_crit.
PLAIN: dict[str, Any] = {"b_crit": 128.0, "noise": 0.01}
A = labelled("a", made_up.run(**PLAIN))
ENVIRONMENT = [{"host": "here", "devices": []}]


def with_b(**more: Any) -> tuple[str, ...]:
    return cautions([A, labelled("b", made_up.run("b", **{**PLAIN, "seed": 1, **more}))])


def test_runs_that_differ_in_nothing_else_need_no_caution() -> None:
    assert with_b() == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"trials": 4}, "not searched equally hard (search trials a batch size: a: 2; b: 4)"),
        ({"confirm": False}, "Steps of b are partly those of the search's best trial"),
        ({"workload": "other"}, "The workloads differ (a: toy; b: other)"),
        ({"workload": {"name": "toy", "width": 8}}, "different options"),
        ({"search": {"protocol": "random"}}, "The experiments differ in search.protocol too"),
        ({"budget": {"steps": 9}, "resolution": 0.1}, "differ in budget and resolution too"),
        ({"space": {"lr": "log from 0.001 to 10"}}, "The search spaces differ in lr"),
        ({"optimizer": "momentum"}, "Only b has the hyperparameter momentum"),
        ({"b_crit": 900.0}, "The batch sizes of b do not reach from b_crit / 16 to 2.5 b_crit"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_difference_beside_the_compared_one_is_told(more: dict[str, Any], words: str) -> None:
    (told,) = with_b(**more)
    assert words in told


def test_labels_and_values_with_commas_can_be_told_apart() -> None:
    commas = [
        replace(labelled("x", made_up.run(**PLAIN, trials=n)), label=name) for name, n in (("t, 12", 2), ("d", 4))
    ]
    assert "(search trials a batch size: t, 12: 2; d: 4)" in cautions(commas)[0]


def test_a_run_that_reached_nothing_is_not_called_confirmed() -> None:
    def told(*runs: Side) -> str:
        (found,) = [caution for caution in cautions(runs) if "the search's best trial" in caution]
        return found

    searched = labelled("b", made_up.run("b", **PLAIN, seed=1, confirm=False))
    assert A.analysis is not None
    studies = A.analysis.studies.assign(steps=float("nan"))
    nothing = replace(A, label="nothing", analysis=A.analysis.but(studies=studies))
    assert told(searched, nothing).endswith("by the luck of the search.")
    assert told(searched, A, nothing).endswith("by the luck of the search; those of a are medians over fresh seeds.")


def test_a_bend_is_told() -> None:
    bent = labelled("bent", made_up.table("bent", 100, 128, noise=0.01))
    assert bent.fit is not None
    told = cautions([replace(bent, fit=replace(bent.fit, lack_of_fit=True)), A])
    assert any("The points of bent bend away from the hyperbola" in caution for caution in told)


def test_tables_are_taken_to_have_the_same_target() -> None:
    tables = [labelled(name, made_up.table(name, 100, 128, noise=0.01)) for name in ("x", "y")]
    assert cautions(tables) == (
        "A table does not say which target its steps are to; x and y are compared as if it were the same.",
    )


def test_targets_compared_on_request_are_told() -> None:
    other = labelled("b", made_up.run("b", **PLAIN, seed=1, target="loss < 0.5"))
    assert cautions([A, other]) == ()  # not divided, so nothing is to be taken with care
    (told,) = cautions([A, other], across_targets=True)
    assert "The targets differ (a: loss < 1; b: loss < 0.5)" in told


def test_hours_of_two_machines_are_told() -> None:
    assert A.analysis is not None
    here = replace(A, analysis=A.analysis.but(environment=ENVIRONMENT))
    there = replace(A, label="b", analysis=A.analysis.but(environment=[{"host": "there", "devices": []}]))
    assert cautions([here, replace(here, label="b")]) == ()
    assert "made on different machines" in cautions([here, there])[0]


def test_points_on_an_edge_are_told() -> None:
    assert A.analysis is not None
    trials = A.analysis.trials.copy()
    edge: dict[str, Any] = {
        "batch_size": 8,
        "round": 0,
        "dimension": "lr",
        "side": "high",
        "kind": "box",
        "low": 0.01,
        "high": 10.0,
    }
    boundary = A.analysis.boundary.iloc[:0].copy()
    boundary.loc[0] = {**edge, "optimum": 9.9, "widened_to": float("nan")}
    touched = replace(A, analysis=A.analysis.but(boundary=boundary, trials=trials))
    assert "edge of their box, so fewer steps may be possible there: a: at batch size 8." in cautions([touched])[0]


def test_runs_whose_updates_take_different_numbers_of_gradients_are_told_apart() -> None:
    other = labelled("b", made_up.run("b", **PLAIN, seed=1))
    assert other.analysis is not None
    twice = other.analysis.trials.assign(gradients_per_example=2)
    (told,) = cautions([A, replace(other, analysis=other.analysis.but(trials=twice))])
    assert "different numbers of gradients of each example in an update (a: 1; b: 2)" in told
