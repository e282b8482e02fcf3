"""The protocol as a pure function: the same whatever the workers, the order of endings, or a kill."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from bcrit.analysis.studies.boundary import study_state
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.tuner.protocol.proposal import TrialRecord, trial_seed
from bcrit.tuner.protocol.protocol import PerStudyProtocol, protocol_of
from bcrit.tuner.training.settings import Settings
from tests.scripted import ExactHyperbola, ScriptedRun
from tests.simulate import scripted, searched, simulate

WORKLOAD = ExactHyperbola(s_min=50, b_crit=64)


@dataclass(frozen=True)
class Failing(ExactHyperbola):
    """The first search trials of each study fail in the training code."""

    first: int = 0  # how many

    def begin(self, settings: Settings) -> ScriptedRun:
        if settings.seed in {trial_seed(0, Stage.SEARCH, number) for number in range(self.first)}:
            raise ValueError("the data are broken")
        return super().begin(settings)


def experiment(**changes: Any) -> Experiment:
    return scripted(**{"search": {"trials": 12, "start": 6}, "boundary": {"max_rounds": 1}, **changes})


def ledger(found: dict[int, list[Any]]) -> dict[str, Any]:
    return {record.trial_id: record for records in found.values() for record in records}


REFERENCE = simulate(experiment(), WORKLOAD)


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("disorder", [1, 2])
def test_the_ledger_does_not_depend_on_workers_or_their_timing(workers: int, disorder: int) -> None:
    assert ledger(simulate(experiment(), WORKLOAD, workers=workers, disorder=disorder)) == ledger(REFERENCE)


@pytest.mark.parametrize("parallel", [1, 2, 4, 14])
def test_a_study_that_always_fails_is_given_up_after_as_many_trials_whatever_ends_first(parallel: int) -> None:
    search = {"trials": 12, "start": 6, "parallel_per_study": parallel}
    spec, workload = experiment(batch_sizes=[8], search=search), Failing(first=40)
    counts = [len(simulate(spec, workload, workers=w, disorder=d)[8]) for w in (1, 2, 5, 20) for d in (1, 2, 3)]
    assert counts == [max(10, parallel)] * 12


@pytest.mark.parametrize("disorder", range(4))
@pytest.mark.parametrize(("first", "drawn"), [(9, 21), (10, 10)])
def test_one_success_among_the_first_ten_keeps_a_study_alive(first: int, drawn: int, disorder: int) -> None:
    spec, workload = experiment(batch_sizes=[8], boundary={"max_rounds": 0}), Failing(diverges_at=1e9, first=first)
    found = simulate(spec, workload, workers=4, disorder=disorder)
    assert len(searched(found, 8)) == drawn
    assert ledger(found) == ledger(simulate(spec, workload))


@pytest.mark.parametrize("killed_after", [1, 5, 17, 40])
def test_a_run_that_was_cut_off_continues_to_the_same_ledger(killed_after: int) -> None:
    part = simulate(experiment(), WORKLOAD, workers=3, disorder=3, at_most=killed_after)
    assert sum(map(len, part.values())) == killed_after
    assert ledger(simulate(experiment(), WORKLOAD, workers=2, records=part)) == ledger(REFERENCE)


@pytest.mark.parametrize("protocol", ["tpe", "joint"])
def test_batch_sizes_that_take_turns_are_searched_as_those_that_do_not(protocol: str) -> None:
    search = {"protocol": protocol, "trials": 8, "start": 6, "parallel_per_study": 2}
    spec = experiment(search=search, resources={"devices_by_batch_size": {64: 2, 512: 8}})
    found: dict[int, list[TrialRecord]] = {}
    turns = []
    while (proposal := protocol_of(spec).next_trial(found, ())) is not None:
        turns.append(spec.resources.at(proposal.batch_size))
        found = simulate(spec, WORKLOAD, workers=3, records=found, kind=turns[-1])
    assert [kind.devices for kind in spec.kinds] == [1, 2, 8] and all(kind in turns for kind in spec.kinds)
    assert protocol == "joint" or turns == spec.kinds, "each study is whole when its turn ends"
    assert ledger(found) == ledger(simulate(spec, WORKLOAD, workers=3))


def test_another_seed_gives_another_search() -> None:
    other = simulate(experiment(seed=1), WORKLOAD)
    assert [r.point for r in searched(other, 8)] != [r.point for r in searched(REFERENCE, 8)]


def test_all_studies_are_seen_early() -> None:
    part = simulate(experiment(), WORKLOAD, at_most=6)
    assert {b: len(records) for b, records in part.items()} == {8: 2, 64: 2, 512: 2}


def test_the_sobol_start_is_the_same_at_every_batch_size() -> None:
    starts = [[r.point for r in searched(REFERENCE, b)[:6]] for b in (8, 64, 512)]
    assert starts[0] == starts[1] == starts[2]


def test_every_point_lies_in_its_round_s_box() -> None:
    spec = experiment()
    for batch_size, records in REFERENCE.items():
        space = study_state(spec, batch_size, searched(REFERENCE, batch_size)).space
        assert all(space.contains(record.point) for record in records)


def test_diverged_trials_are_drawn_again() -> None:
    found = simulate(experiment(), ExactHyperbola(s_min=50, b_crit=64, diverges_at=1.5))
    for batch_size in (8, 64, 512):
        search = [r for r in searched(found, batch_size) if r.round == 0]
        assert sum(r.outcome.feasible for r in search) == 12
        assert any(r.outcome is Outcome.DIVERGED for r in search)


def test_draws_are_bounded_when_everything_diverges() -> None:
    spec = experiment(search={"trials": 5, "max_draws": 2.0})
    found = simulate(spec, ExactHyperbola(diverges_at=1e-9))
    assert {b: len(records) for b, records in found.items()} == {8: 10, 64: 10, 512: 10}


def test_confirm_repeats_the_best_points_on_fresh_seeds_that_batch_sizes_share() -> None:
    for batch_size, records in REFERENCE.items():
        search = {r.trial_id: r for r in searched(REFERENCE, batch_size)}
        confirm = sorted((r for r in records if r.stage is Stage.CONFIRM), key=lambda r: r.number)
        assert [r.seed for r in confirm] == [trial_seed(0, Stage.CONFIRM, i) for i in (0, 1, 0, 1)]
        assert not {r.seed for r in confirm} & {r.seed for r in search.values()}
        best = sorted(r.steps_to_target for r in search.values() if r.steps_to_target is not None)[:2]
        assert sorted({search[r.repeats or ""].steps_to_target or 0 for r in confirm}) == sorted(set(best))
        assert all(r.point == search[r.repeats or ""].point for r in confirm)
        assert all(r.max_steps >= 4 * (search[r.repeats or ""].steps_to_target or 0) for r in confirm)


def test_nothing_reached_means_nothing_to_confirm() -> None:
    found = simulate(experiment(target="loss < 1e-300"), WORKLOAD)
    assert all(r.stage is Stage.SEARCH for records in found.values() for r in records)


def test_a_box_that_ends_short_of_the_optimum_is_widened_until_it_holds_it() -> None:
    spec = experiment(
        space={"lr": "log from 0.0001 to 0.01", "momentum": 0.9}, search={"trials": 20}, boundary={"max_rounds": 3}
    )
    for batch_size, records in simulate(spec, WORKLOAD).items():
        state = study_state(spec, batch_size, [r for r in records if r.stage is Stage.SEARCH])
        best = WORKLOAD.lr_best(batch_size)
        first = [v for v in state.edges if v.round == 0 and v.touch.kind == "box"]
        assert [(v.touch.dimension, v.touch.side) for v in first] == ([("lr", "high")] if best > 0.01 else []), best
        assert state.space.contains({"lr": best, "momentum": 0.9, "schedule": "constant"})


def test_a_hard_limit_stops_widening_and_the_study_stays_flagged() -> None:
    lr = {"scale": "log", "low": 0.0001, "high": 0.01, "hard_high": 0.01}
    spec = experiment(space={"lr": lr, "momentum": 0.9}, search={"trials": 20})
    state = study_state(spec, 512, searched(simulate(spec, WORKLOAD), 512))
    assert state.round == 0 and [(v.touch.kind, v.widened_to) for v in state.edges] == [("box", None)]


@pytest.mark.parametrize("protocol", ["tpe", "sobol", "random"])
@pytest.mark.parametrize("rule", ["asha", "cap", "none"])
def test_every_protocol_and_rule_runs_to_its_end(protocol: str, rule: str) -> None:
    spec = experiment(search={"trials": 12, "protocol": protocol, "stopping": rule}, boundary={"max_rounds": 0})
    found = simulate(spec, WORKLOAD)
    assert PerStudyProtocol(spec).next_trial(found, ()) is None
    assert all(sum(r.outcome.feasible for r in searched(found, b)) == 12 for b in found)
    if rule == "none":
        unreached = [r for b in found for r in searched(found, b) if r.outcome is Outcome.EXHAUSTED]
        assert all(r.steps == spec.budget.max_steps(r.batch_size) for r in unreached)


def test_what_is_put_in_comes_out_of_an_exact_hyperbola() -> None:
    spec = experiment(search={"trials": 40}, batch_sizes=[4, 16, 64, 256, 1024])
    found = simulate(spec, WORKLOAD)
    for batch_size in spec.batch_sizes:
        best = min(r.steps_to_target or np.inf for r in searched(found, batch_size))
        exact = WORKLOAD.s_min * (1 + WORKLOAD.b_crit / batch_size)
        assert exact - 1 <= best <= 1.06 * exact
