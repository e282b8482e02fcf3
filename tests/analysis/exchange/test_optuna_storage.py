"""Optuna studies written by Optuna itself: a planted curve comes back, states are told, nothing is written."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from bcrit.analysis.exchange.optuna_storage import StudyChoice, import_optuna, searched
from bcrit.analysis.exchange.run import Notes
from bcrit.search_spaces.dimensions import Choice, Integer, Linear, Log
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.planted import B_CRIT, EVIL, READING, SIZES, evaluations, written

optuna.logging.set_verbosity(optuna.logging.ERROR)


def sqlite(path: Path) -> BaseStorage:
    return RDBStorage(f"sqlite:///{path}")


def journal(path: Path) -> BaseStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def objective(trial: optuna.Trial) -> float:
    """The best point of every batch size has lr 0.1; seeds repeat it."""
    size = trial.suggest_categorical("batch_size", SIZES)
    slower = 1 if trial.suggest_float("lr", 1e-3, 10, log=True) == 0.1 else 2
    trial.suggest_int("layers", 1, 4)
    value = math.nan
    for step, value in evaluations(size, slower):
        trial.report(value, step)
    return value


def study_of(storage: BaseStorage, name: str, points: list[dict[str, Any]]) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=name)
    for point in points:
        study.enqueue_trial(point)
    study.optimize(objective, n_trials=len(points))
    return study


GRID = [{"batch_size": b, "lr": lr, "layers": 2} for b in SIZES for lr in (0.01, 0.1, 1.0)]


@pytest.mark.parametrize(("make", "name"), [(sqlite, "s.db"), (journal, "s.log")], ids=["sqlite", "journal"])
def test_a_planted_curve_comes_back_and_the_storage_is_as_it_was(
    tmp_path: Path, make: Callable[[Path], BaseStorage], name: str
) -> None:
    study_of(make(tmp_path / name), "demo", GRID)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    runs = import_optuna(str(tmp_path / name), READING, StudyChoice())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    census, analysis = written(runs["demo"], tmp_path / "run")
    assert analysis.fit is not None and analysis.fit.to_json()["b_crit"] == pytest.approx(B_CRIT, rel=1e-6)
    assert (analysis.studies["lr"] == 0.1).all() and analysis.boundary.empty
    assert census.trials == len(GRID) and census.measurements == 5 * len(GRID)
    space = analysis.experiment.space_at(16).root
    assert isinstance(space["lr"], Log) and (space["lr"].low, space["lr"].high) == (1e-3, 10)
    assert isinstance(space["layers"], Integer) and "batch_size" not in space


def test_the_url_of_sqlite_is_the_same_as_its_path(tmp_path: Path) -> None:
    study_of(sqlite(tmp_path / "s.db"), "demo", GRID[:3])
    by_path = import_optuna(str(tmp_path / "s.db"), READING, StudyChoice())["demo"].trials()
    assert by_path.equals(import_optuna(f"sqlite:///{tmp_path / 's.db'}", READING, StudyChoice())["demo"].trials())


def test_states_become_outcomes(tmp_path: Path) -> None:
    storage = sqlite(tmp_path / "s.db")
    study = optuna.create_study(storage=storage, study_name="demo")

    def ending(trial: optuna.Trial) -> float:
        trial.suggest_categorical("bs", [32])
        how = trial.suggest_categorical("how", ["reached", "complete", "pruned", "failed", "nan", "late failure", None])
        trial.report(math.nan if how == "nan" else 0.05 if how in ("reached", "late failure") else 0.5, 10)
        if how == "pruned":
            raise optuna.TrialPruned
        if how in ("failed", "late failure"):
            raise RuntimeError("no luck")
        return math.nan if how == "nan" else 0.5

    for how in ("reached", "complete", "pruned", "failed", "nan", "late failure", None):
        study.enqueue_trial({"how": how})
    study.optimize(ending, n_trials=7, catch=(RuntimeError,))
    study.ask()  # running, without a report
    running = study.ask()
    running.suggest_categorical("bs", [32])
    running.report(0.7, 20)
    (run,) = import_optuna(str(tmp_path / "s.db"), READING, StudyChoice()).values()
    _, analysis = written(run, tmp_path / "run")
    trials = analysis.trials.set_index("trial_id")
    ends = ["reached", "exhausted", "pruned", "failed", "diverged", "reached", "exhausted", "exhausted"]
    assert trials["outcome"].tolist() == ends
    assert trials.loc["8", "message"] == "still running when it was read"
    assert trials["how"].tolist()[:7] == ["reached", "complete", "pruned", "failed", "nan", "late failure", "none"]
    assert any("without a batch size and without a report" in note for note in run.notes.sentences())


def test_one_study_a_batch_size_is_one_run(tmp_path: Path) -> None:
    storage = sqlite(tmp_path / "s.db")
    for size in SIZES:
        study = optuna.create_study(storage=storage, study_name=f"b{size}")
        study.set_user_attr("batch_size", size)

        def objective_of(trial: optuna.Trial, size: int = size) -> float:
            trial.suggest_float("lr", 0.1, 1)
            for step, value in evaluations(size):
                trial.report(value, step)
            return value

        study.optimize(objective_of, n_trials=2)
    with pytest.raises(InputError, match="the storage has 5 studies: b16, b32, b64, b128, b256; name one with --study"):
        import_optuna(str(tmp_path / "s.db"), READING, StudyChoice())
    runs = import_optuna(str(tmp_path / "s.db"), READING, StudyChoice(tuple(f"b{size}" for size in SIZES)))
    _, analysis = written(runs["s"], tmp_path / "run")
    assert analysis.fit is not None and analysis.fit.to_json()["b_crit"] == pytest.approx(B_CRIT, rel=1e-6)
    assert set(analysis.trials["trial_id"]) == {f"b{size}/{n}" for size in SIZES for n in (0, 1)}


def test_reports_that_count_epochs_are_turned_into_steps(tmp_path: Path) -> None:
    study = optuna.create_study(storage=sqlite(tmp_path / "s.db"), study_name="demo")

    def epochs(trial: optuna.Trial) -> float:
        trial.suggest_categorical("batch_size", [50])
        trial.report(0.5, 1)
        trial.report(0.05, 2)
        return 0.05

    study.optimize(epochs, n_trials=1)
    reading = replace(READING, examples_per_count=1000.0)
    (run,) = import_optuna(str(tmp_path / "s.db"), reading, StudyChoice()).values()
    _, analysis = written(run, tmp_path / "run")
    row = analysis.trials.iloc[0]
    assert (row["steps_to_target"], row["steps_to_target_low"]) == (40, 20)


def test_final_values_count_where_an_attribute_tells_their_step(tmp_path: Path) -> None:
    study = optuna.create_study(
        storage=sqlite(tmp_path / "s.db"), study_name="demo", directions=["maximize", "minimize"]
    )

    def both(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_categorical("batch_size", [64])
        trial.set_user_attr("updates", 30 + trial.number)
        return 0.9, 0.05

    study.optimize(both, n_trials=2)
    place = str(tmp_path / "s.db")
    with pytest.raises(InputError, match="study 'demo' has 2 objectives; choose one with --objective, from 0 to 1"):
        import_optuna(place, READING, StudyChoice())
    with pytest.raises(InputError, match="no trial reported a value .*--steps-attr; there are updates"):
        import_optuna(place, READING, StudyChoice(objective=1))
    with pytest.raises(InputError, match="is to maximize its objective, so the target reads 'val_loss > NUMBER'"):
        import_optuna(place, READING, StudyChoice(objective=0))
    with pytest.raises(InputError, match="lies from 0 to 1, not 2"):
        import_optuna(place, READING, StudyChoice(objective=2))
    (run,) = import_optuna(place, READING, StudyChoice(objective=1, steps_attr="updates")).values()
    _, analysis = written(run, tmp_path / "run")
    assert analysis.trials["steps_to_target"].tolist() == [30, 31]


def test_conditional_parameters_and_changed_distributions_do_not_break_the_space(tmp_path: Path) -> None:
    study = optuna.create_study(storage=sqlite(tmp_path / "s.db"), study_name="demo")

    def conditional(trial: optuna.Trial) -> float:
        trial.suggest_categorical("batch_size", [64])
        act = trial.suggest_categorical("act", ["relu", "tanh"])
        if act == "tanh":
            trial.suggest_float("gain", 0.5, 2)
        trial.suggest_categorical("width", [16, 64, 256])
        trial.suggest_float("wd", 0.1, 1 + trial.number)
        trial.suggest_categorical("flag", [True, False])
        trial.suggest_float(EVIL, 0, 1)
        trial.report(0.05, 10 + trial.number)
        return 0.05

    study.enqueue_trial({"act": "relu"})
    study.enqueue_trial({"act": "tanh"})
    study.optimize(conditional, n_trials=8)
    (run,) = import_optuna(str(tmp_path / "s.db"), READING, StudyChoice()).values()
    _, analysis = written(run, tmp_path / "run")
    space = analysis.experiment.space_at(64).root
    assert isinstance(space["act"], Choice) and isinstance(space["width"], Log) and "gain" not in space
    assert isinstance(space["wd"], Linear) and space["wd"].high == 8
    assert isinstance(space["flag"], Choice) and set(space["flag"].options) == {"true", "false"}
    assert EVIL in space


def nothing(path: Path) -> None:
    pass


def empty_storage(path: Path) -> None:
    sqlite(path)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")


def text(path: Path) -> None:
    path.write_text("hello")


def broken_journal(path: Path) -> None:
    path.write_text('{"op_code": 0, "worker_id": "x"}\n{"op_code"\n{}\n')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nothing, "there is no such file"),
        (empty_storage, "the storage has no study"),
        (other_database, "it cannot be read as an Optuna storage"),
        (text, "neither an SQLite database nor an Optuna journal"),
        (broken_journal, "it cannot be read as an Optuna storage"),
    ],
)
def test_what_is_no_storage_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "x")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        import_optuna(str(tmp_path / "x"), READING, StudyChoice())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_wrong_names_list_the_right_ones(tmp_path: Path) -> None:
    study = study_of(sqlite(tmp_path / "s.db"), "demo", GRID[:2])
    place = str(tmp_path / "s.db")
    with pytest.raises(InputError, match="there is no study 'dem'; the studies are demo"):
        import_optuna(place, READING, StudyChoice(("dem",)))
    with pytest.raises(
        InputError, match="no setting is named 'B'; name it with --batch-size-param; .*batch_size, lr, layers"
    ):
        import_optuna(place, replace(READING, batch_size="B"), StudyChoice())
    with pytest.raises(InputError, match="is to minimize its objective, so the target reads 'val_loss < NUMBER'"):
        import_optuna(place, replace(READING, target=Target.model_validate("val_loss > 0.1")), StudyChoice())
    study.set_metric_names(["error"])
    with pytest.raises(InputError, match="names its objective 'error', but the target's metric is 'val_loss'"):
        import_optuna(place, READING, StudyChoice())


@pytest.mark.parametrize(
    ("distributions", "expected"),
    [
        ([FloatDistribution(0.1, 1)], {"scale": "linear", "low": 0.1, "high": 1}),
        ([FloatDistribution(0.1, 1, log=True)], {"scale": "log", "low": 0.1, "high": 1}),
        ([FloatDistribution(0, 1, step=0.25)], {"scale": "linear", "low": 0, "high": 1}),
        ([IntDistribution(1, 8)], {"scale": "integer", "low": 1, "high": 8}),
        ([IntDistribution(1, 8, log=True)], {"scale": "log", "low": 1, "high": 8}),
        ([IntDistribution(1, 4), IntDistribution(3, 9)], {"scale": "integer", "low": 1, "high": 9}),
        ([CategoricalDistribution([16, 64, 256])], {"scale": "log", "low": 16, "high": 256}),
        ([CategoricalDistribution([0.0, 0.5])], {"scale": "linear", "low": 0, "high": 0.5}),
        ([CategoricalDistribution([3])], {"scale": "fixed", "value": 3}),
        ([CategoricalDistribution(["a", None])], {"scale": "choice", "options": {"a": {}, "none": {}}}),
        ([CategoricalDistribution([True, False])], {"scale": "choice", "options": {"true": {}, "false": {}}}),
        ([CategoricalDistribution([0.1, "auto"])], {"scale": "choice", "options": {"0.1": {}, "auto": {}}}),
        (
            [CategoricalDistribution(["a"]), CategoricalDistribution(["b"])],
            {"scale": "choice", "options": {"a": {}, "b": {}}},
        ),
    ],
)
def test_a_distribution_is_a_dimension(distributions: list[BaseDistribution], expected: dict[str, object]) -> None:
    found = searched([{"x": distribution} for distribution in distributions], Notes())["x"]
    assert {k: v for k, v in found.model_dump().items() if v is not None} == expected


def test_a_parameter_that_changed_its_kind_is_no_dimension() -> None:
    notes = Notes()
    kinds = [FloatDistribution(0.1, 1), FloatDistribution(0.1, 1, log=True), FloatDistribution(0.1, 1)]
    assert searched([{"x": kind} for kind in kinds], notes) == {}
    assert notes.sentences() == [
        "Parameters whose distribution changed its kind are left out of the search space (1; x)"
    ]
