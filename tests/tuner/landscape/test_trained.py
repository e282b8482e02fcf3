"""Weights: trained once as the record says, read ever after, made again where they do not fit."""

from __future__ import annotations

import dataclasses
import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.landscape import trained as module
from bcrit.tuner.landscape.trained import Trained, difference, last_value, trained
from bcrit.tuner.landscape.wanted import Wanted, winners
from tests.tuner.landscape.small import Blobs, experiment

SPEC = experiment()


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(complete, tmp_path / "run")
    return RunFolder.at(tmp_path / "run")


@pytest.fixture
def wanted(folder: RunFolder) -> Wanted:
    return winners(folder.read(TRIALS).to_pylist(), SPEC, 1, 0.0).networks[0]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is trained."""
    seen: list[str] = []
    train = module._train

    def watched(wanted: Wanted, *others: object) -> dict[str, object]:
        seen.append(wanted.name)
        return train(wanted, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_train", watched)
    return seen


def have(wanted: Wanted, folder: RunFolder) -> Trained:
    return trained(wanted, Blobs(), SPEC, folder)


def weights(made: Trained) -> list[torch.Tensor]:
    return [p.detach() for p in made.model.parameters()]


def test_the_recorded_curve_comes_back_to_the_bit(folder: RunFolder, wanted: Wanted) -> None:
    rows = folder.select(MEASUREMENTS, ["trial_id", "step", "val_loss"], {wanted.name}).to_pylist()
    made = have(wanted, folder)
    assert made.curve == tuple(sorted((row["step"], row["val_loss"]) for row in rows))
    assert made.outcome == "reached" and made.steps == made.curve[-1][0]


def test_the_weights_are_those_of_the_step_at_the_target(folder: RunFolder, wanted: Wanted) -> None:
    made, run = have(wanted, folder), Blobs().begin(wanted.settings)
    start = torch.cat([p.detach().reshape(-1) for p in run.model.parameters()])
    run.train(made.steps)
    assert all(torch.equal(a, b) for a, b in zip(weights(made), run.model.parameters(), strict=True))
    end = torch.cat([p.detach().reshape(-1) for p in run.model.parameters()])
    assert made.weight_distance == pytest.approx(float((end - start).norm()), rel=1e-6)
    assert made.weight_norm == pytest.approx(float(end.norm()), rel=1e-6) and made.n_weights == len(end)
    assert not made.model.training


def test_a_second_call_reads_the_same_weights_and_trains_nothing(
    folder: RunFolder, wanted: Wanted, runs: list[str]
) -> None:
    first, second = have(wanted, folder), have(wanted, folder)
    assert runs == [wanted.name] and (first.read, second.read) == (False, True)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    assert dataclasses.replace(first, model=second.model, read=True) == second


def flipped(content: bytes) -> bytes:
    """One bit of one weight is another."""
    weight = next(iter(torch.load(io.BytesIO(content), weights_only=True)["weights"].values()))
    place = content.index(weight.numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def reshaped(content: bytes) -> bytes:
    stored = torch.load(io.BytesIO(content), weights_only=True)
    stored["weights"] = {name: weight[:1] for name, weight in stored["weights"].items()}
    sink = io.BytesIO()
    torch.save(stored, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:100], flipped, reshaped],
    ids=["cut off", "one bit flipped", "other architecture"],
)
def test_a_checkpoint_that_does_not_fit_is_made_again(
    folder: RunFolder, wanted: Wanted, runs: list[str], spoil: Callable[[bytes], bytes]
) -> None:
    first = have(wanted, folder)
    folder.write_bytes(first.checkpoint, spoil(folder.read_bytes(first.checkpoint)))
    again = have(wanted, folder)
    assert runs == [wanted.name] * 2 and not again.read
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))


def test_other_settings_are_another_network(folder: RunFolder, wanted: Wanted, runs: list[str]) -> None:
    have(wanted, folder)
    have(dataclasses.replace(wanted, settings=dataclasses.replace(wanted.settings, seed=99)), folder)
    assert runs == [wanted.name] * 2


def test_a_target_of_averaged_weights_means_the_average(folder: RunFolder, wanted: Wanted) -> None:
    settings = dataclasses.replace(wanted.settings, hyperparameters={"lr": 0.3, "ema_decay": 0.9})
    averaged = experiment(target="val_loss_ema < 0.3", space={"lr": 0.3, "ema_decay": 0.9})
    made = trained(dataclasses.replace(wanted, settings=settings), Blobs(), averaged, folder)
    run = Blobs().begin(settings)
    run.train(made.steps)
    assert run.average is not None
    assert all(torch.equal(a, b) for a, b in zip(weights(made), run.average.parameters(), strict=True))
    assert not torch.equal(weights(made)[0], next(run.model.parameters()))


def test_a_run_that_cannot_begin_says_why(folder: RunFolder, wanted: Wanted) -> None:
    settings = dataclasses.replace(wanted.settings, optimizer="no_such")
    with pytest.raises(ValueError, match="no_such"):
        trained(dataclasses.replace(wanted, settings=settings), Blobs(), SPEC, folder)


def test_the_difference_of_curves_is_the_largest_relative_one() -> None:
    assert difference(((0, 1.0), (5, math.nan)), ((0, 1.0), (5, math.nan))) == 0
    assert difference(((0, 1.0), (5, 0.5), (6, 9.0)), ((0, 1.0), (5, 0.4))) == pytest.approx(0.25)
    assert difference(((0, math.nan),), ((0, 1.0),)) == math.inf
    assert difference(((1, 1.0),), ((0, 1.0),)) == math.inf


def test_a_curve_ends_in_a_number_or_in_none() -> None:
    assert last_value(((0, 1.0), (3, 0.5))) == 0.5
    assert last_value(((0, math.inf),)) is None and last_value(()) is None
