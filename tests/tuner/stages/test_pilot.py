"""A pilot of a tiny classifier, trained for real: from the experiment to the study that it proposes."""

import os
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bcrit.analysis.questions.pilot import Pilot
from bcrit.analysis.questions.pilot.study import hint
from bcrit.analysis.run import Run
from bcrit.search_spaces.dimensions import Fixed
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.tuner.check import check_experiment
from bcrit.tuner.stages.pilot import Plan, middle, pilot_point, plan, proposed, read, timing
from bcrit.tuner.training.settings import Settings
from tests.tuner.stages.small import Blobs, filled

HERE = "tests.tuner.stages.test_pilot"
DATA: dict[str, Any] = {
    "workload": "tests.tuner.stages.small:Blobs",
    "optimizer": "sgd",
    "batch_sizes": [2, 4, 8, 16],
    "target": "val_loss < 0.3",
    "space": {"lr": "log from 0.01 to 2"},
    "budget": {"steps": 200},
    "seed": 3,
}


class Normalised(Blobs):
    def model(self, settings: Settings) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


class Picky(Blobs):
    """Cannot make odd batches, and fails at 16."""

    def rows(self, batch_size: int) -> int:
        if batch_size % 2:
            raise ValueError("odd")
        return batch_size

    def begin(self, settings: Settings) -> Any:
        if settings.batch_size == 16:
            raise RuntimeError("16 is no good")
        return super().begin(settings)


def planned(batch_size: int | None = None, n_seeds: int = 3, **more: Any) -> Plan:
    data = {**DATA, **more}
    return plan(check_experiment(data, "x.yaml"), data, "x.yaml", batch_size, n_seeds)


