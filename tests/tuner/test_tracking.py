"""Trackers, with the real packages and without a network: what they have is what the ledger has, also after a kill."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.exchange import Reading
from bcrit.analysis.exchange.optuna_storage import import_optuna
from bcrit.analysis.exchange.wandb_folders import read_offline
from bcrit.analysis.exchange.write import write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import read_target
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.problems import InputError
from bcrit.tuner import trackers
from bcrit.tuner.check import check_experiment
from bcrit.tuner.ledger import Ledger, trial_row
from bcrit.tuner.protocol.proposal import Proposal, blank
from bcrit.tuner.tracking import Tracking
from tests.scripted import ExactHyperbola
from tests.simulate import scripted, train

NAMES = tuple(trackers.TRACKERS)
pytestmark = pytest.mark.filterwarnings("default")  # the packages warn of each other
# What a tracker has: by trial, the curve of the loss, and whether it has ended.
Found = dict[str, tuple[list[tuple[int, float]], bool]]


def experiment(*names: str) -> Experiment:
    return scripted(batch_sizes=[8, 64], tracking=list(names))


def proposals(spec: Experiment) -> list[Proposal]:
    """Two trials of each study that reach, and one that diverges."""
    points = [(size, lr) for size in spec.batch_sizes for lr in (0.02, 0.05)] + [(8, 9.0)]
    return [
        replace(blank(spec, size, Stage.SEARCH, number, 0), point={"lr": lr, "momentum": 0.9})
        for number, (size, lr) in enumerate(points)
    ]


def session(folder: RunFolder, spec: Experiment, *, trials: int, rows: int | None = None) -> list[str]:
    """Run so many trials into ledger and trackers, the last one only to so many rows: it runs again in the next one.

    What was noted comes back.
    """
    notes: list[str] = []
    ledger = Ledger.open(folder, spec)
    wanted = [proposal for proposal in proposals(spec)[:trials] if proposal.trial_id not in ledger.trial_ids]
    with Tracking(spec, folder, notes.append) as follow:
        for proposal in wanted:
            measured, ending = train(spec, ExactHyperbola(), proposal)
            cut = rows if proposal is wanted[-1] else None
            for piece in (measured[:7], measured[7:]) if cut is None else (measured[:cut],):
                ledger.measured(piece)
                follow(proposal, piece, None)
            if cut is None:
                row = trial_row(proposal, ending)
                ledger.finished(row)
                follow(proposal, [], row)
    ledger.close()
    return notes


def in_ledger(folder: RunFolder, spec: Experiment) -> Found:
    ledger = Ledger.open(folder, spec)
    return {name: (list(curve), name in ledger.trial_ids) for name, curve in ledger._curves.items()}


def in_optuna(place: Path) -> Found:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(place / "journal.log")))
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    trials = {of.user_attrs["trial_id"]: of for study in studies for of in study.trials}
    assert sum(len(study.trials) for study in studies) == len(trials)
    assert all(of.params["lr"] and of.user_attrs["stage"] == "search" for of in trials.values())
    assert all(of.value == max(of.intermediate_values) for of in trials.values() if of.state.name == "COMPLETE")
    return {name: (sorted(of.intermediate_values.items()), of.state.is_finished()) for name, of in trials.items()}


def in_tensorboard(place: Path) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Found = {}
    for path in (place / "events").glob("batch_size_*/*"):
        events = EventAccumulator(str(path))
        events.Reload()
        curve = [(of.step, of.value) for of in events.Scalars("loss")]
        found[path.name] = (curve, (place / "ended" / path.name).exists())
        hparams = [file.read_bytes() for file in path.glob("hparams/*")]
        assert bool(hparams) == found[path.name][1] and all(b"batch_size" in settings for settings in hparams)
    return found


def in_mlflow(place: Path) -> Found:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    of = client.get_experiment_by_name("experiment")
    assert of is not None
    found: Found = {}
    for run in client.search_runs([of.experiment_id]):
        history, name = client.get_metric_history(run.info.run_id, "loss"), run.info.run_name
        assert name not in found and run.data.params["lr"] and run.data.tags["batch_size"] in ("8", "64")
        assert run.data.tags["tracking_folder"] == str(place)
        found[name] = (sorted((each.step, each.value) for each in history), run.info.status != "RUNNING")
    return found


def in_wandb(place: Path) -> Found:
    """As our own reader of W&B's offline files has it, which `wandb sync` would send."""
    found: Found = {}
    for path in sorted(place.glob("wandb/offline-run-*/*.wandb")):
        run, name = read_offline(path), path.stem.split("-", 2)[-1]
        assert run.settings["lr"] and name not in found
        found[name] = ([(row["_step"], float(row["loss"])) for row in run.rows], (place / "ended" / name).exists())
    return found


