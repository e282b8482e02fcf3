"""The parts of an experiment: budgets in steps, examples and epochs, and numbers that are numbers."""

from typing import Any

import pytest
from pydantic import ValidationError

from bcrit.search_spaces.options import Budget, Confirm, Probes, Search
from bcrit.search_spaces.resources import Resources
from tests.search_spaces.declared import problems

SIZES = (16, 100, 128, 1024)


def steps(budget: Budget) -> list[int]:
    return [budget.max_steps(batch_size) for batch_size in SIZES]


def test_epochs_are_examples_once_the_training_set_is_known() -> None:
    budget = Budget(steps=7, epochs=2.5).resolved(1000)
    assert (budget.epochs, budget.examples) == (2.5, 2500)
    assert steps(budget) == steps(Budget(steps=7, examples=2500)) == [7 + 156, 7 + 25, 7 + 19, 7 + 2]
    assert budget.resolved(1000) == budget


def test_a_budget_without_epochs_needs_no_training_set() -> None:
    assert Budget(steps=3).resolved(1000) == Budget(steps=3)


def test_epochs_are_no_number_of_steps_before_the_training_set_is_known() -> None:
    with pytest.raises(ValueError, match="in epochs has no steps before `resolved`"):
        Budget(epochs=3).max_steps(8)


def test_epochs_and_examples_must_agree() -> None:
    with pytest.raises(ValueError, match="2 epochs of 1000 are 2000 and examples=1999; keep one"):
        Budget(epochs=2, examples=1999).resolved(1000)


def test_with_regime_adaptation_every_batch_size_has_the_updates_of_the_reference() -> None:
    budget = Budget(epochs=20, regime_adaptation=128).resolved(1437)
    assert steps(budget) == [20 * 1437 // 128] * 4
    # Hoffer et al. 2017 train ceil(B / 128) times the epochs at B: where 128 divides B, that is our number of updates.
    hoffer = [
        Budget(epochs=20 * (batch_size // 128)).resolved(1437).max_steps(batch_size) for batch_size in (128, 1024)
    ]
    assert hoffer == [budget.max_steps(128), budget.max_steps(1024)]
    assert Budget(epochs=20).resolved(1437).max_steps(128) == budget.max_steps(128)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "needs 'steps', 'examples' or 'epochs', greater than 0"),
        ({"epochs": 0}, "'budget.epochs' must be greater than 0"),
        ({"epochs": True}, "'budget.epochs': a number is needed here, but it is true"),
        ({"epochs": "many"}, "'budget.epochs' must be a number, but it is 'many'"),
        ({"steps": 100, "regime_adaptation": 128}, "the same at every batch size already; remove it, or give epochs"),
        ({"epochs": 1, "regime_adaptation": 0}, "'budget.regime_adaptation' must be at least 1"),
    ],
    ids=str,
)
def test_an_impossible_budget_is_refused(budget: dict[str, Any], message: str) -> None:
    assert message in "; ".join(problems(budget=budget))


def test_a_list_of_probes_is_short_for_what_they_measure() -> None:
    assert Probes.model_validate(["weight_distance"]) == Probes(measure=("weight_distance",))
    assert Probes().measure == ()


def test_a_probe_stands_once() -> None:
    with pytest.raises(ValueError, match="each probe stands once; remove the repeated one"):
        Probes.model_validate(["noise_scale", "noise_scale"])


def test_without_re_runs_nothing_trains_beyond_the_target() -> None:
    with pytest.raises(ValidationError, match="'beyond_target' lets re-runs train on, but 'seeds' is 0; give it seeds"):
        Confirm(seeds=0, beyond_target=True)


def test_trials_of_a_study_at_once_are_a_number_or_left_to_the_run() -> None:
    assert Search().parallel_per_study == "auto" and Search().at_once == 2
    assert Search(parallel_per_study=5).at_once == 5


@pytest.mark.parametrize("value", [0, "many", 2.5, True, None], ids=str)
def test_trials_of_a_study_at_once_are_nothing_else(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"it must be 'auto' or a whole number of at least 1, but it is"):
        Search(parallel_per_study=value)


def test_a_kind_of_devices_needs_devices() -> None:
    with pytest.raises(ValidationError, match="'accelerator_type' is of GPUs, but gpus=0; write gpus: 1, or leave out"):
        Resources(accelerator_type="H100")
    assert Resources(gpus=1, accelerator_type="H100").kind == "accelerator_type:H100" and Resources(gpus=1).kind is None


