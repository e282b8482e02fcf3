"""Which networks are named: winners by study, un-tuned ones beside them, and what is left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.stages.landscape import Winners, winners
from tests.tuner.stages.small import experiment

SPEC = experiment()


@pytest.fixture
def rows(complete: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = RunFolder.at(complete).read(TRIALS).to_pylist()
    return found


def named(rows: list[dict[str, Any]], seeds: int = 2) -> Winners:
    return winners(rows, SPEC, seeds)


def test_every_study_gives_its_confirmation_runs_and_the_larger_ones_un_tuned_twins(rows: list[dict[str, Any]]) -> None:
    found = named(rows)
    kinds = [(w.proposal.batch_size, w.tuned, w.number) for w in found.networks]
    assert kinds == [(4, True, 0), (4, True, 1), (16, True, 0), (16, True, 1), (16, False, 0), (16, False, 1)]
    assert found.left_out == ()


def test_a_winner_is_trained_with_the_settings_of_its_row(rows: list[dict[str, Any]]) -> None:
    by_name = {row["trial_id"]: row for row in rows}
    for wanted in (w for w in named(rows).networks if w.tuned):
        row, again = by_name[wanted.repeats], wanted.proposal
        assert again.hyperparameters == {"lr": row["lr"], "schedule": "constant"}
        assert (again.seed, again.max_steps) == (row["seed"], row["max_steps"])
        assert row["stage"] == "confirm" and row["repeats"] == again.repeats


def test_an_un_tuned_run_differs_from_its_twin_in_the_hyperparameters_alone(rows: list[dict[str, Any]]) -> None:
    found = named(rows).networks
    smallest, tuned, untuned = (found[place].proposal for place in (0, 2, 4))
    same = replace(tuned, point=smallest.point, repeats=smallest.repeats, trial_id=untuned.trial_id)
    assert untuned == same and found[4].repeats is None
    assert len({wanted.proposal.trial_id for wanted in found}) == 6


def test_fewer_seeds_are_the_first_ones(rows: list[dict[str, Any]]) -> None:
    assert [w.number for w in named(rows, seeds=1).networks] == [0, 0, 0]


def test_lengths_of_a_schedule_stay_the_same_in_updates(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row |= {"schedule": "linear", "decay_fraction": 0.5, "decay_steps": 10 * row["batch_size"]}
    untuned = [w for w in named(rows).networks if not w.tuned]
    assert {w.proposal.hyperparameters["decay_steps"] for w in untuned} == {40}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda row: None, "it has no finished trial"),
        (lambda row: {**row, "steps_to_target": None}, "it did not reach the target"),
        (lambda row: row if row["stage"] == "search" else None, "its winner was not run again on fresh seeds"),
    ],
    ids=["nothing there", "unreached", "unconfirmed"],
)
def test_a_study_without_a_confirmed_winner_is_left_out_with_the_reason(
    rows: list[dict[str, Any]], change: Any, why: str
) -> None:
    changed = [new for row in rows if (new := row if row["batch_size"] == 16 else change(row)) is not None]
    found = named(changed)
    assert found.left_out == (f"batch size 4 is left out: {why}",)
    assert {w.proposal.batch_size for w in found.networks} == {16} and all(w.tuned for w in found.networks)


def test_a_re_run_that_broke_is_passed_over(rows: list[dict[str, Any]]) -> None:
    first = next(row for row in rows if row["batch_size"] == 16 and row["stage"] == "confirm")
    first |= {"outcome": "failed", "steps_to_target": None}
    assert first["trial_id"] not in {w.repeats for w in named(rows).networks}
