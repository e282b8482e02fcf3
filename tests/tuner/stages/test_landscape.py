"""The landscape of whole runs: complete, unfinished, without winners, and such as cannot be measured."""

import io
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import torch

from bcrit.analysis.questions.landscape.result import Landscape, Network
from bcrit.analysis.records.run_folder import LANDSCAPE, RunFolder
from bcrit.analysis.run import Run as analysed
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.checkpoints import kept
from bcrit.tuner.session import Stopped
from bcrit.tuner.stages.landscape import Winners, difference, winners
from bcrit.tuner.stages.landscape import landscape as measured
from bcrit.tuner.stages.measure import Options, flat
from bcrit.tuner.training.settings import Settings
from tests.analysis.folders import Made, write_run
from tests.analysis.folders import experiment as toy
from tests.tuner.stages.small import HERE, Blobs, InProcess, experiment, filled

QUICK = Options(seeds=2, eps=(1e-3,), subspace=3, examples=48, iterations=3)
WARM = replace(QUICK, warm_starts=2)


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(complete, tmp_path / "run")
    return RunFolder.at(tmp_path / "run")


def landscape(folder: RunFolder, options: Options, watch: Callable[[str], None] = lambda line: None) -> Landscape:
    return measured(folder, options, InProcess(folder), watch)


def test_a_complete_run_has_every_number(folder: RunFolder) -> None:
    lines: list[str] = []
    found = landscape(folder, QUICK, lines.append)
    kinds = [(n.batch_size, n.tuned, n.number) for n in found.networks]
    assert kinds == [(4, True, 0), (4, True, 1), (16, True, 0), (16, True, 1), (16, False, 0), (16, False, 1)]
    assert found.notes == () and (found.n_examples, found.n_training_set, found.n_validation) == (48, 64, 32)
    assert found.boxes == [(1e-3, None), (1e-3, 3)] and len(found.paths) == 4
    for network in found.networks:
        assert network.same_curve is (True if network.tuned else None) and network.problem is None
        assert folder.has(network.checkpoint) and network.n_weights == 17
        assert None not in (network.train_loss, network.top_eigenvalue, network.trace, network.weight_distance)
        assert network.metrics["val_loss"] == network.metric and set(network.metrics) == {"val_loss", "val_accuracy"}
    assert lines[0].startswith("1 of 6: batch size 4, winner, seed 1, ") and lines[-1].startswith("paths between")


def weights(folder: RunFolder, made: Network) -> dict[str, torch.Tensor]:
    found = kept(folder, Path(made.checkpoint).stem)
    assert found is not None
    return found


def test_the_weights_are_those_of_a_run_to_the_step_at_the_target(folder: RunFolder) -> None:
    for network in landscape(folder, QUICK).networks[:3:2]:
        row = next(row for row in folder.read(TRIALS).to_pylist() if row["trial_id"] == network.trial_id)
        run = Blobs().begin(Settings(network.batch_size, network.seed, "sgd", {"lr": row["lr"]}))
        start = flat(run.model)
        run.train(network.steps)
        assert all(torch.equal(a, run.model.state_dict()[name]) for name, a in weights(folder, network).items())
        assert network.weight_distance == pytest.approx(float((flat(run.model) - start).norm()), rel=1e-6)
        assert network.weight_norm == pytest.approx(float(flat(run.model).norm()), rel=1e-6)


def test_a_target_of_averaged_weights_means_the_average(tmp_path: Path) -> None:
    averaged = experiment(target="val_loss_ema < 0.3", space={"lr": 0.3, "ema_decay": 0.9})
    folder = filled(tmp_path / "run", averaged)
    network = landscape(folder, QUICK).networks[0]
    run = Blobs().begin(Settings(network.batch_size, network.seed, "sgd", {"lr": 0.3, "ema_decay": 0.9}))
    run.train(network.steps)
    assert run.average is not None
    found = weights(folder, network)
    assert all(torch.equal(found[name], weight) for name, weight in run.average.state_dict().items())
    assert not all(torch.equal(found[name], weight) for name, weight in run.model.state_dict().items())