def ran(folder: Path, batch_size: int | None = None, n_seeds: int = 1, **more: Any) -> Pilot:
    of = planned(batch_size, n_seeds, **more)
    found = read(of, Run(filled(folder / "run", of.search)))
    if found.measured.steps is None:
        return found
    return proposed(of, found, Run(filled(folder / "timing", timing(of, found))), None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Pilot:
    return ran(tmp_path_factory.mktemp("pilot"), n_seeds=3)


def test_the_best_rate_is_run_on_every_seed_with_its_noise(found: Pilot) -> None:
    measured = found.measured
    reached = [one for one in measured.tried if one.steps_to_target is not None]
    assert measured.batch_size == 4 and len(measured.tried) >= 7
    assert measured.lr == min(reached, key=lambda one: one.steps_to_target or 0).lr
    assert len(measured.steps_each) == 3 and measured.steps in measured.steps_each
    assert measured.simple.n == 3 and measured.scales is not None and measured.evaluate_seconds > 0


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
    assert proposal.cost.workers == min(os.cpu_count() or 1, 2 * len(found.grid.batch_sizes))
    assert all(timing.step_seconds is not None and 0 < timing.step_seconds < 1 for timing in proposal.timings)


def test_what_it_took_is_counted(found: Pilot) -> None:
    tried = sum(one.steps for one in found.measured.tried)
    seeds = sum(steps or 0 for steps in found.measured.steps_each)
    assert found.spent.steps == tried + seeds + sum(16 + 16 * 4 // b for b in found.grid.batch_sizes)
    assert 0 < found.spent.probe_seconds < found.spent.seconds


def test_a_target_that_is_not_reached_leaves_no_proposal(tmp_path: Path) -> None:
    found = ran(tmp_path, n_seeds=2, target="val_loss < 0.00001", budget={"steps": 20})
    assert found.proposal is None and found.measured.steps is None and found.measured.steps_each == ()
    assert found.spent.steps == sum(one.steps for one in found.measured.tried)


def test_the_end_of_the_box_is_noticed(tmp_path: Path) -> None:
    assert ran(tmp_path, space={"lr": "log from 0.001 to 0.05"}).measured.edge == "high"


def test_a_fixed_learning_rate_is_kept(tmp_path: Path) -> None:
    found = ran(tmp_path, batch_size=8, space={"lr": 0.5})
    assert found.proposal is not None and found.proposal.box is None and found.measured.edge is None
    assert found.proposal.data["space"] == {"lr": 0.5} and found.measured.batch_size == 8
    assert len(found.measured.tried) == 1 and found.measured.simple.low is None


def test_a_batch_size_at_which_training_fails_has_no_time(tmp_path: Path) -> None:
    found = ran(tmp_path, workload=f"{HERE}:Picky", space={"lr": 0.5})
    assert found.proposal is not None and found.proposal.cost.hours is None and 1 in found.grid.left_out
    problems = {timing.batch_size: timing.problem for timing in found.proposal.timings}
    assert problems.pop(16) == "RuntimeError: 16 is no good" and not any(problems.values())


@pytest.mark.parametrize(
    ("workload", "more", "why"),
    [
        (f"{HERE}:Normalised", {}, r"BatchNorm1d\) normalises with the statistics of the batch.*by hand"),
        (
            "noisy_quadratic",
            {"target": "risk < 3", "space": {"lr": "log from 0.05 to 0.5"}},
            "'noisy_quadratic' cannot be measured: it computes its updates itself",
        ),
        ("examples.my_function:train", {"optimizer": "own", "target": "val_loss < 1"}, "computes its updates itself"),
    ],
    ids=["batch norm", "noisy quadratic", "function"],
)
def test_a_workload_without_gradients_of_single_examples_is_piloted_without_noise(
    workload: str, more: dict[str, Any], why: str
) -> None:
    of = planned(workload=workload, **more)
    assert of.search.probes.measure == () and of.search.confirm.seeds == (1 if workload == "noisy_quadratic" else 3)
    with pytest.raises(AssertionError, match=why):
        assert of.no_noise == ""


@pytest.mark.parametrize(
    ("sizes", "n", "wanted"),
    [
        ([4, 8, 16, 32, 64, 128, 256, 512, 1024], 1437, 64),
        ([8, 1024], None, 8),
        ([8, 16, 32, 64], 100, 8),
        ([64, 128], 100, 64),
        ([7], None, 7),
    ],
    ids=str,
)
def test_the_middle_is_geometric_and_far_from_the_whole_training_set(
    sizes: list[int], n: int | None, wanted: int
) -> None:
    assert middle(sizes, n) == wanted


def test_the_search_is_over_the_learning_rate_alone() -> None:
    space = {
        "lr": "log from 0.01 to 1",
        "momentum": "reverse_log from 0 to 0.99",
        "schedule": {"linear": {"decay_fraction": 0.25, "end_factor": "log from 0.01 to 1"}},
    }
    spec = planned(optimizer="momentum", space=space, centre={"rule": "linear", "batch_size": 8}).search
    assert spec.batch_sizes == (4,) and spec.name == "experiment-pilot"
    assert (spec.space.box("lr").low, spec.space.box("lr").high) == (0.005, 0.5)  # the box as it stands there
    assert spec.space.root["momentum"] == Fixed(value=0.9)
    assert [address for address in spec.space.axes if address != "schedule"] == ["lr"]
    [factor] = [d for address, d in spec.space.dimensions.items() if address == "schedule.linear.end_factor"]
    assert isinstance(factor, Fixed) and factor.value == pytest.approx(0.1)
    assert spec.centre.rule == "none" and spec.search.trials == 8 and spec.search.parallel_per_study == 2
    assert (spec.confirm.points, spec.confirm.seeds, spec.probes.per_decade) == (1, 3, 2)


@pytest.mark.parametrize(
    ("lr", "trials", "low"),
    [
        (0.3, 1, None),
        ("log from 0.1 to 0.11", 5, 0.1),
        ("linear from 0.01 to 1", 8, 0.01),
        ("log from 0.01 to 10", 10, 0.01),
    ],
    ids=str,
)
def test_there_are_as_many_rates_as_the_box_is_wide(lr: float | str, trials: int, low: float | None) -> None:
    spec = planned(space={"lr": lr}).search
    assert spec.search.trials == trials
    assert low is None or (spec.space.box("lr").low, spec.space.box("lr").model_dump()["scale"]) == (low, "log")


def test_there_must_be_one_learning_rate() -> None:
    kinds = {kind: {"lr": "log from 0.01 to 1"} for kind in ("past", "gaussian")}
    space = {"extrapolation": kinds, "extrapolation_lr": 0.1, "local_batch_size": 2}
    with pytest.raises(InputError, match="must stand in 'space' itself, but 'lr' stands under the options"):
        planned(optimizer="extrap_sgd", space=space)
    function: dict[str, Any] = {"workload": "examples.my_function:train", "optimizer": "own", "target": "val_loss < 1"}
    with pytest.raises(InputError, match="must stand in 'space' itself, but 'space' has no 'lr'; add it"):
        planned(**function, space={"momentum": 0.9})


def test_local_batches_must_divide_the_batch_and_the_workload_must_make_it() -> None:
    space = {"lr": 0.1, "extrapolation_lr": 0.1, "local_batch_size": 6}
    of = planned(optimizer="extrap_sgd", space=space, batch_sizes=[6, 12])
    assert [b for b in (3, 4, 6, 8, 12) if of.fits(b)] == [3, 4, 6, 12]
    assert not planned(workload=f"{HERE}:Picky").fits(7)


def space(**dimensions: Any) -> SearchSpace:
    given = {"lr": "log from 0.01 to 10", "momentum": 0.5, **dimensions}
    return Experiment.model_validate({**DATA, "optimizer": "momentum", "space": given}).space


@pytest.mark.parametrize(
    ("momentum", "value"),
    [
        ("reverse_log from 0 to 0.99", 0.9),
        ("linear from 0 to 0.8", 0.8),
        ("reverse_log from 0.95 to 0.999", 0.95),
        (0.3, 0.3),
    ],
    ids=str,
)
def test_momentum_is_0_9_as_far_as_its_box_goes(momentum: str | float, value: float) -> None:
    assert pilot_point(space(momentum=momentum))["momentum"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("schedule", "option"),
    [("choice of linear, cosine, constant", "constant"), ("choice of linear, cosine", "cosine"), ("linear", "linear")],
    ids=str,
)
def test_the_schedule_is_constant_where_it_can_be(schedule: str, option: str) -> None:
    whole = space(schedule=schedule)
    point = pilot_point(whole)
    assert point["schedule"] == option and whole.contains(point)


def test_everything_else_stands_in_the_middle_of_its_scale() -> None:
    point = pilot_point(space(weight_decay="log from 0.0001 to 0.01", ema_decay="linear from 0 to 0.9"))
    assert [point["weight_decay"], point["ema_decay"]] == pytest.approx([0.001, 0.45])