def test_large_batches_have_more_devices_and_what_is_said_for_each_stays() -> None:
    said = {128: 2, 4096: 8}
    gpus = Resources(gpus=1, cpus=4, accelerator_type="H100", devices_by_batch_size=said)
    found = [(of.gpus, of.cpus, of.processes, of.ranks) for of in map(gpus.at, (64, 128, 2048, 4096, 9999))]
    assert found == [(1, 4, None, 1), (2, 8, None, 2), (2, 8, None, 2), (8, 32, None, 8), (8, 32, None, 8)]
    cpus = Resources(cpus=2, processes=2, devices_by_batch_size=said).at(4096)
    assert (cpus.gpus, cpus.cpus, cpus.processes, cpus.threads, cpus.devices) == (0, 8, 8, 1, 8)
    ranks = Resources(gpus=1, processes=1, devices_by_batch_size=said).at(4096)
    assert (ranks.gpus, ranks.processes) == (8, 8) and ranks.devices_by_batch_size is None
    assert Resources(gpus=0.25, cpus=1, devices_by_batch_size=said).at(4096).cpus == 8


def test_custom_resources_are_not_those_that_have_keys_of_their_own() -> None:
    assert Resources(custom={"TPU": 4}).wanted == {"CPU": 1, "TPU": 4} and Resources(custom={}).custom is None
    with pytest.raises(ValidationError, match="'GPU' is no custom resource of Ray; write cpus, gpus or"):
        Resources(custom={"GPU": 1})
    with pytest.raises(ValidationError, match="in whole numbers, or gives a share of 1, but 'TPU' is 1.5"):
        Resources(custom={"TPU": 1.5})


def test_what_is_said_of_resources_is_of_each_node() -> None:
    two = Resources(gpus=4, cpus=8, nodes=2)
    assert (two.ranks, two.threads, two.devices, two.wanted) == (8, 2, 8, {"CPU": 8, "GPU": 4})
    assert (Resources(nodes=3).ranks, Resources(nodes=1).ranks, Resources(nodes=1, gpus=2).at(64).devices) == (3, 1, 2)


def test_devices_of_batch_sizes_fill_whole_machines_beyond_one() -> None:
    two = Resources(gpus=4, cpus=8, nodes=2, devices_by_batch_size={1: 1, 64: 4, 256: 8})
    found = [(of.gpus, of.cpus, of.nodes, of.ranks, of.devices) for of in map(two.at, (8, 64, 256))]
    assert found == [(1, 2, None, 1, 1), (4, 8, None, 4, 4), (4, 8, 2, 8, 8)]
    two = Resources(nodes=2, devices_by_batch_size={64: 2})
    assert (two.at(64).nodes, two.at(64).processes, two.at(64).cpus) == (2, 1, 1)
    for number in (6, 12):
        with pytest.raises(ValidationError, match=f"of 2 with 4 devices each {number} are not some; write a multiple"):
            Resources(gpus=4, nodes=2, devices_by_batch_size={64: number})


AUTO: dict[str, tuple[dict[str, Any], dict[int, int]]] = {
    "one machine": ({"gpus": 8}, {1: 1, 1024: 2, 4096: 8}),
    "two machines": ({"gpus": 8, "nodes": 2}, {1: 1, 1024: 4, 4096: 16}),
    "parts of a machine divide it": ({"gpus": 6, "nodes": 2}, {1: 1, 1024: 3, 4096: 12}),
    "processes": ({"processes": 2, "cpus": 2}, {1: 1, 4096: 2}),
}


@pytest.mark.parametrize(("given", "expected"), AUTO.values(), ids=AUTO)
def test_no_device_has_a_smaller_share_than_one_of_the_largest_batch(
    given: dict[str, Any], expected: dict[int, int]
) -> None:
    auto = Resources(**given, devices_by_batch_size="auto")
    settled = auto.settled((64, 256, 1024, 4096), lambda size, devices: True)
    assert settled.devices_by_batch_size == expected and settled.settled((8,), lambda *_: False) == settled
    assert Resources.model_validate(settled.model_dump(mode="json")) == settled
    with pytest.raises(ValueError, match="has no numbers before the experiment is checked"):
        auto.at(64)


def test_what_a_batch_cannot_be_shared_by_is_passed_over_but_at_the_largest() -> None:
    auto = Resources(gpus=8, devices_by_batch_size="auto")
    found = auto.settled((1000, 1500, 3000), lambda size, devices: size % devices == 0)
    assert found.devices_by_batch_size == {1: 1, 1000: 2, 1500: 4, 3000: 8}


@pytest.mark.parametrize("given", ["many", {64: 0}, {"x": 2}, {64: 2.5}, 3, True], ids=str)
def test_devices_of_batch_sizes_are_nothing_else(given: Any) -> None:
    with pytest.raises(ValidationError, match=r"1 valid(.|\n)*it must be 'auto', or numbers of devices \(1 to"):
        Resources(gpus=8, devices_by_batch_size=given)
    with pytest.raises(ValidationError, match="shares out what the other keys give the largest batch size, which is"):
        Resources(gpus=1, devices_by_batch_size="auto")
