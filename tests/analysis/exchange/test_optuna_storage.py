"""Optuna studies written by Optuna itself: a planted curve comes back, states are told, nothing is written."""

import math
import re
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

from bcrit.analysis.exchange.optuna_storage import import_optuna, searched
from bcrit.analysis.exchange.run import Notes
from bcrit.search_spaces.dimensions import Choice, Integer, Linear, Log
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.made import EVIL, READING, SIZES, b_crit, evaluations, written

optuna.logging.set_verbosity(optuna.logging.ERROR)
Objective = Callable[[optuna.Trial], float]


def sqlite(path: Path) -> BaseStorage:
    return RDBStorage(f"sqlite:///{path}")


def journal(path: Path) -> BaseStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def planted(trial: optuna.Trial) -> float:
    """The best point of every batch size has lr 0.1."""
    size = trial.suggest_categorical("batch_size", SIZES)
    slower = 1 if trial.suggest_float("lr", 1e-3, 10, log=True) == 0.1 else 2
    trial.suggest_int("layers", 1, 4)
    value = math.nan
    for step, value in evaluations(size, slower):
        trial.report(value, step)
    return value


def study_of(
    storage: BaseStorage, points: list[dict[str, Any]], objective: Objective = planted, name: str = "demo"
) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=name)
    for point in points:
        study.enqueue_trial(point)
    study.optimize(objective, n_trials=len(points), catch=(RuntimeError,))
    return study


GRID: list[dict[str, Any]] = [{"batch_size": b, "lr": lr, "layers": 2} for b in SIZES for lr in (0.01, 0.1, 1.0)]


def test_a_planted_curve_comes_back_and_the_storage_is_as_it_was(tmp_path: Path) -> None:
    study_of(sqlite(tmp_path / "s.db"), GRID)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = import_optuna(str(tmp_path / "s.db"), READING)
    assert run.trials().equals(import_optuna(f"sqlite:///{tmp_path / 's.db'}", READING).trials())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    census, analysis = written(run, tmp_path / "run")
    assert run.experiment.name == "demo" and b_crit(analysis) == pytest.approx(64.0, rel=1e-6)
    assert (analysis.studies["lr"] == 0.1).all() and analysis.boundary.empty
    assert census.trials == len(GRID) and census.measurements == 5 * len(GRID)
    space = analysis.experiment.space_at(16).root
    assert isinstance(space["lr"], Log) and (space["lr"].low, space["lr"].high) == (1e-3, 10)
    assert isinstance(space["layers"], Integer) and "batch_size" not in space


def test_states_become_outcomes(tmp_path: Path) -> None:
    hows = ["reached", "complete", "pruned", "failed", "nan", "late failure", None]

    def ending(trial: optuna.Trial) -> float:
        trial.suggest_categorical("bs", [32])
        how = trial.suggest_categorical("how", hows)
        trial.report(math.nan if how == "nan" else 0.05 if how in ("reached", "late failure") else 0.5, 10)
        if how == "pruned":
            raise optuna.TrialPruned
        if how in ("failed", "late failure"):
            raise RuntimeError("no luck")
        return math.nan if how == "nan" else 0.5

    study = study_of(journal(tmp_path / "s.log"), [{"how": how} for how in hows], ending)
    study.ask()  # running, without a report
    running = study.ask()
    running.suggest_categorical("bs", [32])
    running.report(0.7, 20)
    census, analysis = written(import_optuna(str(tmp_path / "s.log"), READING), tmp_path / "run")
    trials = analysis.trials.set_index("trial_id")
    ends = ["reached", "exhausted", "pruned", "failed", "diverged", "reached", "exhausted", "exhausted"]
    assert trials["outcome"].tolist() == ends and trials["how"].tolist()[:7] == [how or "none" for how in hows]
    assert trials.loc["8", "message"] == "still running when it was read"
    assert any("without a batch size and without a report" in note for note in census.notes)


def test_one_study_a_batch_size_is_one_run(tmp_path: Path) -> None:
    storage = journal(tmp_path / "s.log")
    for size in SIZES:

        def objective(trial: optuna.Trial, size: int = size) -> float:
            trial.suggest_float("lr", 0.1, 1)
            for step, value in evaluations(size):
                trial.report(value, step)
            return value

        study_of(storage, [{}, {}], objective, f"b{size}").set_user_attr("batch_size", size)
    place = str(tmp_path / "s.log")
    with pytest.raises(InputError, match="the storage has 5 studies: b16, b32, b64, b128, b256; name one with --study"):
        import_optuna(place, READING)
    with pytest.raises(InputError, match="there is no study 'dem'; the studies are b16"):
        import_optuna(place, READING, ["dem"])
    _, analysis = written(import_optuna(place, READING, [f"b{size}" for size in SIZES]), tmp_path / "run")
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6) and analysis.experiment.name == "s"
    assert set(analysis.trials["trial_id"]) == {f"b{size}/{n}" for size in SIZES for n in (0, 1)}


