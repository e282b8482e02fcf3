"""Warm starts: the runs are those that a plain loop makes, kept once, and measured as everything else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from bcrit.analysis.questions.landscape.result import WarmStarts
from bcrit.analysis.records.run_folder import CHECKPOINTS, RunFolder
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.landscape.measure import Options, Rows, measure
from bcrit.tuner.landscape.wanted import Wanted, winners
from bcrit.tuner.landscape.warm_start import Bench, compared_by, iterates, warm_starts
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from tests.tuner.landscape.small import Blobs, experiment

SPEC = experiment()
OPTIONS = Options(seeds=2, eps=(1e-3, 5e-4), subspace=0, iterations=3, warm_starts=3)
WORKLOAD = Blobs()
ROWS = Rows(WORKLOAD.sample("train", 64, 0), WORKLOAD.sample("validation", 32, 0))


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(complete, tmp_path / "run")
    return RunFolder.at(tmp_path / "run")


@pytest.fixture
def networks(folder: RunFolder) -> tuple[Wanted, ...]:
    """Those of the run, but that tuning found another learning rate for the large batch, which chance did not."""
    found = winners(folder.read(TRIALS).to_pylist(), SPEC, 2, 0.0).networks
    return tuple(with_lr(n, 0.3) if n.tuned and n.settings.batch_size == 16 else n for n in found)


def with_lr(wanted: Wanted, lr: float) -> Wanted:
    hyperparameters = {**wanted.settings.hyperparameters, "lr": lr}
    return dataclasses.replace(wanted, settings=dataclasses.replace(wanted.settings, hyperparameters=hyperparameters))


def made(networks: tuple[Wanted, ...], folder: RunFolder, options: Options = OPTIONS) -> WarmStarts:
    found = warm_starts(networks, Bench(WORKLOAD, SPEC, folder, ROWS, options), lambda line: None)
    assert found is not None
    return found


def settings(networks: tuple[Wanted, ...], batch_size: int, tuned: bool, number: int) -> Settings:
    kinds = {(n.settings.batch_size, n.tuned, n.number): n.settings for n in networks}
    return kinds[batch_size, tuned, number]


def test_every_iterate_has_the_small_batch_and_both_kinds_of_the_large_one(
    networks: tuple[Wanted, ...], folder: RunFolder
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


def test_the_weights_are_those_of_a_loop_written_out(networks: tuple[Wanted, ...], folder: RunFolder) -> None:
    found = made(networks, folder)
    small = settings(networks, 4, True, 1)
    run = WORKLOAD.begin(small)
    run.train(16)
    weights = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    [_, state] = found.of("small", 16)
    assert state.last == dict(run.evaluate()) == state.best
    for kind, tuned in (("tuned", True), ("un-tuned", False)):
        large = WORKLOAD.begin(settings(networks, 16, tuned, 1))
        large.model.load_state_dict(weights)
        losses = [large.evaluate()["val_loss"]]
        for _ in range(37):  # epochs of four updates, and half an epoch
            large.train(4)
            losses.append(large.evaluate()["val_loss"])
        large.train(2)
        [_, state] = found.of(kind, 16)  # type: ignore[arg-type]
        assert state.last == dict(large.evaluate())
        assert state.best["val_loss"] == min(*losses, large.evaluate()["val_loss"])
        fresh = torch.cat([p.detach().reshape(-1) for p in WORKLOAD.begin(small).model.parameters()])
        end = torch.cat([p.detach().reshape(-1) for p in large.model.parameters()])
        assert state.weight_distance == pytest.approx(float((end - fresh).norm()), rel=1e-6)
        numbers = measure(large.model.eval(), WORKLOAD, ROWS, OPTIONS, SPEC.seed)
        assert (state.train_loss, state.sharpness) == (numbers["train_loss"], numbers["rises"][0].value)


def test_a_second_call_trains_nothing_and_a_lost_file_is_made_again(
    networks: tuple[Wanted, ...], folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = SupervisedRun.train

    def counted(run: SupervisedRun, steps: int) -> None:
        trained.append(steps)
        train(run, steps)

    monkeypatch.setattr(SupervisedRun, "train", counted)
    first = made(networks, folder)
    trained.clear()
    assert made(networks, folder) == first and trained == []
    seed = settings(networks, 4, True, 0).seed
    lost = Path(folder.location) / CHECKPOINTS / f"b0000004-warm-{seed:010d}-000000016.pt"
    lost.unlink()
    assert made(networks, folder) == first and trained == [16]


def test_weights_that_overflow_have_a_problem_and_nobody_starts_from_them(
    networks: tuple[Wanted, ...], folder: RunFolder
) -> None:
    broken = tuple(with_lr(n, 1e39) if n.settings.batch_size == 4 else n for n in networks)
    found = made(broken, folder)
    for steps in (16, 150):
        assert [s.problem for s in found.states if s.small_steps == steps] == ["its weights are not finite"] * 2
        assert [s.last["val_loss"] for s in found.of("small", steps)] == [None, None]
    assert all(s.problem is None and s.sharpness is not None for s in found.of("tuned", 0))


def test_one_batch_size_has_no_warm_starts(networks: tuple[Wanted, ...], folder: RunFolder) -> None:
    alone = tuple(n for n in networks if n.settings.batch_size == 16)
    assert warm_starts(alone, Bench(WORKLOAD, SPEC, folder, ROWS, OPTIONS), lambda line: None) is None


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
