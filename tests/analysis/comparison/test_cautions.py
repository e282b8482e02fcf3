"""Each way in which two runs differ beyond what is compared has its sentence, and equal runs have none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bcrit.analysis.comparison.cautions import cautions
from bcrit.analysis.comparison.source import Side
from tests.analysis.comparison import made_up
from tests.analysis.comparison.made_up import labelled

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
