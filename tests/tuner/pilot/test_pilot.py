"""A pilot of a tiny classifier, trained for real: from the experiment to the study that it proposes."""

from __future__ import annotations

from typing import Any

import pytest

from bcrit.analysis.questions.pilot.answer import Pilot
from bcrit.analysis.questions.pilot.study import hint
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.pilot.pilot import pilot
from tests.tuner.landscape.small import HERE

DATA: dict[str, Any] = {
    "workload": f"{HERE}:Blobs",
    "optimizer": "sgd",
    "batch_sizes": [2, 4, 8, 16],
    "target": "val_loss < 0.3",
    "space": {"lr": "log from 0.01 to 2"},
    "budget": {"steps": 200},
    "seed": 3,
}


def ran(lines: list[str] | None = None, n_seeds: int = 3, batch_size: int | None = None, **more: Any) -> Pilot:
    data = {**DATA, **more}
    watch = (lambda line: None) if lines is None else lines.append
    return pilot(Experiment.model_validate(data), data, "x.yaml", batch_size, n_seeds, watch)


@pytest.fixture(scope="module")
def found() -> Pilot:
    return ran()


def test_the_best_rate_of_the_ladder_is_run_on_every_seed(found: Pilot) -> None:
    measured = found.measured
    reached = [one for one in measured.tried if one.steps_to_target is not None]
    assert measured.batch_size == 4 and len(measured.tried) >= 8
    assert measured.lr == min(reached, key=lambda one: one.steps_to_target or 0).lr
    assert len(measured.steps_each) == 3 and measured.steps in measured.steps_each


def test_what_follows_is_what_the_parts_say(found: Pilot) -> None:
    measured, proposal = found.measured, found.proposal
    assert proposal is not None and proposal.box is not None
    assert found.hint == hint(measured.simple, measured.noise, 4)
    assert proposal.experiment == Experiment.model_validate(proposal.data)
    assert proposal.experiment.batch_sizes == found.grid.batch_sizes == tuple(t.batch_size for t in proposal.timings)
    assert all(b <= 64 for b in found.grid.batch_sizes)
    assert [study.batch_size for study in proposal.cost.studies] == list(found.grid.batch_sizes)
    assert proposal.box.at(4)[0] < measured.lr < proposal.box.at(4)[1]
    assert proposal.cost.hours is not None and proposal.cost.hours.low < proposal.cost.hours.value


def test_what_it_took_is_counted(found: Pilot) -> None:
    tried = sum(one.steps for one in found.measured.tried)
    seeds = sum(steps or 0 for steps in found.measured.steps_each)
    timed = found.spent.steps - tried - seeds
    assert 3 * len(found.grid.batch_sizes) <= timed <= 66 * len(found.grid.batch_sizes)
    assert 0 < found.spent.probe_seconds < found.spent.seconds


def test_the_same_seed_measures_the_same(found: Pilot) -> None:
    again = ran().measured
    assert (again.tried, again.steps_each, again.simple) == (
        found.measured.tried,
        found.measured.steps_each,
        found.measured.simple,
    )


def test_it_runs_where_it_is_told_and_says_what_it_does() -> None:
    lines: list[str] = []
    measured = ran(lines, n_seeds=1, batch_size=8).measured
    assert measured.batch_size == 8 and measured.simple.low is None
    assert lines[0].startswith("batch size 8: 8 learning rates from 0.01 to 2")
    assert lines[1].startswith("best learning rate") and lines[2].startswith("seed 1 of 1: ")


def test_a_target_that_is_not_reached_leaves_no_proposal() -> None:
    found = ran(n_seeds=2, target="val_loss < 0.00001", budget={"steps": 20})
    assert found.proposal is None and found.measured.steps is None and found.measured.steps_each == (None, None)
    assert found.spent.steps == sum(one.steps for one in found.measured.tried) + 2 * 20


def test_the_end_of_the_ladder_is_noticed() -> None:
    assert ran(n_seeds=1, space={"lr": "log from 0.001 to 0.05"}).measured.edge == "high"


def test_a_fixed_learning_rate_is_kept() -> None:
    found = ran(n_seeds=1, space={"lr": 0.5})
    assert found.proposal is not None and found.proposal.box is None and found.measured.edge is None
    assert found.proposal.data["space"] == {"lr": 0.5}


def test_a_box_in_which_nothing_trains_is_one_message() -> None:
    with pytest.raises(InputError, match="(?s)x.yaml.*no learning rate from 1e\\+09 to 1e\\+10 trains.*move the box"):
        ran(space={"lr": "log from 1e9 to 1e10"})
