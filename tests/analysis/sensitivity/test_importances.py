from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pytest

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.optimum.near_optimal import NearOptimal
from bcrit.analysis.sensitivity import importances as module
from bcrit.analysis.sensitivity.importances import FEWEST, Importances, importances
from bcrit.search_spaces.target import Target
from tests.analysis.optimum.surface import LR, PLANE, bowl, one, searched, spec

TARGET = Target.model_validate("loss < 1")


def study(
    space: Mapping[str, object], trials: int = 60, others: float = 0.0, early: bool = False, seed: int = 0
) -> NearOptimal:
    experiment = spec(space, (64,))
    rng = np.random.default_rng(seed)
    table = searched(
        experiment, bowl(lambda b: 0.1, others), rng, noise=0.03, adaptive=early, early=early, trials=trials
    )
    return one(table, experiment)


def total(found: Importances) -> float:
    return sum(map(share, found.by_name.values()))


def share(found: Estimate) -> float:
    assert found.value is not None and found.holds(found.value)
    return found.value


def test_the_only_hyperparameter_that_matters_has_nearly_all_importance() -> None:
    space: dict[str, object] = {**LR, "other": "linear from 0 to 1", "flavour": "choice of a, b"}
    found = [importances(study(space, seed=seed), TARGET) for seed in range(3)]
    assert np.mean([share(each.by_name["lr"]) for each in found]) > 0.95
    for each in found:
        assert next(iter(each.by_name)) == "lr" and share(each.by_name["lr"]) > 0.85 and total(each) == pytest.approx(1)


def test_with_momentum_the_effective_learning_rate_stands_for_the_learning_rate() -> None:
    found = importances(study(PLANE), TARGET)
    assert list(found.by_name) == ["effective_lr", "momentum"]
    assert share(found.by_name["effective_lr"]) > 0.8


def test_points_that_did_not_reach_are_ranked_and_count() -> None:
    found = importances(study({**LR, "other": "linear from 0 to 1"}, early=True), TARGET)
    assert found.n == 60 and share(found.by_name["lr"]) > 0.5


def test_conditional_hyperparameters_are_left_out_and_named() -> None:
    schedule = {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}}
    found = importances(study({**LR, "schedule": schedule}), TARGET)
    assert set(found.by_name) == {"lr", "schedule"} and found.left_out == ("end_factor",)


def test_too_few_points_or_one_hyperparameter_give_none_and_say_why() -> None:
    few = importances(study(PLANE, trials=FEWEST - 1), TARGET)
    assert few.by_name == {} and few.why_not is not None and "30 points" in few.why_not
    single = importances(study(LR), TARGET)
    assert single.by_name == {} and single.why_not is not None and "fewer than two" in single.why_not


def test_optuna_is_left_as_talkative_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    importances(study(PLANE), TARGET)
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr().err == ""


def test_the_small_forest_agrees_with_optunas_own_at_a_fifteenth_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    space = {**PLANE, "other": "linear from 0 to 1", "more": "linear from 0 to 1"}
    experiment, near = spec(space, (64,)), bowl(lambda b: 0.1, 0.6, 0.15)
    trials = searched(
        experiment, lambda b, p: near(b, p) * (1 + p["other"]), rng, noise=0.15, adaptive=False, early=False, trials=400
    )
    found = one(trials, experiment)
    columns, distributions = module._columns(found)
    values = module._values(found, TARGET)
    chosen = module._chosen(np.arange(len(values)), values)
    given = (columns.iloc[chosen], distributions, values[chosen], 0)
    module._fanova(*given)  # the first call loads Optuna's forest

    def timed() -> tuple[dict[str, float], float]:
        start = time.process_time()
        return module._fanova(*given), time.process_time() - start

    small, seconds = timed()
    monkeypatch.setattr(module, "_TREES", 64)
    monkeypatch.setattr(module, "_DEPTH", 64)
    large, long = timed()
    assert {name: small[name] for name in large} == pytest.approx(large, abs=0.06)
    assert seconds < long / 15
