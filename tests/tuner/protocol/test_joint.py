"""The joint search: a pure function of the finished trials, trials tied to horizons, numbers that fresh seeds reach."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from bcrit.analysis.studies.boundary import study_state
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.space import Point
from bcrit.tuner.protocol.joint import JointProtocol
from bcrit.tuner.protocol.proposal import Proposal, Records, TrialRecord, in_updates
from bcrit.tuner.protocol.proposer import Proposer, by_horizon, tied
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.protocol.surrogate import Surrogate
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from tests.scripted import ExactHyperbola
from tests.simulate import scripted, searched, simulate

WORKLOAD = NoisyQuadratic(dimensions=20, seed_noise=0.03, evaluation_noise=0.02)


def quadratic(**changes: Any) -> Experiment:
    data = {
        "workload": {"name": "noisy_quadratic", "dimensions": 20, "seed_noise": 0.03, "evaluation_noise": 0.02},
        "batch_sizes": [8, 16, 32, 64],
        "target": "risk < 0.03",
        "space": {
            "lr": "log from 0.01 to 10",
            "momentum": "reverse_log from 0 to 0.99",
            "schedule": "choice of constant, linear",
        },
        "budget": {"steps": 100, "examples": 6000},
        "search": {"protocol": "joint", "trials": 8, "start": 10},
        "confirm": {"seeds": 3},
        "boundary": {"max_rounds": 0},
        **changes,
    }
    return parse_experiment(data, "test")


def rows(records: Records) -> list[tuple[Any, ...]]:
    flat = [record for found in records.values() for record in found]
    return sorted((r.trial_id, r.outcome, r.steps, r.max_steps, r.repeats, tuple(r.point.items())) for r in flat)


def searchable(record: TrialRecord) -> tuple[Any, ...]:
    return tuple(sorted((name, value) for name, value in record.point.items() if name != "decay_fraction"))


def number(records: Sequence[TrialRecord]) -> float:
    """Steps-to-target of a study: the least median of the re-runs of a point."""
    points: dict[str | None, list[float]] = {}
    for record in records:
        if record.stage is Stage.CONFIRM:
            points.setdefault(record.repeats, []).append(record.steps_to_target or np.inf)
    return min(median(steps) for steps in points.values())


@pytest.fixture(scope="module")
def alone() -> Records:
    return simulate(quadratic(), WORKLOAD)


@pytest.mark.parametrize(
    "how",
    [{"workers": 3}, {"workers": 40, "disorder": 5}, {"workers": 6, "disorder": 2, "lost": 0.2}],
    ids=["three workers", "many workers", "workers that die"],
)
def test_the_trials_do_not_depend_on_the_workers(alone: Records, how: dict[str, Any]) -> None:
    assert rows(simulate(quadratic(), WORKLOAD, **how)) == rows(alone)


def test_a_search_that_was_cut_anywhere_goes_on_as_if_it_had_not_been(alone: Records) -> None:
    for done in (7, 25, 47):
        begun = simulate(quadratic(), WORKLOAD, workers=5, at_most=done)
        assert rows(simulate(quadratic(), WORKLOAD, workers=2, records=begun)) == rows(alone)


def test_trials_are_tied_to_their_horizon_but_for_the_start_and_each_study_has_its_number(alone: Records) -> None:
    spec = quadratic()
    assert spec.middle == 16
    for size, records in alone.items():
        search, budget = searched(dict(alone), size), spec.budget.max_steps(size)  # type: ignore[arg-type]
        assert len(search) == {16: 8 + 10, 64: 8 + 4}.get(size, 8)  # a start, and more where trials are cheap
        for record in search[10 if size == 16 else 0 :]:
            assert record.outcome is Outcome.DIVERGED or record.steps == record.max_steps <= budget
            if "decay_fraction" in record.point:
                decay = in_updates(record.point, budget)["decay_steps"]
                assert 0.75 * record.max_steps - 1 <= float(decay) <= 1.2 * record.max_steps + 1
        again = [record for record in records if record.stage is Stage.CONFIRM]
        assert Counter(record.repeats for record in again).most_common(1)[0][1] == 3
        assert len({record.seed for record in again}) == len(again)
        assert sum(record.steps_to_target is not None for record in again) >= 2


def proposer_of(records: Records, size: int) -> Proposer:
    spec, known = quadratic(), [record for of_size in records.values() for record in of_size]
    return Proposer(spec, size, by_horizon(spec.space_at(size)), known, {}, {})


def test_a_trial_tells_at_its_end_and_once_before_as_one_whose_schedule_has_not_ended(alone: Records) -> None:
    found = proposer_of(alone, 16)
    assert found.model is not None
    twice = [record for record in found.seen if any(0.5 <= step / record.steps <= 0.9 for step, _ in record.curve[1:])]
    assert len(twice) > 0.8 * len(found.seen) and len(found.model.x) == len(found.seen) + len(twice)
    record = next(r for r in twice if r.point["schedule"] == "linear" and len(r.curve) > 9 and r.batch_size == 16)
    step = min((step for step, _ in record.curve[1:]), key=lambda step: abs(np.log(step / record.steps / 0.7)))
    before = found.inputs.of(16, record.point, in_updates(record.point, found.experiment.budget.max_steps(16)), step)[0]
    place = np.flatnonzero((found.model.x == before).all(axis=1))
    assert len(place) == 1
    value = dict(record.curve)[step]
    assert found.model.y[place[0]] == Surrogate.seen([found._distance(record, value)])[0]


@pytest.mark.parametrize(("promised", "again"), [(0.0, False), (np.inf, True)])
def test_where_no_trial_promises_anything_the_best_known_point_is_run_again(
    alone: Records, promised: float, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bcrit.tuner.protocol.proposer._WORTH", promised)
    found = proposer_of(alone, 16)
    horizon, _, point = found._roots(16)[0]
    assert (found.next([], np.random.default_rng(0)) == (point, horizon)) is again


@pytest.mark.parametrize(("column", "sign", "longer"), [(-1, -1, True), (-2, 1, False)], ids=["progress", "the end"])
def test_a_longer_schedule_is_confirmed_where_it_reaches_the_target_sooner(
    alone: Records, column: int, sign: int, longer: bool
) -> None:
    found = proposer_of(alone, 16)
    point: Point = {"lr": 0.1, "momentum": 0.5, "schedule": "linear", "end_factor": 0.01, "decay_fraction": 0.93}
    reached = found._inputs(16, tied(point, found.space, 100, found.experiment.budget.max_steps(16)), 80)[0, column]

    class OneInput:  # the target is reached where one input is as after 80 of 100 updates
        def mean(self, x: np.ndarray) -> np.ndarray:
            return np.asarray(sign * (x[:, column] - reached))

    found.model = OneInput()  # type: ignore[assignment]
    soon, horizon = found._soonest(point, 100.0)
    assert (horizon > 105 and soon < 75) if longer else (horizon == 100 and soon == pytest.approx(80, abs=2))


def test_it_finds_what_many_times_as_many_random_trials_find() -> None:
    alone = simulate(quadratic(search={"protocol": "joint"}), WORKLOAD)
    random = quadratic(search={"protocol": "random", "trials": 150, "stopping": "cap"}, confirm={"seeds": 0})
    many = simulate(random, WORKLOAD)
    worse = []
    for size in random.batch_sizes:
        worse.append(np.log(number(alone[size]) / min(r.steps_to_target or np.inf for r in searched(many, size))))
    assert max(worse) < 0  # though a minimum of 150 noisy numbers is a lucky one
    joint, others = (sum(r.steps for of_size in records.values() for r in of_size) for records in (alone, many))
    assert joint < 0.5 * others


def test_a_box_that_binds_is_widened_and_searched_again_by_the_same_model() -> None:
    spec = quadratic(
        space={"lr": "log from 0.01 to 0.1", "momentum": 0.5},
        boundary={"max_rounds": 1, "trials": 5},
        confirm={"seeds": 0},
    )
    records = simulate(spec, WORKLOAD, workers=4)
    wider = [r for size in spec.batch_sizes for r in searched(records, size) if r.round == 1]
    assert wider and max(float(r.point["lr"]) for r in wider) > 0.1
    assert all(len([r for r in wider if r.batch_size == size]) in (0, 5) for size in spec.batch_sizes)


@pytest.mark.parametrize("failing", [pytest.param({32}, marks=pytest.mark.long), {16}, {8, 64}], ids=str)
def test_a_batch_size_that_fails_is_given_up_and_does_not_hold_up_the_others(failing: set[int]) -> None:
    class Failing:
        def begin(self, settings: Any) -> Any:
            if settings.batch_size in failing:
                raise RuntimeError("no such batch")
            return WORKLOAD.begin(settings)

    search = {"protocol": "joint", "trials": 14, "start": 10, "parallel_per_study": 4}
    records = simulate(quadratic(search=search), Failing(), workers=12, disorder=1)  # type: ignore[arg-type]
    assert rows(records) == rows(simulate(quadratic(search=search), Failing()))  # type: ignore[arg-type]
    for size in quadratic().batch_sizes:
        again = [r for r in records[size] if r.stage is Stage.CONFIRM]
        assert (
            (len(searched(records, size)) == 10 and not again)
            if size in failing
            else len(searched(records, size)) >= 14
        )


def test_where_many_run_at_once_the_longest_chain_of_trials_is_short_and_none_repeats_another() -> None:
    search = {"protocol": "joint", "trials": 8, "start": 10}
    ends, repeats = [], []
    for at_once in (1, 2):
        spec = quadratic(search={**search, "parallel_per_study": at_once}, batch_sizes=[4, 8, 16, 32, 64])
        records = simulate(spec, WORKLOAD, workers=10, disorder=None)
        ends.append(max(r.ended_at for found in records.values() for r in found))
        tied = [[searchable(r) for r in searched(records, size)] for size in spec.batch_sizes]
        repeats.append(sum(len(points) - len(set(points)) for points in tied))
        begun = {size: min(r.started_at for r in searched(records, size)) for size in spec.batch_sizes}
        assert (begun[4] == begun[8]) is (at_once > 1), "the smallest sizes wait for the middle alone"
    assert ends[1] < 0.9 * ends[0]
    assert repeats[0] > 0 == repeats[1]


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_few_trials_are_searched_at_every_batch_size(trials: int) -> None:
    spec = quadratic(search={"protocol": "joint", "trials": trials, "start": 4}, confirm={"seeds": 2, "points": 2})
    records = simulate(spec, WORKLOAD)
    assert [len(searched(records, size)) for size in spec.batch_sizes] == [spec.trials_at(b) for b in spec.batch_sizes]
    again = [r for found in records.values() for r in found if r.stage is Stage.CONFIRM]
    names = {r.trial_id for found in records.values() for r in found if r.stage is Stage.SEARCH}
    assert {r.repeats for r in again} <= names


def test_options_keep_their_own_dimensions_and_fixed_values() -> None:
    space = {
        "lr": "log from 0.01 to 10",
        "kind": {"plain": {"momentum": 0.0}, "heavy": {"momentum": "reverse_log from 0.5 to 0.99"}},
        "schedule": {"constant": {}, "cosine": {"end_factor": 0.1, "decay_fraction": "log from 0.05 to 1"}},
    }
    spec = quadratic(space=space, search={"protocol": "joint", "trials": 8, "start": 8})
    for size, found in simulate(spec, WORKLOAD).items():
        for record in found:
            assert spec.space_at(size).contains(spec.space_at(size).clip(record.point)), record.point
            assert all(
                spec.space_at(size).clip(record.point)[n] == v for n, v in record.point.items() if n not in spec.tied
            )


def test_a_tied_decay_ends_with_its_trial_wherever_its_box_ends_and_widens_none() -> None:
    schedule = {"linear": {"decay_fraction": "log from 0.5 to 1", "end_factor": 0.01}}
    space = {"lr": "log from 0.01 to 10", "momentum": "reverse_log from 0 to 0.99", "schedule": schedule}
    spec = quadratic(space=space, boundary={"max_rounds": 2})
    records = simulate(spec, WORKLOAD)
    trials = [(b, r) for b in records for r in searched(records, b)][spec.search.start :]
    decays = [float(in_updates(r.point, spec.budget.max_steps(b))["decay_steps"]) for b, r in trials]
    shares = [decay / r.max_steps for decay, (_, r) in zip(decays, trials, strict=True)]
    assert min(shares) > 0.65 and max(shares) < 1.3 and max(shares) - min(shares) > 0.3  # whole updates
    assert min(float(r.point["decay_fraction"]) for found in records.values() for r in found) < 0.25
    edges = [edge.touch.dimension for b in records for edge in study_state(spec, b, searched(records, b)).edges]
    assert not any("decay_fraction" in dimension for dimension in edges)


def test_a_widened_round_whose_first_trials_fail_ends_and_is_replayed() -> None:
    class FailsBeyond:
        def begin(self, settings: Any) -> Any:
            if settings.number("lr") > 0.1:
                raise RuntimeError("too high")
            return WORKLOAD.begin(settings)

    spec = quadratic(
        space={"lr": "log from 0.01 to 0.1", "momentum": 0.5},
        boundary={"max_rounds": 2, "trials": 14, "widen": 1.0},
        confirm={"seeds": 0},
    )
    records = simulate(spec, FailsBeyond(), workers=4, disorder=2)  # type: ignore[arg-type]
    assert rows(records) == rows(simulate(spec, FailsBeyond()))  # type: ignore[arg-type]
    states = [study_state(spec, b, searched(records, b)) for b in spec.batch_sizes]
    assert not any(state.searching for state in states) and any(state.round for state in states)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("joint", 20, 24, 1)),
        ({"search": {"trials": 30}, "confirm": {"points": 2}}, ("joint", 30, 24, 2)),
        ({"space": {"lr": "log from 0.01 to 10", "momentum": "reverse_log from 0 to 0.99"}}, ("joint", 20, 24, 1)),
        ({"space": {"lr": "log from 0.01 to 10"}, "optimizer": "sgd"}, ("tpe", 40, 12, 3)),
        ({"batch_sizes": [8, 16]}, ("tpe", 40, 12, 3)),
        ({"search": {"stopping": "full"}}, ("tpe", 40, 12, 3)),
        ({"workload": "tests.scripted:ExactHyperbola", "target": "loss < 1"}, ("tpe", 40, 12, 3)),
    ],
    ids=["choices", "given", "two dimensions", "one dimension", "two sizes", "full budgets", "code of the user's"],
)
def test_where_nothing_is_said_spaces_but_the_smallest_are_searched_jointly(
    changes: dict[str, Any], expected: tuple[str, int, int, int]
) -> None:
    spec = quadratic(**{"search": {}, "confirm": {}, **changes})
    assert (spec.search.protocol, spec.search.trials, spec.search.start, spec.confirm.points) == expected
    assert Experiment.model_validate(spec.to_dict()) == spec


def test_spaces_of_any_kind_are_searched() -> None:
    spec = scripted(search={"protocol": "joint"}, boundary={"max_rounds": 0})
    records = simulate(spec, ExactHyperbola(s_min=50, b_crit=64))
    assert isinstance(protocol_of(spec), JointProtocol)
    assert all(any(r.stage is Stage.CONFIRM for r in records[size]) for size in spec.batch_sizes)


def test_it_computes_in_one_thread_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    proposed = JointProtocol._proposed

    def looked(self: JointProtocol, *of: Any) -> Proposal:
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return proposed(self, *of)

    monkeypatch.setattr(JointProtocol, "_proposed", looked)
    with threadpool_limits(2):
        assert JointProtocol(quadratic()).next_trial({}, ()) is not None
    assert set(seen) == {1}