def test_a_study_whose_name_holds_a_comma_is_quoted_where_they_are_listed(tmp_path: Path) -> None:
    storage = journal(tmp_path / "s.log")
    for name in ("lr, 32", "plain"):
        study_of(storage, [{}], lambda trial: trial.suggest_float("lr", 0.1, 1), name)
    with pytest.raises(InputError, match="the storage has 2 studies: 'lr, 32', plain; name one with --study"):
        import_optuna(str(tmp_path / "s.log"), READING)


def test_final_values_count_where_an_attribute_tells_their_step(tmp_path: Path) -> None:
    storage = journal(tmp_path / "s.log")
    study = optuna.create_study(storage=storage, study_name="demo", directions=["maximize", "minimize"])

    def both(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_categorical("batch_size", [64])
        trial.set_user_attr("updates", 30 + trial.number)
        return 0.9, 0.05

    study.optimize(both, n_trials=2)
    place = str(tmp_path / "s.log")
    for objective, message in {
        None: "study 'demo' has 2 objectives; choose one with --objective, from 0 to 1",
        1: "no trial reported a value .*--steps-attr; there are updates",
        0: "is to maximize its objective, so the target reads 'val_loss > NUMBER'",
        2: "lies from 0 to 1, not 2",
    }.items():
        with pytest.raises(InputError, match=message):
            import_optuna(place, READING, objective=objective)
    run = import_optuna(place, READING, objective=1, steps_attr="updates")
    assert written(run, tmp_path / "run")[1].trials["steps_to_target"].tolist() == [30, 31]


def test_conditional_parameters_and_changed_distributions_do_not_break_the_space(tmp_path: Path) -> None:
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

    study_of(journal(tmp_path / "s.log"), [{"act": "relu"}, {"act": "tanh"}, *[{}] * 6], conditional)
    _, analysis = written(import_optuna(str(tmp_path / "s.log"), READING), tmp_path / "run")
    space = analysis.experiment.space_at(64).root
    assert isinstance(space["act"], Choice) and isinstance(space["width"], Log) and "gain" not in space
    assert isinstance(space["wd"], Linear) and space["wd"].high == 8
    assert isinstance(space["flag"], Choice) and set(space["flag"].options) == {"true", "false"}
    assert EVIL in space


def test_a_password_is_in_no_file_and_no_message(tmp_path: Path) -> None:
    study_of(sqlite(tmp_path / "s.db"), [{}] * 3)
    url = f"sqlite+pysqlite:///file:{tmp_path}/s.db?uri=true&password=hunter2"
    written(import_optuna(url, READING), tmp_path / "run")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files and not any(b"hunter2" in content for content in files.values())
    assert b"password=***" in (tmp_path / "run/experiment.yaml").read_bytes()
    for url in (
        "nosuch://me:hunter2@localhost/db",
        "postgresql://me:hun@ter2@localhost:1/db?x=1",
        "mysql://:hunter2@x",
        "postgresql://me:hun@t:ter2@localhost:1/db",
    ):
        with pytest.raises(InputError) as caught:
            import_optuna(url, READING)
        assert "ter2" not in str(caught.value) and ":***@" in str(caught.value)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")


def broken_journal(path: Path) -> None:
    path.write_text('{"op_code": 0, "worker_id": "x"}\n{"op_code"\n{}\n')


def step_of_words(path: Path) -> None:
    study_of(journal(path), GRID[:2])
    path.write_text(re.sub(r'"step":\d+', '"step":"x"', path.read_text(), count=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (step_of_words, "it cannot be read as an Optuna storage: '<' not supported between"),
        (sqlite, "the storage has no study"),
        (other_database, "it cannot be read as an Optuna storage"),
        (broken_journal, "it cannot be read as an Optuna storage"),
    ],
)
def test_what_is_no_storage_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    with pytest.raises(InputError, match=message):
        import_optuna(str(tmp_path / "x"), READING)
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_bytes() == before


def test_an_objective_that_is_not_the_target_is_refused(tmp_path: Path) -> None:
    study = study_of(journal(tmp_path / "s.log"), GRID[:2])
    study.set_metric_names(["error"])
    for target, message in {
        "error > 0.1": "is to minimize its objective, so the target reads 'error < NUMBER'",
        "val_loss < 0.1": "names its objective 'error', but the target's metric is 'val_loss'",
    }.items():
        with pytest.raises(InputError, match=message):
            import_optuna(str(tmp_path / "s.log"), replace(READING, target=Target.model_validate(target)))


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
        ([CategoricalDistribution([c]) for c in "ab"], {"scale": "choice", "options": {"a": {}, "b": {}}}),
    ],
)
def test_a_distribution_is_a_dimension(distributions: list[BaseDistribution], expected: dict[str, object]) -> None:
    found = searched([{"x": distribution} for distribution in distributions], Notes())["x"]
    assert {k: v for k, v in found.model_dump().items() if v is not None} == expected


def test_a_parameter_that_changed_its_kind_is_no_dimension() -> None:
    notes = Notes()
    kinds = [FloatDistribution(0.1, 1), FloatDistribution(0.1, 1, log=True), FloatDistribution(0.1, 1)]
    assert searched([{"x": kind} for kind in kinds], notes) == {}
    (said,) = notes.sentences()
    assert said == "Parameters whose distribution changed its kind are left out of the search space (1; x)"
