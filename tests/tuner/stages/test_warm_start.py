"""Warm starts: the runs are those that a plain loop makes, kept once, and measured as everything else."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from bcrit.analysis.questions.landscape.result import WarmStarts
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.dispatch import settings_of
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.stages.landscape import winners
from bcrit.tuner.stages.measure import Bench, Options, flat, measure
from bcrit.tuner.stages.warm_starts import _problem, compared_by, iterates, warm_starts
from tests.tuner.stages.small import Blobs, InProcess, experiment

SPEC = experiment()
OPTIONS = Options(seeds=2, eps=(1e-3, 5e-4), subspace=0, iterations=3, warm_starts=3)
WORKLOAD = Blobs()
Networks = list[tuple[bool, Proposal]]


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(complete, tmp_path / "run")
    return RunFolder.at(tmp_path / "run")


@pytest.fixture
def networks(folder: RunFolder) -> Networks:
    """Those of the run, but that tuning found another learning rate for the large batch, which chance did not."""
    found = [(w.tuned, w.proposal) for w in winners(folder.read(TRIALS).to_pylist(), SPEC, 2).networks]
    return [(tuned, with_lr(p, 0.3) if tuned and p.batch_size == 16 else p) for tuned, p in found]


def bench(folder: RunFolder) -> Bench:
    parts = WORKLOAD.sample("train", 64, 0), WORKLOAD.sample("validation", 32, 0)
    return Bench(WORKLOAD, SPEC, folder, OPTIONS, 0.0, *parts)


def with_lr(proposal: Proposal, lr: float) -> Proposal:
    return dataclasses.replace(proposal, point={**proposal.point, "lr": lr})


def made(networks: Networks, folder: RunFolder, train: InProcess | None = None) -> WarmStarts:
    found = warm_starts(networks, bench(folder), train or InProcess(folder), lambda line: None)
    assert found is not None
    return found


def test_every_iterate_has_the_small_batch_and_both_kinds_of_the_large_one(
    networks: Networks, folder: RunFolder
) -> None:
    found = made(networks, folder)
    assert found.starts == [0, 16, 150] and (found.small, found.large, found.metric) == (4, 16, "val_accuracy")
    assert (found.large_epochs, found.eps, found.n_training_set) == (150 * 16 / 64, 1e-3, 64)
    kinds = [(s.number, s.small_steps, s.kind, s.large_steps) for s in found.states]
    assert kinds == [
        (number, steps, kind, large)
        for number in range(2)
        for steps in found.starts
        for kind, large in (("small", 0), ("tuned", 150), ("un-tuned", 150))
    ]
    assert [found.epochs(state) for state in found.of("small", 16)] == [1.0, 1.0]


def test_the_weights_are_those_of_a_loop_written_out(networks: Networks, folder: RunFolder) -> None:
    found = made(networks, folder)
    kinds = {(p.batch_size, tuned, p.number): settings_of(p, SPEC, 0.0) for tuned, p in networks}
    small = kinds[4, True, 1]
    run = WORKLOAD.begin(small)
    run.train(16)
    weights = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    [_, state] = found.of("small", 16)
    assert state.last == dict(run.evaluate()) == state.best
    for kind, tuned in (("tuned", True), ("un-tuned", False)):
        large = WORKLOAD.begin(kinds[16, tuned, 1])
        large.model.load_state_dict(weights)
        losses = [large.evaluate()["val_loss"]]
        for more in [1] * 100 + [2] * 25:  # the evaluation grid: every update, then every second one
            large.train(more)
            losses.append(large.evaluate()["val_loss"])
        [_, state] = found.of(kind, 16)  # type: ignore[arg-type]
        assert state.last == dict(large.evaluate()) and state.best["val_loss"] == min(losses)
        away = flat(large.model) - flat(WORKLOAD.begin(small).model)
        assert state.weight_distance == pytest.approx(float(away.norm()), rel=1e-6)
        numbers = measure(large.model.eval(), bench(folder))
        assert (state.train_loss, state.sharpness) == (numbers["train_loss"], numbers["rises"][0].value)


def test_a_second_call_trains_nothing(networks: Networks, folder: RunFolder) -> None:
    first, again = made(networks, folder), InProcess(folder)
    assert made(networks, folder, again) == first and again.trained == []


def test_weights_that_overflow_have_a_problem_and_nobody_starts_from_them(
    networks: Networks, folder: RunFolder
) -> None:
    broken = [(tuned, with_lr(p, 1e39) if p.batch_size == 4 else p) for tuned, p in networks]
    found = made(broken, folder)
    for steps in (16, 150):
        assert [s.problem for s in found.states if s.small_steps == steps] == ["its weights are not finite"] * 2
        assert [s.last["val_loss"] for s in found.of("small", steps)] == [None, None]
    assert all(s.problem is None and s.sharpness is not None for s in found.of("tuned", 0))


def test_one_batch_size_has_no_warm_starts(networks: Networks, folder: RunFolder) -> None:
    alone = [(tuned, p) for tuned, p in networks if p.batch_size == 16]
    train = InProcess(folder)
    assert warm_starts(alone, bench(folder), train, lambda line: None) is None and train.trained == []


@pytest.mark.parametrize(
    ("whole", "epoch", "count", "expected"),
    [
        (10_000, 100, 2, [0, 10_000]),
        (10_000, 100, 3, [0, 100, 10_000]),
        (10_000, 100, 4, [0, 100, 1000, 10_000]),
        (80, 100, 5, [0, 10, 20, 40, 80]),
        (3, 100, 6, [0, 1, 2, 3]),
        (1, 1, 9, [0, 1]),
    ],
    ids=["both ends", "an epoch too", "equal factors", "less than an epoch", "few updates", "one update"],
)
def test_iterates_are_the_start_and_equal_factors_to_the_end(
    whole: int, epoch: int, count: int, expected: list[int]
) -> None:
    assert iterates(whole, epoch, count) == expected


def test_networks_are_compared_by_an_accuracy_where_there_is_one() -> None:
    class Regression(Blobs):
        metrics = {"val_error": "minimize", "val_bias": "minimize"}  # type: ignore[dict-item]

    assert (compared_by(Blobs()), compared_by(Regression())) == ("val_accuracy", "val_error")


@pytest.mark.parametrize(
    ("outcome", "steps", "said"),
    [
        ("exhausted", 500, None),
        ("reached", 500, None),
        ("reached", 10, "it ended after 10 of 500 updates: val_loss became nan"),
        ("failed", 500, "it ended after 500 of 500 updates: val_loss became nan"),
    ],
)
def test_a_run_that_did_not_come_to_its_end_is_a_problem(outcome: str, steps: int, said: str | None) -> None:
    """It may have reached the target before, and nobody goes on from it."""
    row = {"outcome": outcome, "steps": steps, "max_steps": 500, "message": "val_loss became nan"}
    assert _problem(row) == said
