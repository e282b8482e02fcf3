import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.optimum import space as module
from bcrit.analysis.optimum.near_optimal import NearOptimal
from bcrit.analysis.optimum.space import FEWEST_POINTS, Importances, embed, importances, near_optimal_share
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.target import Target
from tests.analysis.optimum.surface import LR, PLANE, Steps, bowl, large_study, one, searched, spec
from tests.analysis.report import runs

BOWL = bowl(lambda batch_size: 0.1, others=0.3, curvature=0.15)
LINE = bowl(lambda batch_size: 0.1, curvature=0.15)


def true_share(experiment: Experiment, steps: Steps, found: NearOptimal) -> float:
    rng = np.random.default_rng(9)
    points = [experiment.space.sample(rng) for _ in range(3000)]
    return float(np.mean([steps(found.batch_size, point) <= found.limit for point in points]))


def study(space: Mapping[str, Any], steps: Steps, seed: int, **more: Any) -> tuple[Experiment, NearOptimal]:
    experiment = spec(space, (64,))
    trials = searched(experiment, steps, np.random.default_rng(seed), **more)
    return experiment, one(trials, experiment)


@pytest.mark.parametrize(("space", "steps", "off"), [(LR, LINE, 0.03), (PLANE, BOWL, 0.06)], ids=["line", "plane"])
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_share_of_a_known_surface_comes_out(
    space: dict[str, str], steps: Steps, off: float, adaptive: bool
) -> None:
    errors = []
    for seed in range(3):
        experiment, found = study(space, steps, seed, adaptive=adaptive, early=False, trials=60)
        share = near_optimal_share(found)
        assert share.value is not None
        errors.append(share.value - true_share(experiment, steps, found))
    assert np.mean(errors) == pytest.approx(0, abs=off)


def test_the_interval_holds_the_truth_where_most_trials_were_cut_off() -> None:
    held = 0
    for seed in range(4):
        experiment, found = study(PLANE, BOWL, seed, noise=0.05)
        share = near_optimal_share(found)
        assert found.counts[2] > found.counts[1] and sum(found.counts) == 40
        held += share.holds(true_share(experiment, BOWL, found))
    assert held >= 3


def test_nothing_reached_or_too_little_known_gives_no_share() -> None:
    for analysis in (runs.partly(()), runs.partly((8,))):
        assert near_optimal_share(analysis.sets.studies[0]) == Estimate(None, 0.0, 1.0)


def test_the_same_study_gives_the_same_share_and_any_share_lies_in_its_interval() -> None:
    _, found = study(PLANE, BOWL, 5)
    share = near_optimal_share(found)
    assert share == near_optimal_share(found)
    assert share.value is not None and share.low is not None and share.high is not None
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_14_000_trials_take_seconds_and_give_the_true_share() -> None:
    def steps(at: pd.DataFrame) -> Any:
        return 100 * (1 + 0.2 * (np.log(at["lr"] / 0.3) ** 2 + np.log((1 - at["momentum"]) / 0.1) ** 2))

    found = large_study(0, steps).sets.studies[0]
    began = time.process_time()
    share = near_optimal_share(found)
    assert time.process_time() - began < 4
    within = (found.limit / 100 - 1) / 0.2
    assert share.value == pytest.approx(math.pi * within / (math.log(1000) * math.log(100)), abs=0.01)


def test_a_thousand_studies_take_seconds() -> None:
    _, found = study(PLANE, BOWL, 5, trials=60)
    began = time.process_time()
    for _ in range(20):
        near_optimal_share(found)
    assert (time.process_time() - began) / 20 < 0.02


SCHEDULED = {
    **LR,
    "schedule": {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}},
}


def test_points_and_draws_share_a_cube_in_which_an_absent_hyperparameter_stands_in_the_middle() -> None:
    experiment = spec(SCHEDULED, (8,))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    found = one(trials, experiment)
    points, draws = embed(found, 1024)
    assert points.shape == (40, 4) and draws.shape == (1024, 4)
    assert (points >= 0).all() and (points <= 1).all()
    constant = (found.points.rows["schedule"] == "constant").to_numpy()
    assert (points[constant, 1] == 0.5).all() and not (points[~constant, 1] == 0.5).any()
    drawn = Counter(map(tuple, np.round(draws[:, 2:], 3)))
    assert sorted(drawn.values()) == pytest.approx([512, 512], abs=8)
    assert draws[:, 0].mean() == pytest.approx(0.5, abs=0.01)


def test_two_options_are_as_far_apart_as_the_ends_of_a_box() -> None:
    experiment = spec({**LR, "flavour": "choice of sweet, sour, salty"}, (8,))
    trials = searched(experiment, bowl(lambda b: 0.5), np.random.default_rng(0))
    _, draws = embed(one(trials, experiment), 64)
    distances = {round(float(np.linalg.norm(a - b)), 6) for a in draws[:, 1:] for b in draws[:, 1:]}
    assert distances == {0.0, 1.0}


TARGET = Target.model_validate("loss < 1")


def even_study(
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
    found = [importances(even_study(space, seed=seed), TARGET) for seed in range(3)]
    assert np.mean([share(each.by_name["lr"]) for each in found]) > 0.95
    for each in found:
        assert next(iter(each.by_name)) == "lr" and share(each.by_name["lr"]) > 0.85 and total(each) == pytest.approx(1)


def test_with_momentum_the_effective_learning_rate_stands_for_the_learning_rate() -> None:
    found = importances(even_study(PLANE), TARGET)
    assert list(found.by_name) == ["effective_lr", "momentum"]
    assert share(found.by_name["effective_lr"]) > 0.8


def test_points_that_did_not_reach_are_ranked_and_count() -> None:
    found = importances(even_study({**LR, "other": "linear from 0 to 1"}, early=True), TARGET)
    assert found.n == 60 and share(found.by_name["lr"]) > 0.5


def test_conditional_hyperparameters_are_left_out_and_named() -> None:
    schedule = {"constant": None, "linear": {"end_factor": "linear from 0 to 1", "decay_fraction": 0.5}}
    found = importances(even_study({**LR, "schedule": schedule}), TARGET)
    assert set(found.by_name) == {"lr", "schedule"} and found.left_out == ("end_factor",)


def test_too_few_points_or_one_hyperparameter_give_none_and_say_why() -> None:
    few = importances(even_study(PLANE, trials=FEWEST_POINTS - 1), TARGET)
    assert few.by_name == {} and few.why_not is not None and "30 points" in few.why_not
    single = importances(even_study(LR), TARGET)
    assert single.by_name == {} and single.why_not is not None and "fewer than two" in single.why_not


def test_optuna_is_left_as_talkative_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    importances(even_study(PLANE), TARGET)
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr().err == ""


@pytest.mark.long
def test_the_small_forest_agrees_with_optunas_own_at_a_fraction_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    space = {**PLANE, "other": "linear from 0 to 1", "more": "linear from 0 to 1"}
    experiment, near = spec(space, (64,)), bowl(lambda b: 0.1, 0.6, 0.15)
    trials = searched(
        experiment, lambda b, p: near(b, p) * (1 + p["other"]), rng, noise=0.15, adaptive=False, early=False, trials=400
    )
    found = one(trials, experiment)
    columns, distributions = module._columns(found)
    values = module._costs(found, TARGET)
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
    assert seconds < long / 5  # 1/20 on an idle machine