def flipped(content: bytes) -> bytes:
    """One bit of one weight is another."""
    weight = next(iter(torch.load(io.BytesIO(content), weights_only=True)["weights"].values()))
    place = content.index(weight.numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_only_what_is_missing_is_trained(folder: RunFolder) -> None:
    """Stopped, then gone on with; then with weights that are lost, cut off, damaged, and another trial's."""
    first = InProcess(folder, at_most=4)
    with pytest.raises(Stopped):
        measured(folder, QUICK, first)
    second = InProcess(folder)
    found = measured(folder, QUICK, second)
    assert (len(first.trained), len(second.trained)) == (4, 2)
    third = InProcess(folder)
    assert measured(folder, QUICK, third) == found and third.trained == []
    files = [Path(folder.path(network.checkpoint)) for network in found.networks]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[2].write_bytes(flipped(files[2].read_bytes()))
    files[3].write_bytes(files[4].read_bytes())
    fourth = InProcess(folder)
    assert measured(folder, QUICK, fourth) == found
    assert [proposal.trial_id for proposal in fourth.trained] == [path.stem for path in files[:4]]
    names = folder.read(TRIALS).column("trial_id").to_pylist()
    assert len(names) == len(set(names))


def test_a_run_that_failed_is_tried_again_and_leaves_one_row(folder: RunFolder) -> None:
    found = landscape(folder, QUICK)
    failed = Path(found.networks[2].checkpoint).stem
    table = folder.read(TRIALS)
    outcomes = [
        "failed" if name == failed else outcome
        for name, outcome in zip(table["trial_id"].to_pylist(), table["outcome"].to_pylist(), strict=True)
    ]
    place, parts = table.column_names.index("outcome"), folder.parts(TRIALS)
    for part in parts[1:]:
        Path(folder.path(f"{part}")).unlink()
    folder.write_table(f"{parts[0]}", table.set_column(place, "outcome", [outcomes]))
    again = InProcess(folder)
    assert measured(folder, QUICK, again) == found
    assert [proposal.trial_id for proposal in again.trained] == [failed]
    assert folder.read(TRIALS).column("trial_id").to_pylist().count(failed) == 1


def test_the_study_is_what_it_was(folder: RunFolder) -> None:
    before = analysed(folder).to_json()
    landscape(folder, WARM)
    stages = set(folder.read(TRIALS).column("stage").to_pylist())
    assert stages == {"search", "confirm", "landscape", "warm_start"}
    assert analysed(folder).to_json() == before


def test_the_difference_of_curves_is_the_largest_relative_one() -> None:
    assert difference({0: 1.0, 5: math.nan}, {0: 1.0, 5: math.nan}) == 0
    assert difference({0: 1.0, 5: 0.5, 6: 9.0}, {0: 1.0, 5: 0.4}) == pytest.approx(0.25)
    assert difference({0: math.nan}, {0: 1.0}) == math.inf
    assert difference({1: 1.0}, {0: 1.0}) == math.inf


def test_warm_starts_change_nothing_of_the_networks(folder: RunFolder) -> None:
    plain, warm = landscape(folder, QUICK), landscape(folder, WARM)
    assert plain.warm_starts is None and warm.warm_starts is not None
    assert replace(warm, warm_starts=None) == plain and len(warm.warm_starts.states) == 12
    assert landscape(folder, WARM) == warm


def test_what_is_stored_is_what_was_found(folder: RunFolder) -> None:
    assert folder.read_result(LANDSCAPE, Landscape) is None
    found = landscape(folder, QUICK)
    folder.write_result(LANDSCAPE, found)
    assert folder.read_result(LANDSCAPE, Landscape) == found


def test_a_record_of_another_machine_is_noticed(folder: RunFolder) -> None:
    table = folder.read(MEASUREMENTS)
    column = table.column_names.index("val_loss")
    other = table.set_column(column, "val_loss", pc.multiply(table["val_loss"], 1.01))
    [part] = folder.parts(MEASUREMENTS)
    folder.write_table(f"{part}", other)
    found = landscape(folder, QUICK).of(4, True)[0]
    assert found.same_curve is False and found.curve_difference == pytest.approx(0.01 / 1.01)


def test_runs_that_trained_beyond_the_target_are_repeated_up_to_it(tmp_path: Path) -> None:
    beyond = {"points": 1, "seeds": 1, "horizon": 2, "beyond_target": True}
    found = landscape(filled(tmp_path / "run", experiment(confirm=beyond)), QUICK)
    tuned = [network for network in found.networks if network.tuned]
    assert tuned and all(network.same_curve for network in tuned)
    assert all(network.recorded_steps is not None and network.steps < network.recorded_steps for network in tuned)


def test_an_unfinished_run_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", experiment(), at_most=7)  # six search trials, then the first study's first seed
    found = landscape(folder, QUICK)
    assert {n.batch_size for n in found.networks} == {4}
    assert "batch size 16 is left out: its winner was not run again on fresh seeds" in found.notes
    assert any("the run is not complete" in note for note in found.notes)
    assert found.paths == () and any("there are no paths" in note for note in found.notes)
    found = landscape(folder, WARM)
    assert found.warm_starts is None
    assert "there are no warm starts: they need networks of two batch sizes" in found.notes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"target": "val_loss < 0.0001"}, "no study has a confirmed winner: .*did not reach the target"),
        ({"confirm": {"seeds": 0}}, "no study has a confirmed winner: .*not run again on fresh seeds"),
        (
            {"workload": "noisy_quadratic", "target": "risk < 3", "space": {"lr": "log from 0.05 to 0.5"}},
            "which only a SupervisedWorkload gives, but 'noisy_quadratic' is none",
        ),
        ({"execution": {"sharded": True}}, "which 'execution.sharded' divides; run the experiment without it"),
        ({"workload": f"{HERE}:Unsteady"}, "random in evaluation mode too"),
    ],
    ids=["unreached", "unconfirmed", "another loop", "divided", "random loss"],
)
def test_a_run_without_a_landscape_says_why(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    folder = filled(tmp_path / "run", experiment(**more))
    with pytest.raises(InputError, match=message):
        landscape(folder, QUICK)


def test_a_workload_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", toy([4, 8]), {"t": Made(4, [(0, 2.0), (5, 0.5)])})
    with pytest.raises(InputError, match="there is no workload 'toy'"):
        landscape(folder, QUICK)


def test_an_empty_run_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    folder.write_experiment(experiment())
    with pytest.raises(InputError, match="no finished trial yet"):
        landscape(folder, QUICK)


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
