"""The landscape of whole runs: complete, unfinished, without winners, and such as cannot be measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from bcrit.analysis.questions.landscape.result import Landscape
from bcrit.analysis.records.run_folder import LANDSCAPE, RunFolder
from bcrit.analysis.records.stored import read_stored, write_stored
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.landscape.landscape import landscape
from bcrit.tuner.landscape.measure import Options
from tests.analysis.folders import Made, write_run
from tests.analysis.folders import experiment as toy
from tests.tuner.landscape.small import HERE, experiment, filled

QUICK = Options(seeds=2, eps=(1e-3,), subspace=3, examples=48, iterations=3)
WARM = replace(QUICK, warm_starts=2)


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(complete, tmp_path / "run")
    return RunFolder.at(tmp_path / "run")


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
    assert lines[0] == "1 of 6: batch size 4, winner, seed 1" and lines[-1].startswith("paths between")


def test_a_second_call_trains_nothing_and_finds_the_same(folder: RunFolder) -> None:
    first = landscape(folder, QUICK)
    lines: list[str] = []
    assert landscape(folder, QUICK, lines.append) == first
    assert sum("read from" in line for line in lines) == 6 and not any("trained" in line for line in lines)


def test_warm_starts_change_nothing_of_the_networks(folder: RunFolder) -> None:
    plain, warm = landscape(folder, QUICK), landscape(folder, WARM)
    assert plain.warm_starts is None and warm.warm_starts is not None
    assert replace(warm, warm_starts=None) == plain and len(warm.warm_starts.states) == 12
    assert landscape(folder, WARM) == warm


def test_what_is_stored_is_what_was_found(folder: RunFolder) -> None:
    assert read_stored(folder, LANDSCAPE, Landscape) is None
    found = landscape(folder, QUICK)
    write_stored(folder, LANDSCAPE, found)
    assert read_stored(folder, LANDSCAPE, Landscape) == found


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
        ({"workload": f"{HERE}:Unsteady"}, "random in evaluation mode too"),
    ],
    ids=["unreached", "unconfirmed", "another loop", "random loss"],
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