def in_trackio(place: Path) -> Found:
    found: Found = {}
    (database,) = place.glob("*.db")
    with sqlite3.connect(database) as connection:
        for name, step, metrics in connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step"):
            curve, _ = found.setdefault(name, ([], (place / "ended" / name).exists()))
            curve.append((step, float(json.loads(metrics)["loss"])))
    connection.close()
    return found


READ: Mapping[str, Callable[[Path], Found]] = {
    "optuna": in_optuna,
    "tensorboard": in_tensorboard,
    "mlflow": in_mlflow,
    "wandb": in_wandb,
    "trackio": in_trackio,
}


def alike(found: Found, wanted: Found) -> None:
    assert found.keys() == wanted.keys()
    for name, (curve, ended) in wanted.items():
        steps, values = zip(*found[name][0], strict=True)
        assert found[name][1] is ended and list(steps) == [step for step, _ in curve], name
        # TensorBoard's are of 32 bits, and SQL has no infinity: MLflow stores the largest number.
        large = [min(value, 1e300) for value in values]
        assert large == pytest.approx([min(value, 1e300) for _, value in curve], rel=1e-6)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "run" / "tracking" / "trackio"))


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_has_what_the_ledger_has_and_nothing_twice_after_every_session(name: str, tmp_path: Path) -> None:
    folder, spec = RunFolder.at(tmp_path / "run"), experiment(name)
    folder.write_experiment(spec)
    for trials, rows in ((2, 5), (3, 4), (5, None)):  # a session that dies in the middle of a trial, and again
        assert session(folder, spec, trials=trials, rows=rows) == []
        alike(READ[name](tmp_path / "run" / "tracking" / name), in_ledger(folder, spec))
    with Tracking(spec, folder, print):  # complete: nothing to bring
        pass
    alike(READ[name](tmp_path / "run" / "tracking" / name), in_ledger(folder, spec))


def test_a_tracker_that_was_away_is_given_what_it_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spec = RunFolder.at(tmp_path / "run"), experiment("tensorboard", "optuna")
    folder.write_experiment(spec)
    with monkeypatch.context() as away:
        away.setattr("tensorboardX.SummaryWriter", None)
        (note,) = session(folder, spec, trials=2)
        assert note.startswith("tensorboard is not fed any more in this session: TypeError") and "run goes on" in note
    alike(in_optuna(tmp_path / "run" / "tracking" / "optuna"), in_ledger(folder, spec))
    assert session(folder, spec, trials=5) == []
    for name in spec.tracking or ():
        alike(READ[name](tmp_path / "run" / "tracking" / name), in_ledger(folder, spec))


def test_optunas_journal_is_read_back_as_the_run(tmp_path: Path) -> None:
    folder, spec = RunFolder.at(tmp_path / "run"), experiment("optuna")
    folder.write_experiment(spec)
    session(folder, spec, trials=5)
    journal = str(tmp_path / "run" / "tracking" / "optuna" / "journal.log")
    names = [f"{spec.name}, batch size {size}" for size in spec.batch_sizes]
    run = import_optuna(journal, Reading(target=read_target("loss < 1", "test")), study=names)
    write_run(run, RunFolder.at(tmp_path / "back"))
    steps = [
        sorted(trials[["batch_size", "steps_to_target"]].dropna().itertuples(index=False, name=None))
        for trials in (Run(folder).recorded, Run(tmp_path / "back").recorded)
    ]
    assert steps[0] == steps[1] and len(steps[0]) == 3


def test_a_package_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {**experiment("wandb", "optuna").to_dict(), "name": "mine"}
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(InputError, match="'tracking' names wandb, but the package 'wandb' is not installed; pip inst"):
        check_experiment(data, "mine.yaml", print)


def test_trackers_are_named_once_and_known() -> None:
    assert experiment("optuna", "optuna").tracking == ("optuna",) and experiment().tracking is None
    with pytest.raises(InputError, match="tracking"):
        experiment("neptune")
